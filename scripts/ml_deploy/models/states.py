"""States that make their object act when BUILD sets them. What matters is the state, not the class that it is said to be for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ml_deploy.models.stubs import Blob, Instance, Name, TextBlob

Problem = tuple[str, str, str]  # rule, construct, message

#: Looked up on an object by unpicklers, by `dict()` and by classes' own ways to take a state: an attribute takes a method's place.
_USED_IN_LOADING = frozenset(("append", "extend", "add", "keys", "items", "pop", "update", "get"))
_TOLD = _USED_IN_LOADING | {"handle", "restore_model_spec", "restore_design_info", "formula"}
_TEXTS = {"__doc__", "__name__", "__qualname__", "__module__"}  # harmless as long as they are texts
#: scipy's distributions run `exec` on this; what they write themselves is three functions that give back their arguments.
_TEMPLATE = "_parse_arg_template"
_SHAPES = r"(?:[A-Za-z]\w*, )*"
_FROZEN = re.compile(
    rf"\ndef _parse_args\(self, (?P<s>{_SHAPES}) (?P<l>loc=0(?:, scale=1)?)\):\n    return \((?P=s)\), (?P<o>loc(?:, scale|, 1))\n\n"
    rf"def _parse_args_rvs\(self, (?P=s) (?P=l), size=None\):\n    return self\._argcheck_rvs\((?P=s) (?P=o), size=size\)\n\n"
    rf"def _parse_args_stats\(self, (?P=s) (?P=l), moments='mv'\):\n    return \((?P=s)\), (?P=o), moments\n"
)
#: statsmodels builds the formula's matrices again, and every term of a formula is evaluated as Python.
_FORMULA = ("restore_model_spec", "restore_design_info")
_TERMS = re.compile(r"[\w\s~+\-*:/|^]*")
_MOST_PRODUCTS = 12
_CALLED = re.compile(r"\b(?:C|I|np\.(?:log|log1p|log2|log10|exp|sqrt|abs|sin|cos))\(\s*\w+\s*\)")
#: Whose own `__setstate__` takes an object; every other state is a plain value.
_TAKES_OBJECTS = ("pandas._libs.arrays", "numpy.random._pickle", "numpy.random._generator", "numpy.random.mtrand")


def parts(state: Any) -> tuple[Any, ...]:
    """A state may be a pair: of the object's dictionary and of its slots."""
    return state if isinstance(state, tuple) and len(state) == 2 else (state,)


def tells(key: Any) -> bool:
    """Whether an entry with this key must be seen in any state, be it as large as it likes."""
    return isinstance(key, str) and (key[:1] == "_" or key in _TOLD)


def problems(target: Instance, state: Any) -> Iterator[Problem]:
    """What is wrong with a state."""
    for part in state if isinstance(state, tuple) else (state,):  # a partial's attributes are the fourth of its state
        if isinstance(part, dict):
            yield from _dictionary(str(target.of), part)
        elif isinstance(part, Instance) and part in parts(state) and part is not target and not _takes_objects(target):
            yield "pickle-state", str(target.of), "gives an object a state that is itself made while loading"


def _takes_objects(target: Instance) -> bool:
    return target.of is not None and target.of.module in _TAKES_OBJECTS


def _dictionary(of: str, state: dict[Any, Any]) -> Iterator[Problem]:
    if any(isinstance(key, Instance) for key in state):
        yield "pickle-state-key", of, "sets an attribute whose name is made while loading"
    for key, value in state.items():
        if _special(key, value):
            yield "pickle-special-attribute", f"{of}.{key}", "sets an attribute that loading itself uses"
    if not isinstance(state.get("_handle"), (str, TextBlob, type(None))) or isinstance(
        state.get("handle"), (bytes, int, Name)
    ):
        yield "pickle-address", of, "sets an address that a library in C follows"
    if _TEMPLATE in state and not _is_template(state[_TEMPLATE]):
        yield "pickle-state-code", f"{of}.{_TEMPLATE}", "has code that is run when it is loaded, and not scipy's own"
    if any(key in state for key in _FORMULA) and not _is_plain_formula(state.get("formula")):
        yield "pickle-formula", of, "has a formula that is evaluated as Python when it is loaded"


def _special(key: Any, value: Any) -> bool:
    if not isinstance(key, str):
        return False
    if key in _TEXTS and (value is None or isinstance(value, (str, Blob))):
        return False
    shadows = key in _USED_IN_LOADING and isinstance(value, (Name, Instance))
    return shadows or (key.startswith("__") and key.endswith("__"))


def _is_template(text: Any) -> bool:
    return isinstance(text, str) and _FROZEN.fullmatch(text) is not None


def _is_plain_formula(formula: Any) -> bool:
    """Names, operators, and a few functions of a name."""
    # Every `*` may double the number of terms.
    return (
        isinstance(formula, str)
        and formula.count("*") <= _MOST_PRODUCTS
        and _TERMS.fullmatch(_CALLED.sub("x", formula)) is not None
    )
