"""zip, tar, npy, npz and PyTorch files: real ones pass, every way to show readers different things is denied."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from sklearn.preprocessing import StandardScaler
from tests.integration.models.payloads import Raw, call, file, named, value

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

EVIL = file(call("posix", "system", "true"))


def _inspect(folder: Path, data: bytes, name: str = "model.bin") -> Inspection:
    (folder / name).write_bytes(data)
    return inspect_file(str(folder / name), Policy())


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _tensor(key: str = "0", items: int = 4, kind: str = "FloatStorage") -> Raw:
    storage = Raw(value(("storage", named("torch", kind), key, "cpu", items)) + b"Q")
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage, 0, (2, 2), (2, 1), False, call("collections", "OrderedDict")
    )


def _torch(data: bytes | None = None, **more: bytes) -> bytes:
    """What `torch.save` writes since 1.6."""
    state = Raw(b"}" + value("weight") + _tensor().data + b"s")
    members = {"data.pkl": b"\x80\x02" + state.data + b"." if data is None else data, "byteorder": b"little", "data/0": b"\0" * 16,
               "version": b"3\n", ".data/serialization_id": b"1234"}  # fmt: skip
    return _zip({f"archive/{name}": content for name, content in {**members, **more}.items()})


def _legacy(main: bytes, storages: bytes = b"") -> bytes:
    """What `torch.save` wrote before, and writes with `_use_new_zipfile_serialization=False`."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return magic + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + main + storages


def _unsummed(data: bytes) -> bytes:
    """What `torch.save` writes after `torch.serialization.set_crc32_options(False)`."""
    for magic, place in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            data = data[: at + place] + bytes(4) + data[at + place + 4 :]
    return data


def test_torch_without_checksums(tmp_path: Path) -> None:
    assert _inspect(tmp_path, _unsummed(_torch())).verdict is Verdict.ALLOW
    denied = _inspect(tmp_path, _unsummed(_torch(EVIL)))
    assert [finding.rule for finding in denied.findings] == ["pickle-global"]
    assert _inspect(tmp_path, _unsummed(_zip({"a.npy": b"x", "b.npy": b"y"}))).findings[0].rule == "checksum"


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (numpy.zeros((3, 4)), "f8"), (numpy.array(["2026-01-01"], "M8[D]"), "dates"), (numpy.array(["ä"]), "text"),
        (numpy.zeros(3, [("a", "f8"), ("b", "S3", (2,))]), "structured"), (numpy.array([None, "a"], object), "objects"),
        (numpy.asfortranarray(numpy.ones((2, 3), numpy.float16)), "fortran"), (numpy.array(True), "scalar"),
    ],
)  # fmt: skip
def test_npy_and_npz(tmp_path: Path, array: Any, kind: str) -> None:
    plain, packed, deflated = io.BytesIO(), io.BytesIO(), io.BytesIO()
    numpy.save(plain, numpy.asarray(array))
    numpy.savez(packed, a=array, b=numpy.zeros(3))
    numpy.savez_compressed(deflated, a=array)
    for stream, name in ((plain, "npy"), (packed, "npz"), (deflated, "npz")):
        found = _inspect(tmp_path, stream.getvalue())
        assert (found.verdict, found.anatomy.format) == (Verdict.ALLOW, name), (kind, found.findings)


def test_a_state_dict_and_a_module_of_torch(tmp_path: Path) -> None:
    found = _inspect(tmp_path, _torch())
    assert (found.verdict, found.anatomy.format, found.anatomy.framework) == (Verdict.ALLOW, "pytorch", "torch"), (
        found.findings
    )
    module = (
        named("torch.nn.modules.linear", "Linear").data + b")\x81" + value({"training": False, "w": _tensor()}) + b"b"
    )
    assert _inspect(tmp_path, _torch(b"\x80\x02" + module + b".")).verdict is Verdict.ALLOW


def test_a_legacy_file_of_torch(tmp_path: Path) -> None:
    main = b"\x80\x02" + _tensor().data + b"."
    good = _legacy(main, pickle.dumps(["0"], 2) + struct.pack("<Q", 4) + b"\0" * 16)
    found = _inspect(tmp_path, good)
    assert (found.verdict, found.anatomy.format) == (Verdict.ALLOW, "pytorch"), found.findings
    for bad in (good[:-1], good + b"x", good + EVIL, _legacy(main, pickle.dumps(["1"], 2)), _legacy(EVIL, b"")):
        assert _inspect(tmp_path, bad).verdict is Verdict.DENY
    assert any(f.construct == "posix:system" for f in _inspect(tmp_path, _legacy(EVIL)).findings)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (_torch(EVIL), "posix:system"), (_torch(**{"extra.pkl": EVIL}), "posix:system"), (_torch(**{"data/1.bin": EVIL}), "posix:system"),
        (_torch(b"\x80\x02" + _tensor(items=5).data + b"."), "missing or too short"),
        (_torch(b"\x80\x02" + _tensor(key="7").data + b"."), "missing or too short"),
        (_torch(b"\x80\x02" + _tensor(kind="EvilStorage").data + b"."), "unknown kind"),
        (_zip({"archive/data.pkl": b"N.", "other/data.pkl": EVIL}), "beside the model's folder"),
        (_zip({"a.npy": b"\x93NUMPY\x01\x00\x02\x00{}"}), "not numpy's"), (_zip({"a.npy": EVIL}), "posix:system"),
    ],
)  # fmt: skip
def test_payloads_in_members_are_found(tmp_path: Path, made: bytes, says: str) -> None:
    found = _inspect(tmp_path, made)
    assert found.verdict is Verdict.DENY
    assert any(says in finding.message for finding in found.findings), found.findings


def test_torchscript_needs_a_review(tmp_path: Path) -> None:
    module = named("__torch__.mine", "Net").data + b")\x81}b"
    made = _torch(
        b"\x80\x02" + module + b".",
        **{"code/__torch__/mine.py": b"class Net(Module): ...", "constants.pkl": b"\x80\x02)."},
    )
    found = _inspect(tmp_path, made)
    assert [(f.verdict, f.rule) for f in found.findings] == [(Verdict.REVIEW, "torchscript-code")]
    assert found.anatomy.format == "torchscript"


def _flag(data: bytes) -> bytes:
    return data[:6] + b"\x01" + data[7:]


def _checksum(data: bytes) -> bytes:
    at = data.rindex(b"PK\x01\x02") + 16
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


def _other_name(data: bytes) -> bytes:
    return data.replace(b"archive/version", b"archive/versiom", 1)


def _other_data(data: bytes) -> bytes:
    return data.replace(b"little", b"bigbig", 1)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_flag, "encrypted"), (_checksum, "zip-mismatch"), (_other_name, "zip-mismatch"), (_other_data, "checksum"),
        (lambda data: EVIL + data, "trailing-data"), (lambda data: data + EVIL, "trailing-data"),
        (lambda data: data + data, "zip-mismatch"), (lambda data: data[: len(data) // 2], "unreadable"),
        (lambda data: b"PK\x03\x04" + data, "zip-mismatch"),
    ],
)  # fmt: skip
def test_zips_that_readers_see_differently_are_denied(
    tmp_path: Path, change: Callable[[bytes], bytes], rule: str
) -> None:
    found = _inspect(tmp_path, change(_torch()))
    assert found.verdict is Verdict.DENY
    assert rule in {finding.rule for finding in found.findings}, found.findings


def test_bytes_between_members_are_denied(tmp_path: Path) -> None:
    data = _zip({"a.pkl": pickle.dumps(1), "b.pkl": pickle.dumps(2)})
    start = data.index(b"PK\x01\x02")
    hidden = _zip({"hidden.pkl": EVIL})[: len(EVIL) + 40]
    end = data.rindex(b"PK\x05\x06") + 16
    moved = data[:start] + hidden + data[start:end] + struct.pack("<I", start + len(hidden)) + data[end + 4 :]
    assert _inspect(tmp_path, data).verdict is Verdict.ALLOW
    assert [f.rule for f in _inspect(tmp_path, moved).findings] == ["zip-mismatch"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_twice_and_names_that_leave_the_folder_are_denied(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
        archive.writestr("archive/data.pkl", EVIL)
    assert _inspect(tmp_path, stream.getvalue()).findings[0].rule == "zip-mismatch"
    for name in ("../a.pkl", "/etc/a.pkl", "a/../../b.pkl", "C:\\a.pkl"):
        assert _inspect(tmp_path, _zip({name: b"N."})).findings[0].rule == "zip-path", name


def _tar(members: dict[str, bytes], mode: str = "w", link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_models(tmp_path: Path, mode: str) -> None:
    scaler = io.BytesIO()
    joblib.dump(StandardScaler().fit([[1.0], [2.0]]), scaler)
    found = _inspect(tmp_path, _tar({"model/scaler.joblib": scaler.getvalue(), "model/config.json": b"{}"}, mode))
    assert (found.verdict, found.anatomy.format) == (Verdict.ALLOW, "tar"), found.findings
    assert found.anatomy.top == "sklearn.preprocessing._data.StandardScaler"
    evil = _inspect(tmp_path, _tar({"a/b.txt": b"text", "model.pkl": EVIL}, mode))
    assert [(f.verdict, f.member, f.construct) for f in evil.findings] == [(Verdict.DENY, "model.pkl", "posix:system")]


@pytest.mark.parametrize(
    "made",
    [
        _tar({"a.pkl": b"N."}, link="link"), _tar({"../a.pkl": b"N."}), _tar({"a.txt": b"only text"}), _tar({"a.pkl": b"N."})[:700],
        _tar({"a.pkl": b"\x80\x04N."}) + b"\0" * 512 + EVIL, _tar({"a.bin": b"\0\1\2"}),
    ],
)  # fmt: skip
def test_tars_that_cannot_be_vouched_for(tmp_path: Path, made: bytes) -> None:
    assert _inspect(tmp_path, made).verdict is Verdict.DENY


def test_code_in_an_archive_needs_a_review(tmp_path: Path) -> None:
    found = _inspect(tmp_path, _zip({"model.pkl": pickle.dumps(1), "code/train.py": b"import os\n"}))
    assert [(f.verdict, f.rule, f.member) for f in found.findings] == [(Verdict.REVIEW, "code-file", "code/train.py")]


def test_archives_in_archives(tmp_path: Path) -> None:
    inner = _zip({"model.pkl": EVIL})
    found = _inspect(tmp_path, _zip({"inner.zip": inner}))
    assert [(f.member, f.construct) for f in found.findings] == [("inner.zip → model.pkl", "posix:system")]
    for _ in range(4):
        inner = _zip({"inner.zip": inner})
    assert _inspect(tmp_path, inner).verdict is Verdict.DENY
    assert (
        _inspect(tmp_path, _zip({"inner.zip": _zip({"model.pkl": EVIL})}, zipfile.ZIP_DEFLATED)).verdict is Verdict.DENY
    )
