"""safetensors: the header must account for every byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "I8", "shape": [3], "data_offsets": [16, 19]},
}


def _inspect(folder: Path, header: Any, data: bytes = b"\0" * 19, length: int | None = None) -> Inspection:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return inspect_file(str(file), Policy())


def test_a_good_file(tmp_path: Path) -> None:
    found = _inspect(tmp_path, {**GOOD, "__metadata__": {"format": "pt"}})
    assert found.verdict is Verdict.ALLOW
    assert (found.anatomy.format, found.anatomy.framework, found.anatomy.parameters) == ("safetensors", "pt", 7)
    assert found.anatomy.tensors[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"b": {"dtype": "I8", "shape": [3], "data_offsets": [15, 18]}}, "gap or an overlap"),
        ({"b": {"dtype": "I8", "shape": [3], "data_offsets": [17, 20]}}, "gap or an overlap"),
        ({"b": {"dtype": "I8", "shape": [4], "data_offsets": [16, 19]}}, "does not fit its shape"),
        ({"b": {"dtype": "I8", "shape": [-3], "data_offsets": [16, 19]}}, "no valid dtype, shape or place"),
        ({"b": {"dtype": "X8", "shape": [3], "data_offsets": [16, 19]}}, "no valid dtype, shape or place"),
        ({"b": {"dtype": "I8", "shape": [True, 3], "data_offsets": [16, 19]}}, "no valid dtype, shape or place"),
        ({"b": {"dtype": "I8", "shape": [3], "data_offsets": [16, 19], "code": "x"}}, "unknown way"),
        ({"b": [1]}, "unknown way"),
        ({"__metadata__": {"a": 1}}, "no mapping of strings"),
        ({"c": {"dtype": "I8", "shape": [9], "data_offsets": [19, 28]}}, "truncated"),
    ],
)
def test_a_false_header_is_denied(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    found = _inspect(tmp_path, {**GOOD, **change})
    assert found.verdict is Verdict.DENY
    assert says in found.findings[0].message


@pytest.mark.parametrize(
    ("header", "data", "length", "says"),
    [
        (json.dumps(GOOD).encode(), b"\0" * 20, None, "bytes follow the last tensor"),
        (json.dumps(GOOD).encode(), b"\0" * 18, None, "truncated"),
        (json.dumps(GOOD).encode(), b"", 5000, "truncated"),
        (b'{"a": 1, "a": 2}', b"", None, "twice"),
        (b"{not json", b"", None, "no valid JSON"),
        (b"{" * 100_000, b"", None, "no valid JSON"),
    ],
)
def test_false_bytes_are_denied(tmp_path: Path, header: bytes, data: bytes, length: int | None, says: str) -> None:
    found = _inspect(tmp_path, header, data, length)
    assert found.verdict is Verdict.DENY
    assert says in found.findings[0].message
