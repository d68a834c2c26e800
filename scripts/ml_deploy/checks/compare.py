"""Compares an answer with what was expected, value by value, and names every place that differs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

RTOL = 1e-6
ATOL = 1e-9
_SHOWN = 80
_MISSING = object()


@dataclass(frozen=True)
class Rules:
    """How exact an answer must be.

    Numbers agree as in `math.isclose(rel_tol=rtol, abs_tol=atol)`. Two whole numbers (labels, counts)
    must be equal unless `whole` says that the tolerances were meant for them too. Everything else is exact.
    `ignore` holds paths such as `$.took` or `$.items[*].id` whose presence and value do not matter.
    """

    rtol: float = RTOL
    atol: float = ATOL
    whole: bool = False
    ignore: tuple[str, ...] = ()


class Difference(NamedTuple):
    """A place where an answer is not as expected; `path` is its JSON path, `$` the whole."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def differences(expected: Any, got: Any, rules: Rules) -> list[Difference]:
    """Every place where `got` is not as expected; empty when all is well."""
    try:
        return list(_walk("$", expected, got, rules))
    except RecursionError:
        return [Difference("$", "nested too deeply to be compared")]


def shown(value: Any) -> str:
    """A value as JSON on one line, cut short."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return cut(text)


def cut(text: str, limit: int = _SHOWN) -> str:
    """Text from outside on one line: unprintable characters replaced, what is beyond `limit` left out and said so."""
    line = " ".join(text[: limit * 4].split())
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
    return line if len(line) <= limit and len(text) <= limit * 4 else f"{line[:limit]}… ({len(text)} characters)"


def _walk(path: str, expected: Any, got: Any, rules: Rules) -> Iterator[Difference]:
    if any(_same_path(pattern, path) for pattern in rules.ignore):
        return
    if isinstance(expected, dict) and isinstance(got, dict):
        yield from _objects(path, expected, got, rules)
    elif isinstance(expected, list) and isinstance(got, list):
        yield from _lists(path, expected, got, rules)
    else:
        yield from _values(path, expected, got, rules)


def _objects(path: str, expected: dict[str, Any], got: dict[str, Any], rules: Rules) -> Iterator[Difference]:
    for key in [*expected, *(key for key in got if key not in expected)]:
        yield from _walk(f"{path}{_key(key)}", expected.get(key, _MISSING), got.get(key, _MISSING), rules)


def _lists(path: str, expected: list[Any], got: list[Any], rules: Rules) -> Iterator[Difference]:
    if len(expected) != len(got):
        yield Difference(path, f"expected {_items(expected)}, got {_items(got)}")
        return
    for index, (left, right) in enumerate(zip(expected, got, strict=True)):
        yield from _walk(f"{path}[{index}]", left, right, rules)


def _values(path: str, expected: Any, got: Any, rules: Rules) -> Iterator[Difference]:
    if got is _MISSING:
        yield Difference(path, f"expected {shown(expected)}, but it is missing")
    elif expected is _MISSING:
        yield Difference(path, f"not expected, got {shown(got)}")
    elif _kind(expected) != _kind(got):
        yield Difference(path, f"expected {shown(expected)} ({_kind(expected)}), got {shown(got)} ({_kind(got)})")
    elif _kind(expected) == "number":
        yield from _numbers(path, expected, got, rules)
    elif expected != got:
        yield Difference(path, f"expected {shown(expected)}, got {shown(got)}")


def _numbers(path: str, expected: float, got: float, rules: Rules) -> Iterator[Difference]:
    if expected == got or (_nan(expected) and _nan(got)):
        return
    whole = isinstance(expected, int) and isinstance(got, int)
    if (rules.whole or not whole) and _close(expected, got, rules):
        return
    yield Difference(path, f"expected {shown(expected)}, got {shown(got)}{_off(expected, got)}")


def _close(expected: float, got: float, rules: Rules) -> bool:
    try:
        return math.isclose(expected, got, rel_tol=rules.rtol, abs_tol=rules.atol)
    except OverflowError:  # an integer that no float can hold
        return False


def _off(expected: float, got: float) -> str:
    try:
        off = abs(float(got) - float(expected))
    except OverflowError:
        return ""
    if not math.isfinite(off):
        return ""
    relative = f", {off / abs(expected):.2g} of it" if expected else ""
    return f" (off by {off:.3g}{relative})"


def _nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    kinds: dict[type, str] = {str: "string", list: "list", dict: "object"}
    return kinds.get(type(value), type(value).__name__)


def _items(values: list[Any]) -> str:
    return f"{len(values)} item{'' if len(values) == 1 else 's'} {shown(values)}"


def _key(key: str) -> str:
    return f".{key}" if re.fullmatch(r"[^\W\d][\w-]*", key) else f"[{json.dumps(cut(key), ensure_ascii=False)}]"


def _same_path(pattern: str, path: str) -> bool:
    if pattern == path:
        return True
    return "[*]" in pattern and bool(re.fullmatch(re.escape(pattern).replace(r"\[\*\]", r"\[\d+\]"), path))
