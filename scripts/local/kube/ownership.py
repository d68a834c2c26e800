"""Server-side apply for one manager: what it applied before and applies no more is removed.

Sets of fields are nested dictionaries in the FieldsV1 form: `{"f:spec": {"f:replicas": {}}}`.
Lists of known keys are maps (`k:{"name":"c"}`), all other lists are leaves.
"""

from __future__ import annotations

import json
from typing import Any

from .errors import ApiError
from .kinds import Kind, Object

Fields = dict[str, Any]

LIST_KEYS = {
    "containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",),
    "imagePullSecrets": ("name",), "volumeMounts": ("mountPath",), "volumeDevices": ("devicePath",),
    "conditions": ("type",), "ownerReferences": ("uid",), "hostAliases": ("ip",), "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}  # fmt: skip
ATOMIC = {"selector", "nodeSelector", "configMapKeyRef", "secretKeyRef", "fieldRef", "scaleTargetRef", "labelSelector"}
UNOWNED = {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"}


def key_of(name: str, item: Any) -> str:
    """The element of a list as a set names it; empty when the list is a leaf."""
    if not isinstance(item, dict):
        return "v:" + json.dumps(item) if name == "finalizers" else ""
    keys = LIST_KEYS.get(name, ())
    if name == "ports":
        keys = ("containerPort" if "containerPort" in item else "port", "protocol")
    values = {key: item.get(key, "TCP" if key == "protocol" else None) for key in keys}
    return "k:" + json.dumps(values, separators=(",", ":"), sort_keys=True) if keys else ""


def _is_map(name: str, value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and name not in ATOMIC


def _is_keyed(name: str, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(key_of(name, item) for item in value)


def _fields_of(value: Any, name: str = "") -> Fields:
    if _is_map(name, value):
        return {f"f:{key}": _fields_of(sub, key) for key, sub in value.items() if sub is not None}
    if _is_keyed(name, value):
        return {key_of(name, item): {".": {}, **_fields_of(item)} for item in value}
    return {}


def _union(first: Fields, second: Fields) -> Fields:
    both = {key: _union(sub, second[key]) for key, sub in first.items() if key in second}
    return {**first, **second, **both}


def _merge(live: Any, new: Any, name: str = "") -> Any:
    if _is_keyed(name, new) and isinstance(live, list):
        before = {key_of(name, item): item for item in live}
        mine = [_merge(before.pop(key_of(name, item), None), item) for item in new]
        return mine + list(before.values())
    if isinstance(new, dict):
        merged = dict(live) if isinstance(live, dict) and _is_map(name, new) else {}
        return merged | {key: _merge(merged.get(key), sub, key) for key, sub in new.items() if sub is not None}
    return [_merge(None, item) for item in new] if isinstance(new, list) else new


def _prune(value: Any, old: Fields, new: Fields, others: Fields, name: str = "") -> Any:
    """`value` without what `old` has and `new` has not, except what `others` own."""

    def kept(element: str) -> bool:
        return element not in old or element in new or element in others

    def inner(element: str, sub: Any, sub_name: str) -> Any:
        if not old.get(element):
            return sub
        return _prune(sub, old[element], new.get(element, {}), others.get(element, {}), sub_name)

    if isinstance(value, dict):
        return {key: inner(f"f:{key}", sub, key) for key, sub in value.items() if kept(f"f:{key}")}
    if _is_keyed(name, value):
        return [inner(key_of(name, item), item, "") for item in value if kept(key_of(name, item))]
    return value


def apply(kind: Kind, live: Object | None, config: Object, manager: str, sub: str, now: str) -> Object:
    """The merged object, with the manager's entry in managedFields."""
    if not manager:
        field = {"reason": "FieldValueRequired", "message": "Required value: is required for apply patch"}
        details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [{**field, "field": "fieldManager"}]}
        message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        raise ApiError(422, "Invalid", message, details)
    body = {key: value for key, value in config.items() if key not in ("apiVersion", "kind")}
    body["metadata"] = {key: value for key, value in config["metadata"].items() if key not in UNOWNED}
    owned = _fields_of({key: value for key, value in body.items() if value != {}})
    entries = ((live or {}).get("metadata") or {}).get("managedFields") or []
    mine = [one for one in entries if (one["manager"], one.get("subresource", "")) == (manager, sub)]
    rest = [one for one in entries if one not in mine]
    before: Fields = mine[0]["fieldsV1"] if mine else {}
    others: Fields = {}
    for one in rest:
        others = _union(others, one["fieldsV1"])
    entry = {"manager": manager, "operation": "Apply", "apiVersion": kind.api_version, "fieldsType": "FieldsV1",
             "time": mine[0]["time"] if mine and before == owned else now, "fieldsV1": owned}  # fmt: skip
    merged: Object = _prune(_merge(live, config), before, owned, others)
    entry |= {"subresource": sub} if sub else {}
    return {**merged, "metadata": {**merged["metadata"], "managedFields": [*rest, entry]}}
