"""No bytes make the inspection crash, hang or act: whatever happens to a file, a verdict comes out."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.integration.models import payloads

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

#: Longer by hand: `ML_DEPLOY_FUZZ=20000 pytest tests/integration/models/test_fuzz.py`.
EXAMPLES = int(os.environ.get("ML_DEPLOY_FUZZ", "150"))
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=5000,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES <= 1000,
    database=None,
)
_OPCODES = sorted(pickle._Unpickler.dispatch)

_acts: list[str] = []
_watching = [False]


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: what a pickle that runs would do, and the inspection must never."""
    if not _watching[0]:
        return
    writes = event == "open" and isinstance(arguments[1], str) and bool(set(arguments[1]) & set("wax+"))
    writes = writes and "/ml-deploy-lint-" not in str(arguments[0])  # copies of zips inside of compressed files
    if writes or event in (
        "os.system",
        "subprocess.Popen",
        "socket.connect",
        "exec",
        "pickle.find_class",
        "os.mkdir",
        "ctypes.dlopen",
    ):
        _acts.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_watch)


def _inspect(data: bytes) -> Inspection:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        _acts.clear()
        _watching[0] = True
        try:
            return inspect_file(file.name, Policy(), companions=True)
        finally:
            _watching[0] = False


def _seeds() -> Iterator[bytes]:
    model = make_pipeline(StandardScaler()).fit([[1.0, 2.0], [3.0, 4.0]])
    for protocol in range(6):
        yield pickle.dumps(model, protocol)
    for way in (0, ("zlib", 1), ("gzip", 1), ("bz2", 1), ("xz", 1), ("lzma", 1), ("lz4", 1)):
        stream = io.BytesIO()
        joblib.dump(model, stream, compress=way)
        yield stream.getvalue()
    for save in (numpy.save, numpy.savez, numpy.savez_compressed):
        stream = io.BytesIO()
        save(stream, numpy.arange(6.0))
        yield stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model.pkl", pickle.dumps(model))
        archive.writestr("config.json", "{}")
    yield stream.getvalue()
    yield b"\x08\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}'
    yield b'{"learner": {"gradient_booster": {}}}'
    yield b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x10gradient_booster{}}}"
    yield b"\x08\x07\x12\x01p:\x08\n\x06\x22\x04Add\0"


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_imported() -> None:
    """What the inspection imports of its own accord is imported before anybody watches."""
    folder = Path(tempfile.mkdtemp())
    for number, data in enumerate(_seeds()):
        (folder / str(number)).write_bytes(data)
        inspect_file(str(folder / str(number)), Policy())
    for library in ("h5py", "onnx", "picklescan.scanner", "yaml"):
        importlib.import_module(library)


SEEDS = list(_seeds())
_opcode = st.sampled_from([bytes([code]) for code in _OPCODES])
_PLAIN: tuple[Any, ...] = ("os", "system", "numpy", "dtype", 1, (), {}, [])
_VALUES = [payloads.value(thing) for thing in _PLAIN]
_piece = st.one_of(
    _opcode, st.binary(max_size=4), st.sampled_from(_VALUES),
    st.sampled_from([payloads.named("joblib.numpy_pickle", "NumpyArrayWrapper").data, payloads.named("os", "system").data]),
)  # fmt: skip


def test_the_watch_sees_what_a_real_unpickler_does() -> None:
    _acts.clear()
    _watching[0] = True
    try:
        pickle.loads(pickle.dumps(StandardScaler()))
    finally:
        _watching[0] = False
    assert any("pickle.find_class" in act for act in _acts)


@_SETTINGS
@given(st.lists(_piece, max_size=40))
def test_streams_of_opcodes(pieces: list[bytes]) -> None:
    for head in (b"\x80\x04", b"\x80\x02", b""):
        found = _inspect(head + b"".join(pieces) + b".")
        assert found.verdict in Verdict
        assert _acts == []


@_SETTINGS
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("xid"), st.binary(min_size=1, max_size=6)), max_size=6),
)
def test_changed_models(data: bytes, changes: list[tuple[float, str, bytes]]) -> None:
    for where, how, content in changes:
        at = int(where * len(data))
        data = data[:at] + (b"" if how == "d" else content) + data[at + (0 if how == "i" else len(content)) :]
    found = _inspect(data)
    assert all(finding.message and finding.advice for finding in found.findings)
    assert _acts == []


@_SETTINGS
@given(st.sampled_from(SEEDS), st.floats(0, 0.999))
def test_cut_models_are_never_allowed(data: bytes, where: float) -> None:
    found = _inspect(data[: int(where * len(data))])
    assert found.verdict is not Verdict.ALLOW or found.anatomy.format == "text"


@_SETTINGS
@given(st.sampled_from(["", "\x93NUMPY\x01\x00", "PK\x03\x04", "\x89HDF\r\n\x1a\n", "\x1f\x8b", "x\x9c", "BZh", "\x08\x07", "{L", "tree\nversion="]),
       st.binary(max_size=200))  # fmt: skip
def test_any_bytes(head: str, data: bytes) -> None:
    found = _inspect(head.encode("latin1") + data)
    assert found.verdict in Verdict
    assert _acts == []
