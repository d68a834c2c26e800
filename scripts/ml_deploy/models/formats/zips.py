"""zip archives: checked for everything by which readers could see different members, then handed to the format inside."""

from __future__ import annotations

import bz2
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath, PurePosixPath
from typing import Protocol

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Finding, Unreadable
from ml_deploy.models.formats.compressed import Zlib
from ml_deploy.models.source import Decompressed, Decompressor, Member, Source, seekable, window

NAME = "zip"
_DEEPEST = 3
_MOST_MEMBERS = 100_000
_WARM_UP = "tf_serving_warmup_requests"
_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CHUNK = 1 << 20
_PIECE = 1 << 18  # bytes that stay in the processor's cache between reading and summing
_METHODS: dict[int, Callable[[], Decompressor]] = {
    zipfile.ZIP_DEFLATED: lambda: Zlib(-15),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
}


@dataclass(frozen=True)
class Archive:
    """A zip whose table of contents can be trusted."""

    member: Member
    members: dict[str, Member]


class ZipFormat(Protocol):
    """A format that is a zip with certain members."""

    NAME: str

    def recognise(self, names: set[str]) -> bool:
        """Whether a zip with these members is of the format."""

    def inspect_archive(self, archive: Archive, context: Context) -> Anatomy:
        """As `inspect`, on the members."""


def sniff(head: bytes) -> bool:
    """A local file header, or the end record of an empty zip."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def inspect(member: Member, context: Context) -> Anatomy:
    """Read the table of contents, check it, look into every member."""
    from ml_deploy.models.formats import ZIP_FORMATS

    if member.depth >= _DEEPEST:
        raise Unreadable(f"it is packed more than {_DEEPEST} times", rule="budget")
    try:
        with seekable(member) as whole:
            archive = _open(whole)
            found = [one for one in ZIP_FORMATS if one.recognise(set(archive.members))]
            if len(found) > 1:
                both = " and ".join(one.NAME for one in found)
                raise Unreadable(f"it is {both} at once: loaders may take either", rule="zip-mismatch")
            if found:
                return found[0].inspect_archive(archive, context)
            return each_member(NAME, archive.members.values(), context)
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        NotImplementedError,
        EOFError,
        OverflowError,
        struct.error,
    ) as error:
        raise Unreadable(f"its zip archive is damaged or unusual ({error})") from error


def each_member(name: str, members: Iterable[Member], context: Context) -> Anatomy:
    """Inspect members by their own content; the anatomy is that of the only model among them, if there is one."""
    named = {one.name: one for one in members}
    found = {
        name: context.inner(one, context.inside(name)) for name, one in named.items() if not _beside_graph(name, named)
    }
    graphs = {PurePosixPath(name).parent for name, one in found.items() if one.format == "savedmodel"}
    for one in (one for one_name, one in named.items() if one_name not in found):
        _variables(one, graphs, context)
    models = [one for one in found.values() if one.format not in ("text", "keras-metadata")]
    if not models:
        raise Unreadable("there is no model in it")
    libraries = dict.fromkeys(library for one in models for library in one.libraries)
    first = models[0] if len(models) == 1 else Anatomy(format=name)
    return replace(first, format=name, libraries=tuple(libraries), external=())


def _beside_graph(name: str, names: Container[str]) -> bool:
    folder = graph_folder(PurePosixPath(name))
    return folder is not None and str(folder / "saved_model.pb") in names


def graph_folder(path: PurePath) -> PurePath | None:
    """The folder whose `saved_model.pb` a file of TensorFlow's belongs to, by its name; None for other files.

    Assets are read by the graph alone, in which every operator is judged; what serving warms up with is a list of requests.
    """
    if path.name == "fingerprint.pb":
        return path.parent
    of = {"variables": path.name.startswith("variables."), "assets": True, "assets.extra": path.name == _WARM_UP}
    return path.parent.parent if of.get(path.parent.name) else None


def of_graph(path: PurePath, folders: Container[PurePath], findings: Sequence[Finding]) -> bool:
    """Whether a file lies where a graph in one of the folders has its own, and is of no format.

    Variables are numbers, which may begin like a file of any format, but are none of it that can be read.
    """
    if graph_folder(path) not in folders or not findings:
        return False
    if path.parent.name == "variables":
        return of_no_format(findings)
    return [(one.rule, one.construct) for one in findings] == [("unsupported-format", "unknown")]


def of_no_format(findings: Sequence[Finding]) -> bool:
    """Whether these findings say no more than that bytes are of no format that can be read."""
    return {one.rule for one in findings} <= {"unsupported-format", "unreadable", "truncated"}


def _variables(member: Member, graphs: Container[PurePath], context: Context) -> None:
    """TensorFlow's variables are of no format of their own; whatever else is called so is judged as what it is."""
    raw(member, context, lambda findings: of_graph(PurePosixPath(member.name), graphs, findings))


def raw(member: Member, context: Context, excused: Callable[[Sequence[Finding]], bool]) -> None:
    """Inspect a member that may be of no format, and forget findings that are no more than that."""
    scratch = replace(context.log, findings=[], left_out=[0])
    context.inner(member, replace(context, log=scratch).inside(member.name))
    if not excused(scratch.findings):
        context.log.findings.extend(scratch.findings)


def _open(member: Member) -> Archive:
    with member.open() as source, zipfile.ZipFile(source.file) as archive:
        infos = archive.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise Unreadable(f"it has more than {_MOST_MEMBERS:,} members", rule="budget")
        _ends(source, archive, member.size or 0, len(infos))
        members: dict[str, Member] = {}
        names: set[str] = set()
        summed = not _without_sums(infos)
        position, slack = 0, 0
        for info in sorted(infos, key=lambda one: one.header_offset):
            _gapless(position, info.header_offset, slack)
            start = _header(source, info)
            position, slack = start + info.compress_size, 24 if info.flag_bits & 8 else 0
            if info.filename.lower() in names:  # torch, Windows and macOS do not tell a from A
                raise Unreadable(f"it has {info.filename!r} twice: readers may take either", rule="zip-mismatch")
            names.add(info.filename.lower())
            if not info.is_dir():
                members[info.filename] = _member(member, info, start)
                if summed:
                    _checksum(members[info.filename], info, source, start)
        _gapless(position, archive.start_dir, slack)
    return Archive(member, members)


def _without_sums(infos: list[zipfile.ZipInfo]) -> bool:
    """Whether torch was told to write no checksums (`set_crc32_options(False)`): all are 0. It never reads them."""
    return all(not one.CRC and one.compress_type == zipfile.ZIP_STORED for one in infos) and any(
        one.filename.count("/") == 1 and one.filename.endswith("/data.pkl") for one in infos
    )


def _ends(source: Source, archive: zipfile.ZipFile, size: int, count: int) -> None:
    """The records at the end: nothing may follow them, and all that they say of the table of contents must be so.

    Python finds the table by where it ends, other readers by where it is said to begin.
    """
    end = size - _END.size - len(archive.comment)
    source.seek(max(0, end))
    fields = _END.unpack(source.exact(_END.size))
    if end < 0 or fields[0] != b"PK\x05\x06" or fields[7] != len(archive.comment):
        raise Unreadable("something follows the zip archive in the same file", offset=size, rule="trailing-data")
    if b"PK\x05\x06" in archive.comment:
        raise Unreadable("its comment holds another table of contents", rule="zip-mismatch")
    table = (count, count, end - archive.start_dir, archive.start_dir)
    limits = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    large = _large_end(source, end)
    if large is not None:
        table = (count, count, end - _LOCATOR.size - _END_64.size - archive.start_dir, archive.start_dir)
        if large != table:
            raise Unreadable("its two records of where the table of contents lies differ", rule="zip-mismatch")
    said = zip(fields[3:7], table, limits, strict=True)
    if fields[1:3] != (0, 0) or any(one != true and (large is None or one != most) for one, true, most in said):
        raise Unreadable("its table of contents is not where it is said to be", offset=end, rule="zip-mismatch")


def _large_end(source: Source, end: int) -> tuple[int, ...] | None:
    """What the record of large archives says, if there is one: it must lie where its locator says."""
    at = end - _LOCATOR.size - _END_64.size
    if at < 0:
        return None
    source.seek(at)
    record, locator = _END_64.unpack(source.exact(_END_64.size)), _LOCATOR.unpack(source.exact(_LOCATOR.size))
    if locator[0] != b"PK\x06\x07":
        return None
    if record[:2] != (b"PK\x06\x06", _END_64.size - 12) or locator[1:] != (0, at, 1) or record[4:6] != (0, 0):
        raise Unreadable("its record of where the table of contents lies is damaged", offset=at, rule="zip-mismatch")
    return tuple(record[6:])


def _gapless(end: int, start: int, slack: int) -> None:
    """Members follow each other without a gap (but for a descriptor of a known size) and without sharing bytes.

    What lies in a gap is seen by readers that go from header to header, and by nobody who reads the table.
    """
    if not end <= start <= end + slack:
        what = "something precedes the zip archive" if end == 0 else "there are bytes that belong to no member"
        raise Unreadable(f"{what} in the same file", offset=min(end, start), rule="zip-mismatch")


def _header(source: Source, info: zipfile.ZipInfo) -> int:
    """Compare a member's own header with the table of contents; where its data starts."""
    source.seek(info.header_offset)
    fields = _LOCAL.unpack(source.exact(_LOCAL.size))
    magic, flags, method, name_length, extra_length = fields[0], fields[2], fields[3], fields[9], fields[10]
    name = source.exact(name_length)
    if magic != b"PK\x03\x04":
        raise Unreadable(f"{info.filename!r} has no header of its own", offset=info.header_offset, rule="zip-mismatch")
    if (flags | info.flag_bits) & 0x41:
        raise Unreadable(f"{info.filename!r} is encrypted", offset=info.header_offset, rule="encrypted")
    expected = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    if name != expected or method != info.compress_type or info.filename != info.orig_filename:
        raise Unreadable(f"{info.filename!r} is called or packed otherwise in its own header", offset=info.header_offset,
                         rule="zip-mismatch")  # fmt: skip
    extra = source.exact(extra_length)
    if not _same_sizes(fields[6:9], extra, info, bool((flags | info.flag_bits) & 8)):
        raise Unreadable(
            f"{info.filename!r} has another size in its own header", offset=info.header_offset, rule="zip-mismatch"
        )
    parts = info.filename.replace("\\", "/").split("/")
    if info.filename.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in info.orig_filename:
        raise Unreadable(f"{info.filename!r} would leave the folder that it is unpacked in", rule="zip-path")
    return int(info.header_offset + _LOCAL.size + name_length + extra_length)


def _same_sizes(own: tuple[int, int, int], extra: bytes, info: zipfile.ZipInfo, later: bool) -> bool:
    """Checksum, packed and full size as the table says; those of large members are in a zip64 field, unknown ones are 0."""
    checksum, packed, full = own
    if 0xFFFFFFFF in (packed, full):
        large = extra.find(b"\x01\0\x10\0")
        if large < 0 or len(extra) < large + 20:
            return later and checksum in (0, info.CRC)
        full, packed = struct.unpack_from("<QQ", extra, large + 4)
    expected = (info.CRC, info.compress_size, info.file_size)
    return all(
        one == other or (later and one == 0) for one, other in zip((checksum, packed, full), expected, strict=True)
    )


def _member(member: Member, info: zipfile.ZipInfo, start: int) -> Member:
    if info.compress_type == zipfile.ZIP_STORED:
        if info.compress_size != info.file_size:
            raise Unreadable(f"{info.filename!r} is stored with two sizes", rule="zip-mismatch")
        return window(member, start, info.file_size, info.filename)
    if info.compress_type not in _METHODS:
        raise Unreadable(f"{info.filename!r} is packed in a way that is not known here (method {info.compress_type})")
    packed = window(member, start, info.compress_size, info.filename)

    def opened() -> Source:
        stream = Decompressed(packed.open(), _METHODS[info.compress_type]())
        return Source(io.BufferedReader(stream, _CHUNK), None)

    return Member(opened, info.filename, None, member.depth + 1)


def _checksum(member: Member, info: zipfile.ZipInfo, source: Source, start: int) -> None:
    """Read a member whole and compare its checksum and size; stored ones straight from the archive, for speed."""
    if info.compress_type == zipfile.ZIP_STORED:
        source.seek(start)
        found = _sum(source, info.file_size)
    else:
        with member.open() as inner:
            found = _sum(inner, None)
    if found != (info.CRC, info.file_size):
        raise Unreadable(f"{info.filename!r} does not have the checksum that the archive says", rule="checksum")


def _sum(source: Source, most: int | None) -> tuple[int, int]:
    buffer = memoryview(bytearray(_PIECE))
    checksum = size = 0
    while most is None or size < most:
        room = _PIECE if most is None else min(_PIECE, most - size)
        count = source.file.readinto(buffer[:room])
        if not count:
            break
        checksum = zlib.crc32(buffer[:count], checksum)
        size += count
    return checksum, size
