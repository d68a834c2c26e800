"""Compressed files as joblib writes them: zlib, gzip, bz2, xz, lzma, lz4; whatever model is inside."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import replace

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.source import Decompressed, Decompressor, Member, Source

NAME = "compressed"
_DEEPEST = 3


class Zlib:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _lz4() -> Decompressor:
    import lz4.frame

    decompressor: Decompressor = lz4.frame.LZ4FrameDecompressor()
    return decompressor


_KINDS: tuple[tuple[str, bytes, Callable[[], Decompressor]], ...] = (
    ("gzip", b"\x1f\x8b", lambda: Zlib(31)),
    ("bz2", b"BZh", bz2.BZ2Decompressor),
    ("xz", b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    ("lzma", b"\x5d\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
    ("lz4", b"\x04\x22\x4d\x18", _lz4),
)


def _kind(head: bytes) -> tuple[str, Callable[[], Decompressor]] | None:
    for name, magic, make in _KINDS:
        if head.startswith(magic):
            return name, make
    # zlib has no magic bytes, but its two header bytes are a multiple of 31.
    if len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib", lambda: Zlib(15)
    return None


def sniff(head: bytes) -> bool:
    """Known magic bytes, or a zlib header."""
    return _kind(head) is not None


def inspect(member: Member, context: Context) -> Anatomy:
    """Look into the decompressed stream, then make sure that nothing hides behind it."""
    found = _kind(member.head(16))
    if found is None:
        raise Unreadable("it is not compressed as it seemed")
    name, make = found
    if member.depth >= _DEEPEST:
        raise Unreadable(f"it is compressed more than {_DEEPEST} times", rule="budget")

    streams: list[Decompressed] = []

    def opened() -> Source:
        streams.append(Decompressed(member.open(), make()))
        return Source(io.BufferedReader(streams[-1], 1 << 16), None)

    inner = Member(opened, member.name, None, member.depth + 1)
    try:
        anatomy = context.inner(inner, context)
        _whole(streams, opened)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError) as error:
        raise Unreadable(f"its {name} compression is damaged ({error})") from error
    return replace(anatomy, compression="+".join(filter(None, (name, anatomy.compression))))


def _whole(streams: list[Decompressed], opened: Callable[[], Source]) -> None:
    """Make sure that a stream was read to its end, where checksums are. Raises Unreadable when something follows it."""
    if all(stream.clean is None for stream in streams):
        with opened() as source:
            while source.read(1 << 18):
                pass
    if not any(stream.clean for stream in streams):
        raise Unreadable("something else follows the compressed model", rule="trailing-data")
