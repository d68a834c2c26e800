"""safetensors: a JSON header that says where each tensor lies; nothing in it can run."""

from __future__ import annotations

import json
import math
from typing import Any

from ml_deploy.models.anatomy import Anatomy, Tensor
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.source import Member

NAME = "safetensors"
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
         "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
         "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}  # fmt: skip


def sniff(head: bytes) -> bool:
    """A length of eight bytes, then the opening brace of the header."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def inspect(member: Member, context: Context) -> Anatomy:
    """Check the header against the file: every byte of the data belongs to exactly one tensor."""
    with member.open() as source:
        length = int.from_bytes(source.exact(8), "little")
        header = _header(source.exact(length))
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise Unreadable("its __metadata__ is no mapping of strings", offset=8)
        tensors = [_tensor(name, entry) for name, entry in header.items()]
        end = _cover(tensors)
        source.skip(end)
        if not source.at_end():
            raise Unreadable("bytes follow the last tensor", offset=8 + length + end, rule="trailing-data")
    largest = sorted(tensors, key=lambda entry: entry[2] - entry[1], reverse=True)[:20]
    return Anatomy(
        format=NAME,
        framework=str(metadata.get("format", "")),
        parameters=sum(tensor.items for tensor, _, _ in tensors),
        tensors=tuple(tensor for tensor, _, _ in largest),
    )


def _header(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Unreadable("its header names something twice", offset=8)
        return dict(pairs)

    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"its header is no valid JSON ({error})", offset=8) from error
    if not isinstance(header, dict):
        raise Unreadable("its header is no mapping", offset=8)
    return header


def _tensor(name: str, entry: Any) -> tuple[Tensor, int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Unreadable(f"its header describes the tensor {name!r} in an unknown way", offset=8)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [-1]
    if dtype not in _BITS or len(numbers) != len(shape) + 2 or not all(type(n) is int and n >= 0 for n in numbers):
        raise Unreadable(f"its header gives the tensor {name!r} no valid dtype, shape or place", offset=8)
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise Unreadable(f"its header gives the tensor {name!r} a place that does not fit its shape", offset=8)
    return Tensor(name=name, dtype=dtype, shape=tuple(shape)), begin, end


def _cover(tensors: list[tuple[Tensor, int, int]]) -> int:
    position = 0
    for tensor, begin, end in sorted(tensors, key=lambda entry: entry[1:]):
        if begin != position:
            raise Unreadable(f"its header leaves a gap or an overlap before the tensor {tensor.name!r}", offset=8)
        position = end
    return position
