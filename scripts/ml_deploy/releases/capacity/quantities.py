"""Kubernetes' quantities (`250m`, `1.5Gi`, `1e3`) as whole numbers, and back as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip

#: Whole numbers by resource name: CPU in thousandths, all else in bytes or pieces.
Amounts = dict[str, int]


def amount(resource: str, value: object) -> int:
    """One quantity, rounded up as the scheduler does. Raises ValueError for what is none."""
    exact = _number(str(value)) * (1000 if is_cpu(resource) else 1)
    return -(-exact.numerator // exact.denominator)


@lru_cache(4096)  # thousands of pods ask for the same few amounts
def _number(text: str) -> Fraction:
    found = _QUANTITY.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    return Fraction(found[1]) * (Fraction(10) ** int(found[2]) if found[2] else _SUFFIXES[found[3] or ""])


def amounts(listed: Mapping[str, object] | None) -> Amounts:
    """A resource list (`requests`, `allocatable`, `hard`); what is no quantity is left out."""
    found: Amounts = {}
    for resource, value in (listed or {}).items():
        try:
            found[resource] = amount(resource, value)
        except ValueError:
            continue
    return found


def is_cpu(resource: str) -> bool:
    """Whether a resource counts processors: `cpu`, or a quota's `requests.cpu` and `limits.cpu`."""
    return resource.rpartition(".")[2] == "cpu"


def add(one: Mapping[str, int], other: Mapping[str, int], times: int = 1) -> Amounts:
    """Both together, the other so many times."""
    return {name: one.get(name, 0) + times * other.get(name, 0) for name in {**one, **other}}


def most(one: Mapping[str, int], other: Mapping[str, int]) -> Amounts:
    """The greater of both, for each resource."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}


def shown(resource: str, value: int) -> str:
    """An amount as people write it: `1.5 CPU`, `2Gi memory`, `1 nvidia.com/gpu`."""
    if is_cpu(resource):
        return f"{value / 1000:g} {'CPU' if resource == 'cpu' else resource}"
    if resource.rpartition(".")[2] in ("memory", "ephemeral-storage", "storage"):
        return f"{_bytes(value)} {resource}"
    return f"{value} {resource}"


def words(wanted: Mapping[str, int]) -> str:
    """Several amounts: `2 CPU, 4Gi memory`; the number of pods is left out."""
    return ", ".join(shown(name, value) for name, value in wanted.items() if value and name != "pods") or "no requests"


def _bytes(value: int) -> str:
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        unit = int(_SUFFIXES[suffix])
        if abs(value) >= unit:
            return f"{value / unit:.4g}{suffix}"
    return str(value)
