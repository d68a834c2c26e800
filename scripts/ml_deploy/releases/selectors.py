"""Selectors of pods: what they match, how the API is asked by them, and how they follow labels that change with a colour."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_deploy.releases.cluster import Object

Labels = Mapping[str, str]


def matches(selector: Object | None, labels: Labels) -> bool:
    """Whether a LabelSelector matches; an empty one matches everything, none at all nothing."""
    if selector is None:
        return False
    wanted: Labels = selector.get("matchLabels") or {}
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _meets(one, labels) for one in selector.get("matchExpressions") or []
    )


def selects(selector: Labels | None, labels: Labels) -> bool:
    """Whether a Service's selector matches labels; an empty one matches nothing."""
    return bool(selector) and all(labels.get(name) == value for name, value in (selector or {}).items())


def query(selector: Object) -> str:
    """A label selector as the API takes it in a query."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or []:
        key, operator, values = one.get("key"), one.get("operator"), ",".join(one.get("values") or [])
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(operator, f"!{key}")
        )
    return ",".join(parts)


def _meets(expression: Object, labels: Labels) -> bool:
    value, values = labels.get(str(expression.get("key"))), expression.get("values") or []
    operator = expression.get("operator")
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    return (value is not None) == (operator == "Exists")


def keys_of(selector: Object | None) -> set[str]:
    """The labels that a LabelSelector speaks of."""
    selector = selector or {}
    return {*(selector.get("matchLabels") or {}), *(str(e.get("key")) for e in selector.get("matchExpressions") or [])}


def narrowed(selector: Object, to: Labels) -> Object:
    """The selector with what it says of the labels in `to` replaced by those values."""
    mentioned = {name: value for name, value in to.items() if name in keys_of(selector)}
    kept = {name: value for name, value in (selector.get("matchLabels") or {}).items() if name not in mentioned}
    expressions = [e for e in selector.get("matchExpressions") or [] if e.get("key") not in mentioned]
    return _selector({**kept, **mentioned}, expressions)


def widened(selector: Object, to: Sequence[Labels]) -> Object:
    """The selector with the values that it wants of a label extended by those in each of `to`."""
    plain: dict[str, Any] = dict(selector.get("matchLabels") or {})
    expressions = [_extended(e, to) for e in selector.get("matchExpressions") or []]
    for name in [name for name in plain if any(name in labels for labels in to)]:
        wanted = {"key": name, "operator": "In", "values": [plain.pop(name)]}
        expressions.append(_extended(wanted, to))
    return _selector(plain, expressions)


def _extended(expression: Object, to: Sequence[Labels]) -> Object:
    name = str(expression.get("key"))
    if expression.get("operator") != "In":
        return expression
    values = [*expression["values"], *(labels[name] for labels in to if name in labels)]
    return {**expression, "values": list(dict.fromkeys(values))}


def _selector(labels: Mapping[str, Any], expressions: Collection[Object]) -> Object:
    parts = {"matchLabels": dict(labels), "matchExpressions": list(expressions)}
    return {name: part for name, part in parts.items() if part}
