"""Bytes to inspect: a file, or a member of a container, that can be opened again and skipped over."""

from __future__ import annotations

import codecs
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ml_deploy.models.findings import Unreadable

_CHUNK = 1 << 18
_BUFFER = 1 << 16
_LARGEST_COPY = 4 << 30


class Decompressor(Protocol):
    """What bz2, lzma, lz4 and (adapted) zlib have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed stream was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether more compressed bytes are needed to go on."""

    @property
    def unused_data(self) -> bytes | None:
        """What followed the end of the compressed stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Some decompressed bytes, at most `max_length`."""


class Source:
    """A stream read forwards, at C speed where it matters: `read` and `readline` are the buffer's own."""

    def __init__(self, buffer: io.BufferedReader, size: int | None) -> None:
        self._buffer = buffer
        self._size = size
        self.read: Callable[[int], bytes] = buffer.read
        self.readline: Callable[[], bytes] = buffer.readline
        self.tell: Callable[[], int] = buffer.tell
        self.peek: Callable[[int], bytes] = buffer.peek

    def skip(self, count: int) -> None:
        """Go forward without keeping the bytes. Raises Unreadable when the stream ends before."""
        if self._size is not None:
            here = self._buffer.tell()
            if here + count > self._size:
                raise truncated(self._size, here + count - self._size)
            self._buffer.seek(count, io.SEEK_CUR)
            return
        while count:
            got = len(self._buffer.read(min(count, _CHUNK)))
            if not got:
                raise truncated(self._buffer.tell(), count)
            count -= got

    def exact(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises Unreadable when there are fewer."""
        data = self._buffer.read(count)
        if len(data) < count:
            raise truncated(self._buffer.tell(), count - len(data))
        return data

    def seek(self, position: int) -> None:
        """Go to a position; only for members that are not compressed."""
        self._buffer.seek(position)

    def at_end(self) -> bool:
        """Whether no byte is left."""
        return not self._buffer.peek(1)

    @property
    def file(self) -> io.BufferedReader:
        """The stream as a file object, for libraries."""
        return self._buffer

    def close(self) -> None:
        """Close the stream."""
        self._buffer.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Member:
    """Something with bytes in it. `name` is empty for the file itself, `size` None where it is not known before."""

    open: Callable[[], Source]
    name: str = ""
    size: int | None = None
    depth: int = 0

    def part(self, start: int) -> Member:
        """The rest of the member from a byte on; offsets still count from the member's beginning."""

        def opened() -> Source:
            source = self.open()
            source.skip(start)
            return source

        return Member(opened, self.name, self.size, self.depth)

    def head(self, count: int = 4096) -> bytes:
        """The first bytes."""
        with self.open() as source:
            return source.read(count)


def file_member(path: str | Path, opened: Callable[[io.FileIO], None] = lambda file: None) -> Member:
    """A file on the disk, small ones read once; `opened` is told of the open file whenever a large one is opened."""
    with io.FileIO(path) as first:
        size = os.fstat(first.fileno()).st_size
        if size <= _BUFFER:
            return in_memory(first.readall(), "", 0)

    def open_it() -> Source:
        file = io.FileIO(path)
        opened(file)
        return Source(io.BufferedReader(file, _BUFFER), size)

    return Member(open_it, size=size)


class _Window(io.RawIOBase):
    """A stretch of a file, as a file."""

    def __init__(self, file: Source, start: int, size: int) -> None:
        self._file = file
        self._start, self._size, self._position = start, size, 0
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        self._file.seek(self._start + self._position)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def window(member: Member, start: int, size: int, name: str) -> Member:
    """A stretch of a member that is not compressed, such as a stored member of an archive."""
    return Member(
        lambda: Source(io.BufferedReader(_Window(member.open(), start, size), _BUFFER), size),
        name,
        size,
        member.depth + 1,
    )


class _Forwards(io.RawIOBase):
    """A stretch of a stream that can only be read forwards."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        self._source = source
        self._source.skip(start)
        self._size, self._position = size, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(min(len(buffer), self._size - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()


def stretch(member: Member, start: int, size: int, name: str) -> Member:
    """A stretch of any member; of a compressed one it is read forwards only."""
    if member.size is not None:
        return window(member, start, size, name)
    return Member(
        lambda: Source(io.BufferedReader(_Forwards(member.open(), start, size), _BUFFER), None),
        name,
        None,
        member.depth + 1,
    )


class _Latin1(io.RawIOBase):
    """A text in UTF-8 as the latin1 bytes that it stands for, read forwards."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = out = b""
        while not out:
            data = self._source.read(len(buffer))
            try:
                out = self._decoder.decode(data, final=not data).encode("latin1")
            except UnicodeError as error:
                raise Unreadable("it is no text that stands for bytes", offset=self._position) from error
            if not data:
                break
        buffer[: len(out)] = out
        self._position += len(out)
        return len(out)

    def close(self) -> None:
        self._source.close()
        super().close()


def latin1(member: Member) -> Member:
    """The bytes that a text of characters up to U+00FF stands for, as pickles before protocol 3 have them."""
    return replace(member, open=lambda: Source(io.BufferedReader(_Latin1(member.open()), _BUFFER), None), size=None)


@contextmanager
def seekable(member: Member) -> Iterator[Member]:
    """The member itself, or a copy in a temporary file of one that can only be read forwards. Raises Unreadable when too large."""
    if member.size is not None:
        yield member
        return
    with tempfile.NamedTemporaryFile(prefix="ml-deploy-lint-") as copy, member.open() as source:
        while data := source.read(_CHUNK):
            copy.write(data)
            if copy.tell() > _LARGEST_COPY:
                raise Unreadable("it has more than 4 GiB inside of a compressed file; unpack that first", rule="budget")
        copy.flush()
        yield replace(file_member(copy.name), name=member.name, depth=member.depth)


def in_memory(data: bytes, name: str, depth: int) -> Member:
    """Bytes that are there already."""
    return Member(lambda: Source(io.BufferedReader(io.BytesIO(data)), len(data)), name, len(data), depth)


def truncated(offset: int, missing: int | None = None) -> Unreadable:
    """The file ends too early."""
    more = f", {missing:,} bytes too early" if missing else ""
    return Unreadable(f"it ends at byte {offset:,}{more}: the file is truncated", offset=offset, rule="truncated")


class Decompressed(io.RawIOBase):
    """One compressed stream, read forwards. `clean` becomes known at its end: whether nothing follows it."""

    def __init__(self, file: Source, decompressor: Decompressor) -> None:
        self._file = file
        self._decompressor = decompressor
        self._position = 0
        self.clean: bool | None = None

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._decompressor.eof:
            data = self._file.read(_CHUNK) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not data:
                raise truncated(self._file.tell())
            out = self._decompressor.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                self._position += len(out)
                return len(out)
        self.clean = not self._decompressor.unused_data and self._file.at_end()
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()
