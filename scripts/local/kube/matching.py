"""Label and field selectors, as queries and as objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .errors import bad_request
from .kinds import Object

Test = Callable[[Object], bool]
Requirement = tuple[str, str, list[str]]
_QUERY = re.compile(r"^(!?)\s*([^\s=!]+)\s*(?:(==?|!=)\s*(\S*)|(in|notin)\s*\(([^)]*)\))?$")


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement
    value = labels.get(key)
    tests = {"In": value in values, "NotIn": value not in values, "Exists": value is not None}
    return tests.get(operator, value is None)


def labels_match(selector: Mapping[str, str] | None, obj: Object) -> bool:
    """Whether a plain map selects an object; an empty or missing map selects nothing."""
    labels = obj["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in (selector or {}).items())


def selector_matches(selector: Object, labels: Mapping[str, str] | None) -> bool:
    """Whether a LabelSelector (matchLabels, matchExpressions) selects these labels."""
    needs = [(key, "In", [value]) for key, value in (selector.get("matchLabels") or {}).items()]
    needs += [(one["key"], one["operator"], one.get("values")) for one in selector.get("matchExpressions") or []]
    return all(_holds(need, labels or {}) for need in needs)


def label_query(text: str) -> Test:
    """A test for `labelSelector=`."""
    needs = [_requirement(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return lambda obj: all(_holds(need, obj["metadata"].get("labels") or {}) for need in needs)


def _requirement(part: str) -> Requirement:
    found = _QUERY.match(part)
    if not found:
        raise bad_request(f"unable to parse requirement: {part!r}")
    absent, key, sign, value, word, values = found.groups()
    if sign:
        return key, "NotIn" if sign == "!=" else "In", [value]
    if word:
        return key, "In" if word == "in" else "NotIn", [one.strip() for one in values.split(",")]
    return key, "DoesNotExist" if absent else "Exists", []


def field_query(text: str) -> Test:
    """A test for `fieldSelector=`: any dotted path, with = and !=."""
    parts = [re.split(r"(!=|==?)", part, maxsplit=1) for part in text.split(",") if part]
    return lambda obj: all((field(obj, path) == value) == (sign != "!=") for path, sign, value in parts)


def field(obj: Object, path: str) -> str:
    """The text at a dotted path; empty where there is none."""
    value: object = obj
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)
