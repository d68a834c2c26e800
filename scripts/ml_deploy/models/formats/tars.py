"""tar archives (also compressed ones): every regular member by its own content; links and devices are refused."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.formats.zips import each_member
from ml_deploy.models.source import Member, stretch

NAME = "tar"
_DEEPEST = 3
_MOST_MEMBERS = 10_000


def sniff(head: bytes) -> bool:
    """POSIX and GNU tars; the magic is at byte 257."""
    return head[257:262] == b"ustar"


def inspect(member: Member, context: Context) -> Anatomy:
    """Members are opened anew for each reading, so that a compressed tar needs no memory and no disk."""
    if member.depth >= _DEEPEST:
        raise Unreadable(f"it is packed more than {_DEEPEST} times", rule="budget")
    try:
        return each_member(NAME, _members(member), context)
    except (tarfile.TarError, EOFError, OverflowError, UnicodeError) as error:
        raise Unreadable(f"its tar archive is damaged ({error})") from error


def _members(member: Member) -> Iterator[Member]:
    seen: set[str] = set()
    with member.open() as source, tarfile.open(fileobj=source.file, mode="r|") as archive:
        infos = []
        for info in archive:
            _check(info, seen)
            infos.append(info)
            if len(infos) > _MOST_MEMBERS:
                raise Unreadable(f"it has more than {_MOST_MEMBERS:,} members", rule="budget")
        stream = archive.fileobj  # tarfile reads ahead, so the source may be further
        while stream and (rest := stream.read(1 << 18)):
            if rest.strip(b"\0"):
                raise Unreadable("something follows the tar archive", offset=source.tell(), rule="trailing-data")
    for info in infos:
        if info.isreg():
            yield _member(member, info)


def _check(info: tarfile.TarInfo, seen: set[str]) -> None:
    if not (info.isreg() or info.isdir()) or info.issparse():
        raise Unreadable(f"{info.name!r} in it is a link, a device or the like", offset=info.offset, rule="tar-member")
    if info.name.startswith("/") or ".." in info.name.replace("\\", "/").split("/"):
        raise Unreadable(
            f"{info.name!r} would leave the folder that it is unpacked in", offset=info.offset, rule="zip-path"
        )
    if info.isreg() and info.name in seen:
        raise Unreadable(
            f"it has {info.name!r} twice: readers may take either", offset=info.offset, rule="zip-mismatch"
        )
    seen.add(info.name)


def _member(member: Member, info: tarfile.TarInfo) -> Member:
    return stretch(member, info.offset_data, info.size, info.name)
