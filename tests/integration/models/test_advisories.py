"""The history of the scanners: what passed them as clean, by advisory, as far as a file can express it.

The batch of December 2025 (GHSA-m273, 4675, 84r2, vqmv, hgrh, r8g5, x843, 3329, cffc, rrxm, 6556) is
represented by names that picklescan added with it; which is whose is not claimed.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.models.payloads import Raw, call, file, named, value

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

EVIL = file(call("posix", "system", "true"))


def _zip(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return stream.getvalue()


def _torch(data: bytes = EVIL) -> bytes:
    return _zip(**{"data.pkl": data, "version": b"3\n"})


def _patched(data: bytes, at: bytes, offset: int, change: bytes) -> bytes:
    where = data.index(at) + offset
    return data[:where] + change + data[where + len(change) :]


def _called(module: str, name: str, *arguments: object) -> Callable[[], bytes]:
    return lambda: file(call(module, name, *arguments))


def _called_after(made: Raw) -> bytes:
    return file(Raw(made.data + value(("true",)) + b"R"))


ADVISORIES: dict[str, tuple[Callable[[], bytes], str]] = {
    # picklescan
    "CVE-2025-1716 pip.main": (_called("pip", "main", ["install", "x"]), "m.pkl"),
    "CVE-2025-1889 another extension": (lambda: EVIL, "m.txt"),
    "CVE-2025-1944 names differ between headers": (lambda: _patched(_torch(), b"archive/data.pkl", 8, b"date"), "m.pt"),
    "CVE-2025-1945 a flag that says encrypted": (lambda: _patched(_torch(), b"PK\x03\x04", 6, b"\x01"), "m.pt"),
    "CVE-2025-10155 a pickle called as PyTorch's": (lambda: EVIL, "m.bin"),
    "CVE-2025-10156 a wrong checksum": (lambda: _patched(_torch(), b"PK\x01\x02", 16, b"\0\0\0\0"), "m.pt"),
    "CVE-2025-10157 below a blocked module": (_called("asyncio.unix_events", "_UnixSubprocessTransport._start"), "m.pkl"),
    "picklescan, December 2025: numpy.f2py": (_called("numpy.f2py.crackfortran", "getlincoef", "1", {}), "m.pkl"),
    "picklescan, December 2025: torch's configuration": (_called("torch.utils._config_module", "ConfigModule.load_config", None, b""), "m.pkl"),
    "picklescan, December 2025: idlelib": (_called("idlelib.pyshell", "ModifiedInterpreter.runcode", None, "1"), "m.pkl"),
    "picklescan, December 2025: lib2to3": (_called("lib2to3.pgen2.pgen", "ParserGenerator.make_label", None, None, "1"), "m.pkl"),
    "picklescan, December 2025: doctest": (_called("doctest", "debug_script", "1"), "m.pkl"),
    "picklescan, December 2025: torch.utils.collect_env": (_called("torch.utils.collect_env", "run", "true"), "m.pkl"),
    "picklescan, December 2025: torch.jit execWrapper": (_called("torch.jit.unsupported_tensor_ops", "execWrapper", "1", {}, {}), "m.pkl"),
    "picklescan, December 2025: cProfile": (_called("cProfile", "runctx", "1", {}, {}), "m.pkl"),
    "picklescan, December 2025: trace": (_called("trace", "Trace.runctx", None, "1"), "m.pkl"),
    "picklescan, December 2025: profile": (_called("profile", "Profile.run", None, "1"), "m.pkl"),
    "picklescan, December 2025: ensurepip": (_called("ensurepip", "_run_pip", ["install"]), "m.pkl"),
    "GHSA-vvpj pkgutil.resolve_name": (lambda: _called_after(call("pkgutil", "resolve_name", "os:system")), "m.pkl"),
    "picklescan, 2026: uuid": (_called("uuid", "_get_command_stdout", "true"), "m.pkl"),
    # others
    "nullifAI 7z": (lambda: b"7z\xbc\xaf\x27\x1c" + EVIL, "m.pt"),
    "nullifAI broken after the payload": (lambda: EVIL[:-1] + b"\xff\xff", "m.pkl"),
    "CVE-2026-22608 ctypes through pydoc": (lambda: _called_after(call("pydoc", "locate", "ctypes.CDLL")), "m.pkl"),
    "GHSA-mhc9 REDUCE and BUILD": (lambda: b"\x80\x04" + call("mine", "f").data + value({"a": call("os", "system", "true")}) + b"b.", "m.pkl"),
    "GHSA-cffv an allowed package's other names": (lambda: _called_after(named("numpy", "load")), "m.pkl"),
    "modelscan 85 PUT and BUILD": (
        lambda: b"\x80\x02" + named("os", "system").data + b"q\x000" + named("mine", "C").data + b")\x81}h\x00b.", "m.pkl"),
    "modelscan 330 numpy's builtins": (_called("numpy", "__builtins__", "eval"), "m.pkl"),
    "nltk 3757 EXT with a warm cache": (lambda: b"\x80\x02\x82\x07" + value(("true",)) + b"R.", "m.pkl"),
    "safetensors with a false header": (lambda: struct.pack("<Q", 8) + b'{"a":{}}' + b"\0" * 9, "m.safetensors"),
    "a pickle followed by a zip": (lambda: pickle.dumps({"weights": 1}) + _torch(), "m.pt"),
    "a zip behind a pickle's opcodes": (lambda: EVIL + _torch(b"\x80\x02}."), "m.pt"),
}  # fmt: skip


def _inspect(folder: Path, data: bytes, name: str) -> Inspection:
    (folder / name).write_bytes(data)
    return inspect_file(str(folder / name), Policy())


@pytest.mark.parametrize("advisory", ADVISORIES)
def test_what_passed_elsewhere_is_denied_here(tmp_path: Path, advisory: str) -> None:
    make, name = ADVISORIES[advisory]
    found = _inspect(tmp_path, make(), name)
    assert found.verdict is Verdict.DENY, found.findings
