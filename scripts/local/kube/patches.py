"""Merge, JSON and strategic merge patches."""

from __future__ import annotations

import copy
from typing import Any

from .errors import ApiError
from .ownership import LIST_KEYS


def json_patch(value: Any, operations: Any) -> Any:
    """RFC 6902 without move and copy."""
    document = copy.deepcopy(value)
    try:
        for one in operations:
            _operation(document, one["op"], one["path"], one.get("value"))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        why = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", why) from None
    return document


def _operation(document: Any, name: str, path: str, value: Any) -> None:
    *above, last = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    parent = document
    for step in above:
        parent = parent[int(step)] if isinstance(parent, list) else parent[step]
    key: Any = last
    if isinstance(parent, list):
        key = len(parent) if last == "-" else int(last)
    if name not in ("add", "remove", "replace", "test"):
        raise ValueError(f"the operation {name!r} is not supported")
    if name != "add" and (parent[key] != value and name == "test"):
        raise ValueError(f"testing path {path} value failed")
    if isinstance(parent, list) and name != "test":
        parent[key : key + (name != "add")] = [] if name == "remove" else [value]
    elif name == "remove":
        del parent[key]
    elif name != "test":
        parent[key] = value


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    return strategic(value, patch, keyed=False)


def strategic(value: Any, patch: Any, name: str = "", keyed: bool = True) -> Any:
    """Strategic merge: lists with merge keys are maps; `$patch` and `$retainKeys` count."""
    if isinstance(patch, list) and keyed:
        return _list(value if isinstance(value, list) else [], patch, name)
    if not isinstance(patch, dict):
        return patch
    old = value if isinstance(value, dict) and patch.get("$patch") != "replace" else {}
    result = {key: sub for key, sub in old.items() if key in patch.get("$retainKeys", old)}
    for key, sub in patch.items():
        if sub is None or (isinstance(sub, dict) and sub.get("$patch") == "delete"):
            result.pop(key, None)
        elif not key.startswith("$"):
            result[key] = strategic(result.get(key), sub, key, keyed)
    return result


def _list(live: list[Any], patch: list[Any], name: str) -> list[Any]:
    if not all(isinstance(item, dict) for item in patch):
        return live + [item for item in patch if item not in live] if name == "finalizers" else patch
    key = LIST_KEYS.get(name, ("",))[0]
    if name == "ports":
        key = "containerPort" if any("containerPort" in item for item in patch) else "port"
    if not key or {"$patch": "replace"} in patch:
        return [item for item in patch if "$patch" not in item]
    items = {item.get(key): item for item in live}
    for item in patch:
        old = items.pop(item.get(key), {}) if item.get("$patch") == "delete" else items.get(item.get(key), {})
        if item.get("$patch") != "delete":
            items[item.get(key)] = strategic(old, item)
    return list(items.values())
