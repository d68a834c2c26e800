"""Merge and JSON patches."""

from __future__ import annotations

import copy
from typing import Any

from .errors import ApiError


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
    parent: Any = document
    key: Any = last
    for step in above:
        parent = parent[int(step)] if isinstance(parent, list) else parent[step]
    if isinstance(parent, list):
        key = len(parent) if last == "-" else int(last)
    old = None if name == "add" else parent[key]  # a KeyError for what is not there
    if name == "test" and old != value:
        raise ValueError(f"testing path {path} value failed")
    if name == "remove":
        del parent[key]
    elif name == "add" and isinstance(parent, list):
        parent.insert(key, value)
    elif name in ("add", "replace"):
        parent[key] = value
    elif name != "test":
        raise ValueError(f"the operation {name!r} is not supported")
