"""Protobuf's wire format, just enough to leave large tensors out of an ONNX model before protobuf reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ml_deploy.models.findings import Unreadable
from ml_deploy.models.source import Source, truncated

_SMALL = 1 << 20  # bytes; messages up to this size are taken as they are
_MOST = 256 << 20  # bytes that may remain after the large tensors are left out
_ATTRIBUTE = 64 << 20  # bytes; attributes hold millions of numbers one by one, so only larger ones are looked into
_RAW_DATA = 9
_LARGEST_TAG = 0xFFFFFFFF  # some readers cut what is larger, and see another field
#: Which fields of which message hold messages that may hold large tensors (numbers as in onnx.proto).
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}


@dataclass
class Skipped:
    """A tensor whose raw data was left out."""

    offset: int
    length: int = 0
    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)


@dataclass
class Slim:
    """A model without its large tensors' data, and what was left out."""

    data: bytes = b""
    tensors: list[Skipped] = field(default_factory=list)
    compressed: bool = False


def plausible(head: bytes) -> bool:
    """Whether the bytes begin with a field that ModelProto has, of the kind that it has there."""
    number, kind = head[0] >> 3, head[0] & 7
    return number in _MODEL_FIELDS and kind == (0 if number in (1, 5) else 2)


def slim(source: Source, size: int | None) -> Slim:
    """Read a model, leaving out raw tensor data above 1 MiB. Raises Unreadable for what is no protobuf."""
    result = Slim(compressed=size is None)
    result.data = _message(source, size, "model", result, 0)
    return result


def _message(source: Source, end: int | None, kind: str, result: Slim, depth: int) -> bytes:
    if depth > 100:
        raise Unreadable("its graphs are nested more than 100 deep", rule="budget")
    parts: list[bytes] = []
    tensor = Skipped(source.tell()) if kind == "tensor" else None
    while not source.at_end() if end is None else source.tell() < end:
        parts.append(_field(source, end, kind, result, tensor, depth))
    if end is not None and source.tell() > end:
        raise Unreadable(f"it is no valid protobuf at byte {end:,}", offset=end)
    if tensor is not None and tensor.length:
        result.tensors.append(tensor)
    return b"".join(parts)


def _field(source: Source, end: int | None, kind: str, result: Slim, tensor: Skipped | None, depth: int) -> bytes:
    tag = _varint(source)
    if tag > _LARGEST_TAG:
        raise Unreadable(f"it is no valid protobuf at byte {source.tell():,}", offset=source.tell())
    number, wire = tag >> 3, tag & 7
    if wire != 2:
        return _encode(tag) + _scalar(source, number, wire, tensor)
    length = _varint(source)
    if end is not None and source.tell() + length > end:
        raise truncated(end, source.tell() + length - end)
    inner = _INSIDE[kind].get(number)
    if tensor is not None and number == _RAW_DATA and length > _SMALL:
        tensor.length, tensor.offset = length, source.tell()
        source.skip(length)
        return b""
    if inner and length > (_ATTRIBUTE if inner == "attribute" else _SMALL):
        data = _message(source, source.tell() + length, inner, result, depth + 1)
    else:
        if length > _MOST:
            raise Unreadable("it has a field larger than 256 MiB", offset=source.tell(), rule="budget")
        data = source.exact(length)
    if tensor is not None and number == 8:
        tensor.name = data.decode("utf-8", "replace")
    if tensor is not None and number == 1:
        tensor.dims += packed(data)
    return _encode(tag) + _encode(len(data)) + data


def _scalar(source: Source, number: int, wire: int, tensor: Skipped | None) -> bytes:
    if wire == 0:
        value = _varint(source)
        if tensor is not None and number == 1:
            tensor.dims.append(value)
        elif tensor is not None and number == 2:
            tensor.data_type = value
        return _encode(value)
    if wire in (1, 5):
        return source.exact(8 if wire == 1 else 4)
    raise Unreadable(f"it is no valid protobuf at byte {source.tell():,}", offset=source.tell())


def _varint(source: Source) -> int:
    value = shift = 0
    while True:
        byte = source.exact(1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
        if shift > 63:
            raise Unreadable(f"it is no valid protobuf at byte {source.tell():,}", offset=source.tell())


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def packed(data: bytes | memoryview) -> list[int]:
    """The numbers in a packed field."""
    values, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value)
            value = shift = 0
    return values


def fields(data: bytes | memoryview, number: int) -> Iterator[memoryview]:
    """The length-delimited fields with this number of a message in memory. Raises Unreadable for what is none."""
    return (value for found, value in _all(data) if found == number and isinstance(value, memoryview))


def numbers(data: bytes | memoryview, number: int) -> Iterator[int]:
    """The whole numbers in the fields with this number, packed ones too, as `fields`."""
    for found, value in _all(data):
        if found == number:
            yield from [value] if isinstance(value, int) else packed(value)


def _all(data: bytes | memoryview) -> Iterator[tuple[int, memoryview | int]]:
    view, at = memoryview(data), 0
    while at < len(view):
        tag, at = _number(view, at)
        if tag > _LARGEST_TAG:
            raise Unreadable("it is no valid protobuf: it has a field of too large a number")
        kind = tag & 7
        if kind == 2:
            length, at = _number(view, at)
            if at + length > len(view):
                raise Unreadable("it is no valid protobuf: a field is longer than what holds it", rule="truncated")
            yield tag >> 3, view[at : at + length]
            at += length
        elif kind == 0:
            value, at = _number(view, at)
            yield tag >> 3, value
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise Unreadable("it is no valid protobuf")
    if at > len(view):
        raise Unreadable("it is no valid protobuf: it ends in the middle of a field", rule="truncated")


def _number(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 64:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise Unreadable("it is no valid protobuf", rule="truncated")
