"""numpy's .npy: a header that is a Python literal, then raw numbers, or a pickle when items are objects."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

from ml_deploy.models.anatomy import Anatomy, Tensor
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.formats import pickles
from ml_deploy.models.held import dtype_name
from ml_deploy.models.source import Member, Source

NAME = "npy"
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 16  # bytes; numpy itself trusts 10,000
_SIMPLE = re.compile(r"[<>|=]?(b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SUV]\d+|[mM]8(?:\[[\w/]+\])?|O8?)")


def sniff(head: bytes) -> bool:
    """numpy's magic bytes."""
    return head.startswith(_MAGIC)


def inspect(member: Member, context: Context) -> Anatomy:
    """Numbers must fill the file exactly; objects are inspected as the pickle that they are."""
    with member.open() as source:
        header = _header(source)
        size, objects = _item(header["descr"])
        start = source.tell()
        count = math.prod(header["shape"])
        if not objects:
            source.skip(size * count)
            if not source.at_end():
                raise Unreadable("something follows the array", offset=source.tell(), rule="trailing-data")
    if objects:
        pickles.inspect(member.part(start), context)
    name = dtype_name(str(header["descr"]))
    tensor = Tensor(name="", dtype=name or str(header["descr"])[:80], shape=header["shape"])
    return Anatomy(
        format=NAME, framework="numpy", libraries=("numpy",), parameters=count if name else None, tensors=(tensor,)
    )


def _header(source: Source) -> dict[str, Any]:
    version = source.exact(len(_MAGIC) + 2)[-2]
    if version not in (1, 2, 3):
        raise Unreadable(f"numpy has no file format of version {version}")
    length = int.from_bytes(source.exact(2 if version == 1 else 4), "little")
    if length > _LONGEST_HEADER:
        raise Unreadable(f"its header has {length:,} bytes", rule="budget")
    text = source.exact(length).decode("utf-8" if version == 3 else "latin1", "replace")
    try:
        header = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise Unreadable("its header is no Python literal") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise Unreadable("its header is not numpy's")
    shape = header["shape"]
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape) or len(shape) > 64:
        raise Unreadable("its header gives no valid shape")
    return header


def _item(descr: Any, depth: int = 0) -> tuple[int, bool]:
    """Bytes per item, and whether there are objects in it."""
    if depth > 10:
        raise Unreadable("its dtype is nested too deep", rule="budget")
    if isinstance(descr, str) and (match := _SIMPLE.fullmatch(descr)):
        kind = match[1][0]
        number = int(re.sub(r"\[.*|\D", "", match[1]) or 8)
        return number * (4 if kind == "U" else 1), kind == "O"
    if isinstance(descr, tuple) and len(descr) == 2:
        size, objects = _item(descr[0], depth + 1)
        return size * _count(descr[1]), objects
    if isinstance(descr, list) and descr and all(isinstance(field, tuple) and len(field) in (2, 3) for field in descr):
        fields = [(_item(field[1], depth + 1), _count(field[2]) if len(field) == 3 else 1) for field in descr]
        return sum(size * count for (size, _), count in fields), any(objects for (_, objects), _ in fields)
    raise Unreadable(f"its dtype {str(descr)[:80]!r} is not numpy's")


def _count(shape: Any) -> int:
    lengths = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(n) is int and 0 <= n < 1 << 31 for n in lengths):
        raise Unreadable("its dtype has no valid shape")
    return math.prod(lengths)
