"""Refusals of what cannot be stored: names, required and immutable fields, and fields that no schema knows."""

from __future__ import annotations

import json
import re
from typing import Any

from .errors import ApiError, bad_request
from .kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, SECRET, SERVICE, Kind, Object
from .matching import selector_matches

Causes = list[tuple[str, str]]

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_BAD_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end"
    f" with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_BAD_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an"
    f" alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_BAD_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    f" with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{_VALUE}')"
)


def problems(kind: Kind, obj: Object, old: Object | None) -> Causes:
    """Everything that a real server would answer 422 for, as far as the stand-in knows."""
    found = _metadata(kind, obj["metadata"])
    spec = obj.get("spec") or {}
    if kind in (DEPLOYMENT, REPLICA_SET):
        found += _workload(spec)
    if kind is POD:
        found += _pod_spec(spec, "spec")
    if kind is SERVICE:
        found += _service(spec)
    for field in _REQUIRED.get(kind, ()):
        found += [] if spec.get(field) is not None else [(f"spec.{field}", "Required value")]
    return found + (_immutable(kind, obj, old) if old else [])


_REQUIRED = {AUTOSCALER: ("maxReplicas", "scaleTargetRef")}


def _metadata(kind: Kind, metadata: Object) -> Causes:
    name, found = metadata["name"], []
    as_label = kind in (SERVICE, NAMESPACE)
    limit = 63 if as_label else 253
    if len(name) > limit:
        found.append(("metadata.name", f'Invalid value: "{name}": must be no more than {limit} characters'))
    if not re.fullmatch(_LABEL if as_label else _SUBDOMAIN, name):
        found.append(("metadata.name", f'Invalid value: "{name}": {_BAD_LABEL if as_label else _BAD_SUBDOMAIN}'))
    for value in (metadata.get("labels") or {}).values():
        if len(value) > 63:
            found.append(("metadata.labels", f'Invalid value: "{value}": must be no more than 63 characters'))
        elif not re.fullmatch(_VALUE, value):
            found.append(("metadata.labels", f'Invalid value: "{value}": {_BAD_VALUE}'))
    return found


def _workload(spec: Object) -> Causes:
    found: Causes = []
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    if not spec.get("selector"):
        found.append(("spec.selector", "Required value"))
    if not spec.get("selector") or not selector_matches(spec["selector"], labels):
        found.append(("spec.template.metadata.labels",
                      f"Invalid value: {_json(labels)}: `selector` does not match template `labels`"))  # fmt: skip
    if not isinstance(spec.get("replicas"), int) or spec["replicas"] < 0:
        found.append(("spec.replicas", f"Invalid value: {spec.get('replicas')}: must be greater than or equal to 0"))
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        found.append(("spec.strategy.rollingUpdate",
                      "Forbidden: may not be specified when strategy `type` is 'Recreate'"))  # fmt: skip
    return found + _pod_spec(template.get("spec") or {}, "spec.template.spec")


def _pod_spec(spec: Object, path: str) -> Causes:
    containers = spec.get("containers") or []
    found: Causes = [] if containers else [(f"{path}.containers", "Required value")]
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    names: set[str] = set()
    for index, container in enumerate(containers):
        here = f"{path}.containers[{index}]"
        for field in ("name", "image"):
            found += [] if container.get(field) else [(f"{here}.{field}", "Required value")]
        if container.get("name") in names:
            found.append((f"{here}.name", f'Duplicate value: "{container["name"]}"'))
        names.add(container.get("name", ""))
        for place, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in volumes:
                found.append((f"{here}.volumeMounts[{place}].name", f'Not found: "{mount.get("name")}"'))
    return found


def _service(spec: Object) -> Causes:
    ports = spec.get("ports") or []
    if spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None" and not ports:
        return [("spec.ports", "Required value")]
    found: Causes = []
    for index, port in enumerate(ports):
        if not isinstance(port.get("port"), int) or not 0 < port["port"] < 65536:
            found.append((f"spec.ports[{index}].port",
                          f"Invalid value: {port.get('port')}: must be between 1 and 65535, inclusive"))  # fmt: skip
        if len(ports) > 1 and not port.get("name"):
            found.append((f"spec.ports[{index}].name", "Required value"))
    return found


def _immutable(kind: Kind, obj: Object, old: Object) -> Causes:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    if kind in (DEPLOYMENT, REPLICA_SET) and spec.get("selector") != before.get("selector"):
        return [("spec.selector", f"Invalid value: {_json(spec.get('selector'))}: field is immutable")]
    if (
        kind is SERVICE
        and before.get("clusterIP")
        and spec.get("clusterIP") != before["clusterIP"]
        and (spec.get("type") != "ExternalName")
    ):
        return [("spec.clusterIPs[0]", f'Invalid value: ["{spec.get("clusterIP")}"]: may not change once set')]
    if kind is POD and _fixed(spec) != _fixed(before):
        return [("spec", "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
                         "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
                         "`spec.tolerations` (only additions to existing tolerations),"
                         "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")]  # fmt: skip
    if kind in (SECRET, CONFIG_MAP) and old.get("immutable") and obj.get("data") != old.get("data"):
        return [("data", "Forbidden: field is immutable when `immutable` is set")]
    if kind is SECRET and obj.get("type") != old.get("type"):
        return [("type", f'Invalid value: "{obj.get("type")}": field is immutable')]
    return []


def _fixed(spec: Object) -> Object:
    """What of a pod's spec may never change (the node's name is the scheduler's)."""
    containers = [{k: v for k, v in one.items() if k != "image"} for one in spec.get("containers") or []]
    return {k: v for k, v in spec.items() if k not in ("nodeName", "tolerations", "activeDeadlineSeconds")} | {
        "containers": containers
    }


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def check_schema(kind: Kind, obj: Object, applied: bool, strict: bool) -> list[str]:
    """Warnings for unknown fields; raises ApiError for wrong types, for unknown ones when strict or applied."""
    unknown: list[str] = []
    for path, message in _walk(obj, _model(kind), ""):
        if applied:
            where = f"({obj['metadata'].get('namespace', '')}/{obj['metadata'].get('name', '')}; {kind.api_version}, Kind={kind.name})"
            message = message or "field not declared in schema"
            raise ApiError(500, "", f"failed to create typed patch object {where}: {path}: {message}")
        if message:
            raise bad_request(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
                              f"{path.lstrip('.')}: {message}")  # fmt: skip
        unknown.append(f'unknown field "{path.lstrip(".")}"')
    if unknown and strict:
        raise bad_request(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
                          f"strict decoding error: {', '.join(unknown)}")  # fmt: skip
    return unknown


def _model(kind: Kind) -> str:
    return {"Event": "CoreV1Event"}.get(kind.name, f"{kind.version.upper()}{kind.name}")


def _walk(value: Any, type_: str, path: str) -> list[tuple[str, str]]:
    """Unknown fields (with an empty message) and wrong types, by the models of the Kubernetes client."""
    from kubernetes import client

    if value is None or type_ in ("object", "datetime") or path.endswith((".limits", ".requests", ".sizeLimit")):
        return []  # quantities may be numbers
    if inner := re.fullmatch(r"[Ll]ist\[(.*)\]", type_):
        if not isinstance(value, list):
            return [(path, f"expected list, got {_word(value)}")]
        return [found for index, item in enumerate(value) for found in _walk(item, inner[1], f"{path}[{index}]")]
    if inner := re.fullmatch(r"[Dd]ict\[str, (.*)\]", type_):
        if not isinstance(value, dict):
            return [(path, f"expected map, got {_word(value)}")]
        return [found for key, item in value.items() for found in _walk(item, inner[1], f"{path}.{key}")]
    type_ = "str" if type_ in ("bytes", "bytearray") else type_  # base64
    if type_ in _SCALARS:
        return [] if _is(value, type_) else [(path, f"expected {_SCALARS[type_]}, got {_word(value)}")]
    if not isinstance(value, dict):
        return [(path, f"expected map, got {_word(value)}")]
    model = getattr(client, type_)
    types = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    found = []
    for key, item in value.items():
        found += _walk(item, types[key], f"{path}.{key}") if key in types else [(f"{path}.{key}", "")]
    return found


_SCALARS = {
    "int": "numeric (int or float)", "float": "numeric (int or float)", "bool": "boolean",
    "str": "string", "bytes": "string",  # base64 in JSON
}  # fmt: skip


def _is(value: Any, type_: str) -> bool:
    if type_ in ("int", "float"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, bool if type_ == "bool" else str)


def _word(value: Any) -> str:
    words = {dict: "map", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return words.get(type(value), "null")
