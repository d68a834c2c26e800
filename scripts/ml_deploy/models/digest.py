"""One digest for a model, be it one file or many.

It depends on the bytes and on the names inside the model, not on the order in which files are
given, their time stamps, or where on the disk the model lies. Anybody can make it again:
for one file it is what `sha256sum` prints, for several it is, in their common folder,
`sha256sum FILES | LC_ALL=C sort -k2 | sha256sum`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ml_deploy.errors import InputError

_CHUNK = 1 << 20


def model_digest(paths: Iterable[str | Path]) -> str:
    """`sha256:...` of files, and of what is in folders. Raises InputError where there is nothing, or no reading it."""
    files = model_files(paths)
    return combine({str(file): file_digest(file) for file in files})


def model_files(paths: Iterable[str | Path]) -> list[Path]:
    """All files that `paths` names, folders walked, each once, sorted. Raises InputError when there are none."""
    found, named = dict[Path, Path](), [Path(path) for path in paths]
    for path in named:
        if path.is_dir():
            found.update((inner.absolute(), inner) for inner in _walk(path))
        elif path.is_file():
            found.setdefault(path.absolute(), path)
        else:
            raise InputError(f"There is no model at {path}.", hint="Check the path, and that it was checked out.")
    if not found:
        folders = ", ".join(map(str, named))
        raise InputError(f"There is no file in {folders}.", hint="Name a model file, or a folder with files in it.")
    return sorted(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder but those of Git. Raises InputError for what would be skipped over without a word."""
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name != ".git"]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)
        else:
            raise InputError(
                f"{entry.path} is neither a file nor a folder, or a link to a folder or to nothing: what loaders find there "
                "would not be looked at.",
                hint="Put the files themselves into the model's folder.",
            )


def file_digest(path: str | Path, read: Callable[[int], None] = lambda count: None) -> str:
    """The SHA-256 of one file, 64 hexadecimal digits; `read` is told of bytes. Raises InputError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            buffer = memoryview(bytearray(min(_CHUNK, os.fstat(file.fileno()).st_size + 1)))
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                read(count)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    return digest.hexdigest()


class Hashing:
    """The model's digest made in a thread while something else reads the same files, from the same page cache.

    done: bytes so far.
    """

    def __init__(self, files: Iterable[str | Path]) -> None:
        self._files = [Path(file) for file in files]
        self._before = [_state(file) for file in self._files]
        self._pool = ThreadPoolExecutor(1)
        self.done = 0

    def __enter__(self) -> Hashing:
        self._future = self._pool.submit(
            lambda: {str(file.absolute()): file_digest(file, self._count) for file in self._files}
        )
        return self

    def _count(self, read: int) -> None:
        self.done += read

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def files(self) -> dict[str, str]:
        """The SHA-256 of each file, by its absolute path."""
        return self._future.result()

    def result(self) -> str:
        """The digest. Raises InputError when a file changed meanwhile: then nobody knows what was inspected."""
        digest = combine(self._future.result())
        for file, before in zip(self._files, self._before, strict=True):
            if _state(file) != before:
                raise InputError(
                    f"{file} changed while it was read.", hint="Run this step when nothing writes the model."
                )
        return digest


def _state(file: Path) -> tuple[int, int, int]:
    known = file.stat()
    return known.st_size, known.st_mtime_ns, known.st_ino


def combine(digests: dict[str, str]) -> str:
    """The model's digest, from its files' paths and their SHA-256 digests."""
    if len(digests) == 1:
        return "sha256:" + next(iter(digests.values()))
    paths = {Path(path).absolute(): digest for path, digest in digests.items()}
    base = os.path.commonpath([path.parent for path in paths])
    names = {path.relative_to(base).as_posix(): digest for path, digest in paths.items()}
    listing = "".join(_line(name, names[name]) for name in sorted(names, key=os.fsencode))
    return "sha256:" + hashlib.sha256(os.fsencode(listing)).hexdigest()


def _line(name: str, digest: str) -> str:
    """A line as `sha256sum` writes it, so that two file sets never share a listing."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return ("\\" if escaped != name else "") + f"{digest}  {escaped}\n"
