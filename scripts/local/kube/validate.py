"""Refusals of what cannot be stored: names, required and immutable fields, and fields that no schema knows."""

from __future__ import annotations

import json
import re
from typing import Any

from .errors import ApiError, bad_request
from .kinds import DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, SERVICE, Kind, Object
from .matching import selector_matches

Causes = list[tuple[str, str]]

SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
ENDS = "and must start and end with an alphanumeric character (e.g."
WORDS = {
    SUBDOMAIN: f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {ENDS} 'example.com'",
    LABEL: f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {ENDS} 'my-name',  or '123-abc'",
    VALUE: f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {ENDS} 'MyValue',  or 'my_value',  or '12345'",
}
SCALARS = {"int": ((int, float), "numeric (int or float)"), "str": ((str,), "string"), "bool": ((bool,), "boolean"),
           "bytes": ((str,), "string"), "bytearray": ((str,), "string"),  # base64
           "float": ((int, float), "numeric (int or float)")}  # fmt: skip
NAMES = {dict: "map", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}


def problems(kind: Kind, obj: Object, old: Object | None) -> Causes:
    """Everything that a real server would answer 422 for, as far as the stand-in knows."""
    spec, metadata = obj.get("spec") or {}, obj["metadata"]
    strict = kind in (SERVICE, NAMESPACE)
    found = _text("metadata.name", metadata["name"], LABEL if strict else SUBDOMAIN, 63 if strict else 253)
    for value in (metadata.get("labels") or {}).values():
        found += _text("metadata.labels", value, VALUE, 63)
    if kind in (DEPLOYMENT, REPLICA_SET):
        found += _workload(spec)
    if kind is POD:
        found += _pod_spec(spec, "spec")
    if kind is SERVICE:
        found += _service(spec)
    return found + (_immutable(kind, obj, old) if old else [])


def _text(field: str, value: str, pattern: str, limit: int) -> Causes:
    if len(value) > limit:
        return [(field, f'Invalid value: "{value}": must be no more than {limit} characters')]
    if re.fullmatch(pattern, value):
        return []
    return [(field, f"Invalid value: \"{value}\": {WORDS[pattern]}, regex used for validation is '{pattern}')")]


def _workload(spec: Object) -> Causes:
    labels, strategy = (spec["template"].get("metadata") or {}).get("labels"), spec.get("strategy") or {}
    found: Causes = [] if spec.get("selector") else [("spec.selector", "Required value")]
    if not spec.get("selector") or not selector_matches(spec["selector"], labels):
        message = f"Invalid value: {_json(labels)}: `selector` does not match template `labels`"
        found.append(("spec.template.metadata.labels", message))
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        message = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
        found.append(("spec.strategy.rollingUpdate", message))
    return found + _pod_spec(spec["template"]["spec"], "spec.template.spec")


def _pod_spec(spec: Object, path: str) -> Causes:
    containers = spec.get("containers") or []
    found: Causes = [] if containers else [(f"{path}.containers", "Required value")]
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    for index, container in enumerate(containers):
        here = f"{path}.containers[{index}]"
        found += [(f"{here}.{field}", "Required value") for field in ("name", "image") if not container.get(field)]
        mounts = [mount.get("name") for mount in container.get("volumeMounts") or []]
        found += [(f"{here}.volumeMounts", f'Not found: "{name}"') for name in mounts if name not in volumes]
    return found


def _service(spec: Object) -> Causes:
    found: Causes = []
    if spec["type"] != "ExternalName" and spec.get("clusterIP") != "None" and not spec["ports"]:
        found.append(("spec.ports", "Required value"))
    for index, port in enumerate(spec["ports"]):
        if not 0 < (port.get("port") or 0) < 65536:
            message = f"Invalid value: {port.get('port')}: must be between 1 and 65535, inclusive"
            found.append((f"spec.ports[{index}].port", message))
        if len(spec["ports"]) > 1 and not port.get("name"):
            found.append((f"spec.ports[{index}].name", "Required value"))
    return found


def _immutable(kind: Kind, obj: Object, old: Object) -> Causes:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    if kind in (DEPLOYMENT, REPLICA_SET) and spec["selector"] != before["selector"]:
        return [("spec.selector", f"Invalid value: {_json(spec['selector'])}: field is immutable")]
    if kind is POD and _fixed(spec) != _fixed(before):
        message = "pod updates may not change fields other than `spec.containers[*].image`,`spec.activeDeadlineSeconds`"
        return [("spec", f"Forbidden: {message}")]
    if old.get("immutable") and obj.get("data") != old.get("data"):
        return [("data", "Forbidden: field is immutable when `immutable` is set")]
    return []


def _fixed(spec: Object) -> Object:
    """What of a pod's spec may never change."""
    containers = [{**one, "image": ""} for one in spec["containers"]]
    return {**spec, "containers": containers, "nodeName": "", "tolerations": [], "activeDeadlineSeconds": 0}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def check_schema(kind: Kind, obj: Object, applied: bool, strict: bool) -> list[str]:
    """Warnings for unknown fields; raises ApiError for wrong types, for unknown ones when strict or applied."""
    unknown: list[str] = []
    model = "CoreV1Event" if kind.name == "Event" else f"{kind.version.upper()}{kind.name}"
    here = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}'
    for path, message in _walk(obj, model, ""):
        if applied:
            which = f"({obj['metadata'].get('namespace', '')}/{obj['metadata'].get('name', '')}; {kind.api_version}, Kind={kind.name})"
            why = message or "field not declared in schema"
            raise ApiError(500, "", f"failed to create typed patch object {which}: {path}: {why}")
        if message:
            raise bad_request(f"{here}: {path.lstrip('.')}: {message}")
        unknown.append(f'unknown field "{path.lstrip(".")}"')
    if unknown and strict:
        raise bad_request(f"{here}: strict decoding error: {', '.join(unknown)}")
    return unknown


def _walk(value: Any, type_: str, path: str) -> Causes:
    """Unknown fields (with an empty message) and wrong types, by the models of the Kubernetes client."""
    if value is None or type_ in ("object", "datetime") or path.endswith((".limits", ".requests", ".sizeLimit")):
        return []  # quantities may be numbers
    shape, _, inner = type_.rstrip("]").partition("[")
    wanted: Any
    wanted, word = SCALARS.get(type_) or (((list,), "list") if shape.lower() == "list" else ((dict,), "map"))
    if not isinstance(value, wanted) or (isinstance(value, bool) and type_ != "bool"):
        return [(path, f"expected {word}, got {NAMES.get(type(value), 'null')}")]
    if type_ in SCALARS:
        return []
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _walk(item, inner, f"{path}[{index}]")]
    types = _fields(type_) if not inner else dict.fromkeys(value, inner.partition(", ")[2])
    known = [found for key, item in value.items() if key in types for found in _walk(item, types[key], f"{path}.{key}")]
    return known + [(f"{path}.{key}", "") for key in value if key not in types]


def _fields(model: str) -> dict[str, str]:
    from kubernetes import client  # half a second, when the first object is written

    known = getattr(client, model)
    return {name: known.openapi_types[attribute] for attribute, name in known.attribute_map.items()}
