"""Merge, JSON and strategic merge patches."""

from __future__ import annotations

import copy
from typing import Any

from .errors import ApiError, bad_request
from .ownership import LIST_KEYS


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, sub in patch.items():
        if sub is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), sub)
    return result


def json_patch(value: Any, operations: Any) -> Any:
    """RFC 6902."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    result = copy.deepcopy(value)
    for operation in operations:
        result = _operation(result, operation)
    return result


def _operation(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation.get("op"), operation.get("path", "")
    if name == "test":
        if _read(document, path) != operation.get("value"):
            raise ApiError(
                422, "Invalid", f"the server rejected our request due to an error in our request: test of {path}"
            )
        return document
    if name in ("move", "copy"):
        value = copy.deepcopy(_read(document, operation["from"]))
        if name == "move":
            _write(document, operation["from"], "remove", None)
        _write(document, path, "add", value)
        return document
    if not path:
        return operation.get("value")
    _write(document, path, str(name), operation.get("value"))
    return document


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _read(document: Any, path: str) -> Any:
    for step in _steps(path):
        try:
            document = document[int(step)] if isinstance(document, list) else document[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ApiError(422, "Invalid", f"the server rejected our request: no such path {path}") from None
    return document


def _write(document: Any, path: str, name: str, value: Any) -> None:
    parent, last = _read(document, path.rpartition("/")[0]), _steps(path)[-1]
    if name not in ("add", "remove", "replace"):
        raise bad_request(f"error decoding patch: unknown operation {name!r}")
    if name != "add":
        _read(document, path)
    if isinstance(parent, list):
        place = len(parent) if last == "-" else int(last)
        parent[place : place + (name != "add")] = [] if name == "remove" else [value]
    elif name == "remove":
        del parent[last]
    else:
        parent[last] = value


def strategic(value: Any, patch: Any, name: str = "") -> Any:
    """Strategic merge: lists with merge keys are maps; `$patch`, `$retainKeys` and `$deleteFromPrimitiveList` count."""
    if isinstance(patch, list):
        return _strategic_list(value if isinstance(value, list) else [], patch, name)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: sub for key, sub in patch.items() if key != "$patch"}
    result = dict(value) if isinstance(value, dict) else {}
    if "$retainKeys" in patch:
        result = {key: sub for key, sub in result.items() if key in patch["$retainKeys"]}
    for key, sub in patch.items():
        directive, _, target = key.partition("/")
        if directive == "$deleteFromPrimitiveList":
            result[target] = [item for item in result.get(target, []) if item not in sub]
        elif sub is None or (isinstance(sub, dict) and sub.get("$patch") == "delete"):
            result.pop(key, None)
        elif not directive.startswith("$"):
            result[key] = strategic(result.get(key), sub, key)
    return result


def _strategic_list(live: list[Any], patch: list[Any], name: str) -> list[Any]:
    key = _merge_key(name, patch)
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    if name == "finalizers":
        return live + [item for item in patch if item not in live]
    if not key:
        return patch
    items = {item.get(key): item for item in live}
    for item in patch:
        if item.get("$patch") == "delete":
            items.pop(item.get(key), None)
        else:
            items[item.get(key)] = strategic(items.get(item.get(key), {}), item)
    return list(items.values())


def _merge_key(name: str, patch: list[Any]) -> str:
    if not all(isinstance(item, dict) for item in patch):
        return ""
    if name == "ports":
        return "containerPort" if any("containerPort" in item for item in patch) else "port"
    return LIST_KEYS.get(name, ("",))[0]
