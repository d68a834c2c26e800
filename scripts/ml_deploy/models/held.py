"""How many numbers the arrays and tensors of a pickle hold, and which are the biggest: for people to see, not to judge by."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ml_deploy.models.anatomy import Tensor
from ml_deploy.models.stubs import Instance

_NUMPY = ("numpy.core.", "numpy._core.")
_TENSOR = {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}
_PARAMETER = {("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state")}
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
#: torch's storages without `Storage`, and the types of their items.
_STORAGES = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
             "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
             "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32"}  # fmt: skip
_MOST = 100_000  # arrays that are kept to be named
_SHOWN = 20


def dtype_name(code: str) -> str:
    """`float64` for numpy's `<f8`; an empty string for what is no number."""
    match = re.fullmatch(r"[<>|=]?([biufc])(\d+)", code)
    if not match:
        return ""
    return "bool" if match[1] == "b" else f"{_KINDS[match[1]]}{int(match[2]) * 8}"


class Held:
    """Collects arrays while a pickle is read. An array counts once, however often it is referred to."""

    def __init__(self) -> None:
        self.numbers = 0
        self._arrays: dict[int, tuple[Instance, str, tuple[int, ...]]] = {}
        self._names: dict[int, str] = {}

    def array(self, made: Instance, dtype: Any, shape: Any) -> None:
        """An array of numpy's, by the stub of its dtype. Records of numbers count by their fields; objects and texts do not."""
        if not _is_shape(shape) or not isinstance(dtype, Instance) or not dtype.args:
            return
        name = dtype_name(str(dtype.args[0]))
        if name:
            self.numbers += math.prod(shape)
            self._keep(made, name, shape)
        elif isinstance(dtype.state, tuple) and len(dtype.state) > 4 and isinstance(dtype.state[4], dict):
            inner = [field[0] for field in dtype.state[4].values() if isinstance(field, tuple)]
            if all(isinstance(one, Instance) and one.args and dtype_name(str(one.args[0])) for one in inner):
                self.numbers += math.prod(shape) * len(inner)

    def called(self, made: Instance) -> None:
        """The result of a call: an array from a buffer, or a tensor of torch's (whose numbers are its storage's)."""
        key, args = made.of.key if made.of else ("", ""), made.args
        if key[1] == "_frombuffer" and key[0].startswith(_NUMPY) and len(args) > 2:
            self.array(made, args[1], args[2])
        elif key in _TENSOR and len(args) > 2 and isinstance(args[0], Instance) and _is_shape(args[2]):
            storage = args[0].of.name if args[0].of else ""
            if storage.removesuffix("Storage") in _STORAGES:
                self._keep(made, _STORAGES[storage.removesuffix("Storage")], args[2])
        elif key in _PARAMETER and args and id(args[0]) in self._arrays:
            _, dtype, shape = self._arrays.pop(id(args[0]))
            self._keep(made, dtype, shape)

    def stated(self, target: Instance) -> None:
        """State for an object: it makes an array of `_reconstruct`'s result, and names the arrays that are attributes."""
        state = target.state
        if isinstance(state, tuple) and len(state) == 5 and target.of and target.of.name == "_reconstruct":
            self.array(target, state[2], state[1])
        elif isinstance(state, dict) and self._arrays:
            self.named(state.items())

    def named(self, items: Any) -> None:
        """Pairs of a dictionary: a text names the array beside it."""
        for key, value in items:
            if isinstance(key, str) and id(value) in self._arrays:
                self._names.setdefault(id(value), key)

    def tensors(self) -> tuple[Tensor, ...]:
        """The biggest ones that have a name."""
        return tuple(sorted(self._tensors(), key=lambda tensor: tensor.items, reverse=True)[:_SHOWN])

    def _tensors(self) -> Iterator[Tensor]:
        for at, name in self._names.items():
            if at in self._arrays:
                _, dtype, shape = self._arrays[at]
                yield Tensor(name=name[:200], dtype=dtype, shape=shape)

    def _keep(self, made: Instance, dtype: str, shape: tuple[int, ...]) -> None:
        if len(self._arrays) < _MOST:
            self._arrays[id(made)] = made, dtype, shape  # the stub is kept, so that its id stays its own


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
