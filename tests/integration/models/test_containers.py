"""Whatever compresses or packs a model changes nothing about its verdict, and hides nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import lz4.frame
import pytest
from sklearn.preprocessing import StandardScaler
from tests.integration.models.payloads import call, file
from tests.integration.models.test_real_files import FILES

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

EVIL = file(call("posix", "system", "true"))
GOOD = pickle.dumps(StandardScaler().fit([[1.0], [2.0]]))


def _lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


def _lz4(data: bytes) -> bytes:
    packed: bytes = lz4.frame.compress(data)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "lzma": _lzma, "lz4": _lz4, "zlib": zlib.compress,
}  # fmt: skip


def _inspect(folder: Path, data: bytes) -> Inspection:
    (folder / "model.bin").write_bytes(data)
    return inspect_file(str(folder / "model.bin"), Policy())


def _tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize("packer", PACKERS)
def test_every_format_in_every_compression(tmp_path: Path, packer: str) -> None:
    for one in FILES:
        plain, packed = _inspect(tmp_path, one.read_bytes()), _inspect(tmp_path, PACKERS[packer](one.read_bytes()))
        assert (packed.verdict, packed.anatomy.format) == (plain.verdict, plain.anatomy.format), (one, packed.findings)
        assert packed.anatomy.compression.split("+")[0] == packer
    found = _inspect(tmp_path, PACKERS[packer](EVIL))
    assert [(f.verdict, f.rule) for f in found.findings] == [(Verdict.DENY, "pickle-global")]


@pytest.mark.parametrize("one", [one for one in FILES if one.suffix != ".gz"], ids=lambda one: one.name)
def test_every_format_in_a_compressed_tar(tmp_path: Path, one: Path) -> None:
    plain, packed = (
        _inspect(tmp_path, one.read_bytes()),
        _inspect(tmp_path, _tar({f"model/{one.name}": one.read_bytes()})),
    )
    assert packed.verdict is plain.verdict, packed.findings


@pytest.mark.parametrize("packer", PACKERS)
def test_what_follows_the_compressed_stream_is_not_overlooked(tmp_path: Path, packer: str) -> None:
    pack = PACKERS[packer]
    for more in (EVIL, pack(EVIL), b"\0"):
        assert _inspect(tmp_path, pack(GOOD) + more).verdict is Verdict.DENY
    assert _inspect(tmp_path, pack(GOOD)[:-3]).verdict is Verdict.DENY


def test_several_pickles_in_one_file(tmp_path: Path) -> None:
    assert _inspect(tmp_path, GOOD * 3).verdict is Verdict.ALLOW
    for data in (GOOD + EVIL, GOOD + GOOD + EVIL, GOOD + b"\0" + GOOD, GOOD + GOOD[:-2]):
        assert _inspect(tmp_path, data).verdict is Verdict.DENY


def test_a_pickle_and_a_zip_in_one_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", GOOD)
    for data in (GOOD + stream.getvalue(), stream.getvalue() + GOOD, EVIL + stream.getvalue()):
        assert _inspect(tmp_path, data).verdict is Verdict.DENY


def test_a_saved_models_variables_are_no_cover_for_others(tmp_path: Path) -> None:
    graph = b"\x08\x01\x12\x11\n\x022\x00\x12\x0b\n\t\n\x01n\x12\x04NoOp"
    assert _inspect(tmp_path, graph).verdict is Verdict.ALLOW
    beside = {
        "m/saved_model.pb": graph,
        "m/fingerprint.pb": b"\0\1\2\3" * 9,
        "m/variables/variables.data-00000-of-00001": b"\0\1\2\3" * 9,
    }
    assert _inspect(tmp_path, _tar(beside)).verdict is Verdict.ALLOW
    for name, data in (
        ("m/variables/variables.x", EVIL),
        ("m/other.bin", b"\0\1\2\3" * 9),
        ("n/fingerprint.pb", b"\0\1\2\3" * 9),
    ):
        assert _inspect(tmp_path, _tar({**beside, name: data})).verdict is Verdict.DENY


@pytest.mark.parametrize(
    "numbers", [b"\x3a\xff\x80\x3f", b"\x80\x04\x95\x3f", b"@\xff\xff\xbd", b"PK\x03\x04" * 8, b"MZ\x80\x3f"]
)
def test_variables_are_numbers_whatever_they_begin_like(tmp_path: Path, numbers: bytes) -> None:
    graph = b"\x08\x01\x12\x11\n\x022\x00\x12\x0b\n\t\n\x01n\x12\x04NoOp"
    files = {"assets/saved_model.pb": graph, "assets/fingerprint.pb": b"\0\1\2\3" * 9}
    files["assets/variables/variables.data-00000-of-00001"] = numbers
    assert _inspect(tmp_path, _tar(files)).verdict is Verdict.ALLOW
    assert _inspect(tmp_path, _tar({**files, "assets/other": numbers})).verdict is Verdict.DENY


def test_cloudpickle(tmp_path: Path) -> None:
    assert _inspect(tmp_path, cloudpickle.dumps(StandardScaler().fit([[1.0], [2.0]]))).verdict is Verdict.ALLOW
    found = _inspect(tmp_path, cloudpickle.dumps(lambda: 1))
    assert found.verdict is Verdict.DENY
    assert "brings functions or classes as code inside of the file" in found.findings[0].message


def _zip64() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open("model.pkl", "w", force_zip64=True) as member:
        member.write(GOOD)
    return stream.getvalue()


def test_zip64(tmp_path: Path) -> None:
    data = _zip64()
    assert _inspect(tmp_path, data).verdict is Verdict.ALLOW, "as Python writes it"
    large = data.index(b"\x01\0\x10\0") + 4
    lying = data[:large] + struct.pack("<QQ", len(GOOD) - 1, len(GOOD) - 1) + data[large + 16 :]
    assert [f.rule for f in _inspect(tmp_path, lying).findings] == ["zip-mismatch"]


def test_a_checksum_of_all_ones_excuses_no_other_size(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.pkl", GOOD)
    data = stream.getvalue()
    changed = data[:14] + b"\xff\xff\xff\xff" + struct.pack("<II", 9, 9) + data[26:]
    assert [f.rule for f in _inspect(tmp_path, changed).findings] == ["zip-mismatch"]
