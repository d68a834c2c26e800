"""Server-side apply: who owns which fields, as sets in the FieldsV1 form, and merging by them.

A set is nested dictionaries: `{"f:spec": {"f:replicas": {}}}`; a leaf is `{}`. Lists of known
keys are maps (`k:{"name":"c"}`), all other lists are leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .errors import ApiError, conflicts
from .kinds import Kind, Object

Fields = dict[str, Any]

# Merge keys by the list's name; `ports` differ between containers and services.
LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",),
    "imagePullSecrets": ("name",), "volumeMounts": ("mountPath",), "volumeDevices": ("devicePath",),
    "conditions": ("type",), "ownerReferences": ("uid",), "hostAliases": ("ip",), "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "resizePolicy": ("resourceName",), "podIPs": ("ip",),
}  # fmt: skip
SETS = {"finalizers"}
ATOMIC = {"selector", "nodeSelector", "configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef", "scaleTargetRef",
          "labelSelector", "namespaceSelector", "claimRef", "targetRef"}  # fmt: skip
UNOWNED = {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
           "deletionTimestamp", "deletionGracePeriodSeconds"}  # fmt: skip


def key_of(name: str, item: Any) -> str:
    """The element of a list as a set names it; empty when the list is a leaf."""
    if name in SETS:
        return "v:" + json.dumps(item)
    if not isinstance(item, dict):
        return ""
    keys = LIST_KEYS.get(name, ())
    if name == "ports":
        keys = ("containerPort", "protocol") if "containerPort" in item else ("port", "protocol")
    if not keys:
        return ""
    values = {key: item.get(key, "TCP" if key == "protocol" else None) for key in keys}
    return "k:" + json.dumps(values, separators=(",", ":"), sort_keys=True)


def is_map(name: str, value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and name not in ATOMIC


def is_keyed(name: str, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(key_of(name, item) for item in value)


def fields_of(value: Any, name: str = "") -> Fields:
    """All fields of a value."""
    if is_map(name, value):
        return {f"f:{key}": fields_of(sub, key) for key, sub in value.items() if sub is not None}
    if is_keyed(name, value):
        return {key_of(name, item): _item(item) for item in value}
    return {}


def _item(item: Any) -> Fields:
    return {".": {}, **fields_of(item)} if isinstance(item, dict) else {}


def fields_of_object(obj: Object) -> Fields:
    """The fields of an object that a manager can own."""
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    body["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in UNOWNED}
    return fields_of({key: value for key, value in body.items() if value != {}})


def _child(value: Any, element: str, name: str) -> tuple[Any, str]:
    """What a set's element stands for in a value, and the name that its own children go by; None when missing."""
    if element.startswith("f:"):
        return (value.get(element[2:]) if isinstance(value, dict) else None), element[2:]
    items = value if isinstance(value, list) else []
    return next((item for item in items if key_of(name, item) == element), None), ""


def union(first: Fields, second: Fields) -> Fields:
    both = {key: union(sub, second[key]) for key, sub in first.items() if key in second}
    return {**first, **second, **both}


def difference(first: Fields, second: Fields) -> Fields:
    """The leaves of `first` that are not in `second`; emptied branches go."""
    left = {}
    for key, sub in first.items():
        if key not in second:
            left[key] = sub
        elif sub and second[key]:
            rest = difference(sub, second[key])
            if rest:
                left[key] = rest
    return left if set(left) != {"."} else {}


def common(first: Fields, second: Fields) -> Fields:
    """The leaves that are in both."""
    found: Fields = {}
    for key, sub in first.items():
        if key in second and key != ".":
            if not sub or not second[key]:
                found[key] = {}
            elif rest := common(sub, second[key]):
                found[key] = rest
    return found


def present(fields: Fields, value: Any, name: str = "") -> Fields:
    """What of a set still exists in a value."""
    left: Fields = {}
    for key, sub in fields.items():
        if key == ".":
            left[key] = {}
            continue
        child, child_name = _child(value, key, name)
        if child is None:
            continue
        rest = present(sub, child, child_name) if sub else {}
        if rest or not sub:
            left[key] = rest
    return left


def changed(old: Any, new: Any, name: str = "") -> Fields:
    """The fields of `new` that are not in `old` or differ from it; what went is not in it."""
    found: Fields = {}
    if is_map(name, new) and isinstance(old, dict):
        for key, sub in new.items():
            if key not in old or (old[key] != sub and not _mergeable(key, old[key], sub)):
                found[f"f:{key}"] = fields_of(sub, key)
            elif old[key] != sub and (rest := changed(old[key], sub, key)):
                found[f"f:{key}"] = rest
    elif is_keyed(name, new) and isinstance(old, list):
        before = {key_of(name, item): item for item in old}
        for item in new:
            element = key_of(name, item)
            if element not in before:
                found[element] = _item(item)
            elif rest := changed(before[element], item):
                found[element] = rest
    return found


def _mergeable(name: str, old: Any, new: Any) -> bool:
    return (is_map(name, old) and is_map(name, new)) or (is_keyed(name, old) and is_keyed(name, new))


def merge(live: Any, new: Any, name: str = "") -> Any:
    """`new` laid over `live`."""
    if is_map(name, new) and isinstance(live, dict):
        merged = dict(live)
        for key, sub in new.items():
            if sub is not None:
                merged[key] = merge(live.get(key), sub, key)
        return merged
    if is_keyed(name, new) and isinstance(live, list):
        before = {key_of(name, item): item for item in live}
        mine = [merge(before.pop(key_of(name, item), None), item) for item in new]
        return mine + list(before.values())
    if isinstance(new, dict):
        return {key: merge(None, sub, key) for key, sub in new.items() if sub is not None}
    return [merge(None, item) for item in new] if isinstance(new, list) else new


def prune(value: Any, old: Fields, new: Fields, others: Fields, name: str = "") -> Any:
    """`value` without what `old` has and `new` has not, except what `others` own."""
    gone: set[str] = set()
    replaced: dict[str, Any] = {}
    for element, sub in old.items():
        child, child_name = (None, "") if element == "." else _child(value, element, name)
        if child is None:
            continue
        if element not in new and element not in others:
            gone.add(element)
        elif sub:
            replaced[element] = prune(child, sub, new.get(element, {}), others.get(element, {}), child_name)
    if isinstance(value, dict):
        return {key: replaced.get(f"f:{key}", sub) for key, sub in value.items() if f"f:{key}" not in gone}
    if isinstance(value, list):
        return [replaced.get(key_of(name, item), item) for item in value if key_of(name, item) not in gone]
    return value


def paths(fields: Fields, before: str = "") -> Iterator[str]:
    """Leaves as `.spec.template.spec.containers[name="c"].image`."""
    for element, sub in fields.items():
        if element == ".":
            continue
        if element.startswith("f:"):
            here = f"{before}.{element[2:]}"
        elif element.startswith("k:"):
            keys = json.loads(element[2:])
            here = f"{before}[{','.join(f'{key}={json.dumps(value)}' for key, value in keys.items())}]"
        else:
            here = f"{before}[={element[2:]}]"
        yield from paths(sub, here) if sub and set(sub) != {"."} else [here]


def apply(
    kind: Kind, live: Object | None, config: Object, manager: str, sub: str, force: bool
) -> tuple[Object, Fields]:
    """Server-side apply: the merged object and what the manager now owns. Raises ApiError 409 on conflicts.

    With `force`, the caller's `record` takes the conflicting fields from their owners.
    """
    owned = fields_of_object(config)
    if live is None:
        return merge(None, config), owned
    entries = live["metadata"].get("managedFields") or []
    mine: Fields = next(
        (e["fieldsV1"] for e in entries if same_manager(e, manager, "Apply", kind.api_version, sub)), {}
    )
    rest = [e for e in entries if not same_manager(e, manager, "Apply", kind.api_version, sub)]
    merged: Object = merge(live, config)
    if not force:
        _refuse_conflicts(common(changed(live, merged), owned), rest)
    others: Fields = {}
    for entry in rest:
        others = union(others, entry["fieldsV1"])
    return prune(merged, mine, owned, others), owned


def _refuse_conflicts(touched: Fields, entries: list[Object]) -> None:
    causes = [(_owner(entry), path) for entry in entries for path in paths(common(touched, entry["fieldsV1"]))]
    if causes:
        raise conflicts(causes)


def _owner(entry: Object) -> str:
    how = "" if entry["operation"] == "Apply" else f" using {entry['apiVersion']}"
    sub = f' with subresource "{entry["subresource"]}"' if entry.get("subresource") else ""
    return f'"{entry["manager"]}"{how}{sub}'


def same_manager(entry: Object, manager: str, operation: str, api_version: str, sub: str) -> bool:
    this = (entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
    return this == (manager, operation, api_version, sub)


def record(
    kind: Kind, old: Object | None, new: Object, manager: str, sub: str, now: str, applied: Fields | None
) -> list[Object]:
    """The managedFields of `new`: what was applied or what this update changed is the manager's, the rest stays."""
    touched = changed({} if old is None else _body(old), _body(new))
    operation = "Update" if applied is None else "Apply"
    entries: list[Object] = []
    mine: Fields = {}
    since = now
    for entry in new["metadata"].get("managedFields") or []:
        if same_manager(entry, manager, operation, kind.api_version, sub):
            mine, since = entry["fieldsV1"], entry["time"]
            continue
        left = present(difference(entry["fieldsV1"], touched), new)
        if left:
            entries.append(entry | {"fieldsV1": left})
    owned = present(union(mine, touched), new) if applied is None else applied
    if owned:
        entry = {"manager": manager, "operation": operation, "apiVersion": kind.api_version,
                 "time": since if owned == mine and not touched else now,
                 "fieldsType": "FieldsV1", "fieldsV1": owned}  # fmt: skip
        entries.append(entry | ({"subresource": sub} if sub else {}))
    return entries


def _body(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in UNOWNED}
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    return body | ({"metadata": metadata} if metadata else {})


def refuse_foreign(manager: str) -> None:
    """Server-side apply needs a manager's name."""
    if not manager:
        message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        cause = {"reason": "FieldValueRequired", "message": "Required value: is required for apply patch"}
        details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause | {"field": "fieldManager"}]}
        raise ApiError(422, "Invalid", message, details)
