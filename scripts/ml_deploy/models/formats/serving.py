"""What a SavedModel says of itself: TensorFlow's version, and what goes in and comes out when it serves."""

from __future__ import annotations

from collections.abc import Iterator

from ml_deploy.models.anatomy import Tensor
from ml_deploy.models.wire import fields, numbers

_INFORMATION, _VERSION, _SIGNATURES, _INPUTS, _OUTPUTS = 1, 5, 5, 1, 2
_KEY, _VALUE = 1, 2  # of an entry of a map
_TYPE, _SHAPE, _DIMENSION, _LENGTH, _UNKNOWN = 2, 3, 2, 1, 1 << 63
#: DataType by number.
_TYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
          10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64"}  # fmt: skip


def version(graph: memoryview) -> str:
    """TensorFlow's version that wrote a meta graph, or an empty string."""
    found = [_text(one) for inner in fields(graph, _INFORMATION) for one in fields(inner, _VERSION)]
    return found[0] if found else ""


def tensors(graph: memoryview) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the signature that serves by default, else of the first; empty where there is none."""
    signatures = {name: value for name, value in _map(graph, _SIGNATURES) if not name.startswith("__")}
    if not signatures:
        return (), ()
    chosen = signatures.get("serving_default", next(iter(signatures.values())))
    return tuple(_tensors(chosen, _INPUTS)), tuple(_tensors(chosen, _OUTPUTS))


def _tensors(signature: memoryview, which: int) -> Iterator[Tensor]:
    for name, about in sorted(_map(signature, which), key=lambda pair: pair[0]):
        kind = _TYPES.get(next(numbers(about, _TYPE), 0), "unknown")
        shape = (_length(one) for inner in fields(about, _SHAPE) for one in fields(inner, _DIMENSION))
        yield Tensor(name=name, dtype=kind, shape=tuple(shape))


def _length(dimension: memoryview) -> int | None:
    length = next(numbers(dimension, _LENGTH), 0)
    return None if length >= _UNKNOWN else length  # -1 as an unsigned number


def _map(message: memoryview, number: int) -> Iterator[tuple[str, memoryview]]:
    for entry in fields(message, number):
        yield "".join(map(_text, fields(entry, _KEY))), next(fields(entry, _VALUE), memoryview(b""))


def _text(data: memoryview) -> str:
    return bytes(data).decode("utf-8", "replace")
