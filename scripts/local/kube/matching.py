"""Label and field selectors, as queries and as objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .errors import bad_request
from .kinds import Object

Test = Callable[[Object], bool]
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")


def labels_match(selector: Mapping[str, object] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a plain map selects these labels; an empty or missing map selects nothing."""
    have = labels or {}
    return bool(selector) and all(have.get(key) == value for key, value in (selector or {}).items())


def selector_matches(selector: Object, labels: Mapping[str, str] | None) -> bool:
    """Whether a LabelSelector (matchLabels, matchExpressions) selects these labels."""
    have = labels or {}
    if not all(have.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(one, have) for one in selector.get("matchExpressions") or [])


def _expression(one: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(one["key"]), one.get("values") or []
    tests = {"In": value in values, "NotIn": value not in values, "Exists": value is not None}
    return tests.get(one["operator"], value is None)


def label_query(text: str) -> Test:
    """A test for `labelSelector=`."""
    tests = [_label_test(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(part):
        key, operator, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        return lambda labels: (labels.get(key) in values) == (operator == "in")
    if "!=" in part:
        key, _, value = part.partition("!=")
        return lambda labels: labels.get(key.strip()) != value.strip()
    if "=" in part:
        key, value = re.split("==?", part, maxsplit=1)
        return lambda labels: labels.get(key.strip()) == value.strip()
    if part.startswith("!"):
        return lambda labels: part[1:].strip() not in labels
    if " " in part:
        raise bad_request(f"unable to parse requirement: found {part!r}")
    return lambda labels: part in labels


def field_query(text: str) -> Test:
    """A test for `fieldSelector=`: any dotted path, with = and !=."""
    tests = [_field_test(part) for part in text.split(",") if part]
    return lambda obj: all(test(obj) for test in tests)


def _field_test(part: str) -> Test:
    path, operator, value = re.split(r"(!=|==?)", part, maxsplit=1)
    return lambda obj: (_field(obj, path) == value) == (operator != "!=")


def _field(obj: Object, path: str) -> str:
    value: object = obj
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)
