"""Sizes of numpy arrays, from the stubs of their dtypes: how many raw bytes joblib wrote after an array's wrapper.

A loader that believes in another size would read data as opcodes or opcodes as data. So only what
numpy itself writes is accepted; all else is an error.
"""

from __future__ import annotations

import re
from typing import Any

from ml_deploy.models.stubs import Instance, Name, SmallList

_RECORDS = (("numpy", "record"), ("numpy.rec", "record"))
_OBJECT_FLAGS = 0x1B  # counted references, list in pickles, to be set to zero, needs the interpreter
_MOST_FIELDS = 4096
_SIMPLE = re.compile(r"([biufcSUVmMO?])(\d+)")


class Unsure(Exception):
    """The dtype or the shape is not written as numpy writes it."""


def item_size(dtype: Any) -> tuple[int, bool]:
    """Bytes per item, and whether items are Python objects. Raises Unsure."""
    if not isinstance(dtype, Instance) or dtype.of is None or dtype.of.key != ("numpy", "dtype"):
        raise Unsure("the dtype is none of numpy's own")
    code = dtype.args[0] if dtype.args else None
    if isinstance(code, Name) and code.key in _RECORDS and isinstance(dtype.state, tuple) and len(dtype.state) > 5:
        code = f"V{dtype.state[5]}"
    match = _SIMPLE.fullmatch(code) if isinstance(code, str) else None
    if not match or dtype.built > 1:
        raise Unsure(f"the dtype {code!r} is not written as numpy writes it")
    kind, size = match[1], int(match[2]) * (4 if match[1] == "U" else 1)
    if kind == "O":
        return 8, True
    return _with_state(kind, size, dtype.state)


def _with_state(kind: str, size: int, state: Any) -> tuple[int, bool]:
    if state is None:
        return size, False
    if not isinstance(state, tuple) or len(state) not in (8, 9):
        raise Unsure("the dtype's state is not as numpy writes it")
    _version, _order, sub, names, fields, elsize = state[:6]
    if elsize not in (-1, size):
        raise Unsure(f"the dtype says {size} and {elsize} bytes at once")
    if kind != "V" and (sub, names, fields) != (None, None, None):
        raise Unsure("a plain dtype has fields")
    objects = _subarray(sub, size) | _fields(names, fields, size)
    if objects and (type(state[7]) is not int or state[7] & _OBJECT_FLAGS != _OBJECT_FLAGS):
        raise Unsure("the dtype hides that it has objects")
    return size, objects


def inner_dtypes(state: Any) -> list[Any]:
    """The dtypes of a subarray and of fields, in a state that `item_size` accepts."""
    inner = [state[2][0]] if isinstance(state[2], tuple) else []
    return inner + ([field[0] for field in state[4].values()] if isinstance(state[4], dict) else [])


def _subarray(sub: Any, size: int) -> bool:
    if sub is None:
        return False
    if not isinstance(sub, tuple) or len(sub) != 2:
        raise Unsure("the subarray of the dtype is not as numpy writes it")
    item, objects = item_size(sub[0])
    if item * item_count(sub[1] if isinstance(sub[1], tuple) else (sub[1],)) != size:
        raise Unsure("the subarray of the dtype has another size than the dtype")
    return objects


def _fields(names: Any, fields: Any, size: int) -> bool:
    if fields is None:
        return False
    if not isinstance(fields, dict) or not isinstance(names, tuple) or not len(names) <= len(fields) < _MOST_FIELDS:
        raise Unsure("the fields of the dtype are not as numpy writes them")
    objects = False
    for key, field in fields.items():
        if not isinstance(key, str) or not isinstance(field, tuple) or len(field) not in (2, 3):
            raise Unsure("the fields of the dtype are not as numpy writes them")
        item, inner = item_size(field[0])
        if type(field[1]) is not int or not 0 <= field[1] <= size - item:
            raise Unsure(f"the field {key!r} of the dtype lies outside of it")
        objects |= inner
    return objects


def item_count(shape: Any) -> int:
    """How many items an array of this shape has. Raises Unsure."""
    if not isinstance(shape, tuple) or len(shape) > 64:
        raise Unsure("the shape is no tuple")
    count = 1
    for length in shape:
        if type(length) is not int or not 0 <= length < 1 << 62:
            raise Unsure(f"the shape has a length of {length!r}")
        count *= length
    return count


def texts(array: Any) -> tuple[str, ...]:
    """The strings in a pickled object array of names (`feature_names_in_`), as far as they were kept."""
    while isinstance(array, Instance) and isinstance(array.state, tuple) and array.state:
        array = array.state[-1]
    items = array if isinstance(array, SmallList) else []
    return tuple(item for item in items[:1000] if isinstance(item, str))


def class_name(value: Any) -> str:
    """`module.Name` of the class of a stub, or an empty string."""
    of = value.of if isinstance(value, Instance) else value
    return f"{of.module}.{of.name}" if isinstance(of, Name) else ""


def is_plain(args: tuple[Any, ...]) -> bool:
    """Whether an object was made by `copyreg._reconstructor(cls, object, None)`, as protocols 0 and 1 do."""
    return len(args) == 2 and isinstance(args[0], Name) and args[0].key == ("builtins", "object") and args[1] is None
