"""Paths in TensorFlow's graphs: the loader's and assets pass, the file's own and clients' do not.

TensorFlow is not installed here: the graphs are written as it writes them. Those that save to a path of
their own were also run by TensorFlow 2.21, where each wrote its file; real ones are in `real/`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy


def _field(number: int, data: bytes) -> bytes:
    length = len(data)
    sized = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + sized + data


def _entry(number: int, key: str, value: bytes) -> bytes:
    return _field(number, _field(1, key.encode()) + _field(2, value))


def _node(name: str, operator: str, *inputs: str, **attributes: bytes) -> bytes:
    texts = b"".join(_field(3, one.encode()) for one in inputs)
    return _field(1, name.encode()) + _field(2, operator.encode()) + texts + b"".join(
        _entry(5, key, value) for key, value in attributes.items())  # fmt: skip


def _const(name: str, *texts: str) -> bytes:
    return _node(name, "Const", value=_field(8, b"".join(_field(8, text.encode()) for text in texts)))


def _call(name: str, function: str, *inputs: str, operator: str = "StatefulPartitionedCall") -> bytes:
    return _node(name, operator, *inputs, f=_field(10, _field(1, function.encode())))


def _function(name: str, arguments: tuple[str, ...], *nodes: bytes) -> bytes:
    signature = _field(1, name.encode()) + b"".join(_field(2, _field(1, one.encode())) for one in arguments)
    return _field(1, signature) + b"".join(_field(3, one) for one in nodes)


def _meta(nodes: tuple[bytes, ...], functions: tuple[bytes, ...] = (), more: bytes = b"") -> bytes:
    library = _field(2, b"".join(_field(1, one) for one in functions))
    graph = b"".join(_field(1, one) for one in nodes) + library
    return _field(1, _field(4, b"serve")) + _field(2, graph) + _field(3, _field(1, b"saver:0")) + more


def _inspect(folder: Path, meta: bytes, *allowed: str) -> Inspection:
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + _field(2, meta))
    return inspect_file(str(folder / "saved_model.pb"), Policy(allow_operators=frozenset(allowed)))


SAVER = _node("saver", "Placeholder")
OLD = (
    _const("input", "model"),
    _node("name", "PlaceholderWithDefault", "input"),
    _node("saver", "PlaceholderWithDefault", "name"),
)
OTHER = _node("other", "Placeholder")
EVIL = _const("evil", "/tmp/x")
PART = _node("join", "StringJoin", "saver", "part")
SEPARATOR = _field(2, b"/../../x")
VARIABLE = (_node("v", "VarHandleOp", shared_name=_field(2, b"v")), _node("path", "ReadVariableOp", "v"))


@pytest.mark.parametrize(
    ("nodes", "path", "verdict"),
    [
        ((SAVER,), "saver:0", "allow"),
        (OLD, "saver", "allow"),
        ((SAVER, _const("part", "_temp_0123456789abcdef/part"), PART, _node("path", "ShardedFilename", "join", "n", "n")), "path:0", "allow"),
        ((SAVER, _const("a", ".part"), _const("b", "_temp/part"), _node("part", "Select", "c", "a", "b"), PART), "join", "allow"),
        ((SAVER, _node("path", "Identity", "saver")), "path", "allow"),
        ((EVIL,), "evil", "deny"),
        ((EVIL, _node("path", "Identity", "evil")), "path", "deny"),
        ((OTHER,), "other", "deny"),
        ((SAVER, _node("path", "Const", "^saver", value=_field(8, _field(8, b"/tmp/x")))), "path", "deny"),
        ((EVIL, _node("path", "PlaceholderWithDefault", "evil")), "path", "deny"),
        ((EVIL, _node("saver", "PlaceholderWithDefault", "evil")), "saver", "deny"),
        ((EVIL, OTHER, _node("path", "StringJoin", "other", "evil")), "path", "deny"),
        ((SAVER, _const("part", "/../../../tmp/x"), PART), "join", "deny"),
        ((SAVER, _const("part", ".part"), _node("path", "StringJoin", "saver", "part", separator=SEPARATOR)), "path", "deny"),
        ((SAVER, _node("path", "StaticRegexReplace", "saver", rewrite=_field(2, b"/tmp/x"))), "path", "deny"),
        ((_node("path", "Const", value=_field(8, _field(4, b"\6/tmp/x"))),), "path", "deny"),
        ((), "nowhere", "deny"),
        ((*VARIABLE, EVIL, _node("set", "AssignVariableOp", "v", "evil")), "path", "deny"),
        ((*VARIABLE, SAVER, _node("set", "AssignVariableOp", "v", "saver")), "path", "allow"),
        ((*VARIABLE, SAVER, _node("set", "AssignVariableOp", "v", "saver"), _call("any", "f", "v")), "path", "deny"),
        (VARIABLE, "path", "deny"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("saver", ["SaveV2", "RestoreV2", "MergeV2Checkpoints"])
def test_the_path_of_a_saver(tmp_path: Path, saver: str, nodes: tuple[bytes, ...], path: str, verdict: str) -> None:
    inputs = (path, path) if saver == "MergeV2Checkpoints" else (path, "names", "slices")
    found = _inspect(tmp_path, _meta((*nodes, _node("save", saver, *inputs))))
    assert found.verdict.value == verdict, found.findings
    assert {finding.rule for finding in found.findings} == (set() if verdict == "allow" else {"tensorflow-path"})


def test_what_a_client_may_hand_in_is_no_loaders_path(tmp_path: Path) -> None:
    nodes = (SAVER, _node("save", "SaveV2", "saver", "names", "slices"))
    assert _inspect(tmp_path, _meta(nodes)).verdict is Verdict.ALLOW
    signature = _entry(5, "serving_default", _entry(1, "name", _field(1, b"saver:0")))
    assert _inspect(tmp_path, _meta(nodes, more=signature)).verdict is Verdict.DENY
    assert _inspect(tmp_path, _meta(nodes, more=_field(3, _field(1, b"other:0")))).verdict is Verdict.DENY


SAVE = _function("save", ("prefix", "value"), _node("s", "SaveV2", "prefix", "names", "slices", "value"))


@pytest.mark.parametrize(
    ("nodes", "more", "verdict"),
    [
        ((SAVER, _call("c", "save", "saver", "x")), b"", "allow"),
        ((SAVER, EVIL, _call("c", "save", "saver", "x"), _call("d", "save", "evil", "x")), b"", "deny"),
        ((SAVER, _call("c", "save", "saver", "x", operator="While")), b"", "deny"),
        ((SAVER, _call("c", "save", "saver", "x"), _node("d", "save", "evil")), b"", "deny"),
        ((SAVER,), b"", "deny"),  # nothing in the graph calls it: whoever loads the model may
        ((SAVER, _call("c", "save", "saver", "x")), _field(7, _entry(2, "save", b"")), "deny"),
        ((SAVER, _call("c", "save", "saver", "x")), _field(7, _field(1, _field(9, b"")) + _entry(2, "save", _field(2, b"\0\0"))), "deny"),
        ((SAVER, _call("c", "save", "saver", "x")), _field(7, _field(1, _field(5, b"")) + _entry(2, "save", _field(2, b"\0\0"))), "allow"),
    ],
)  # fmt: skip
def test_a_path_that_comes_through_a_function(
    tmp_path: Path, nodes: tuple[bytes, ...], more: bytes, verdict: str
) -> None:
    found = _inspect(tmp_path, _meta(nodes, (SAVE,), more))
    assert found.verdict.value == verdict, found.findings


def _asset(file: str, old: bool = False) -> bytes:
    asset = _field(1, _field(1, b"asset:0")) + _field(2, file.encode())
    return _entry(4, "saved_model_assets", _field(5, _field(1, _field(2, asset)))) if old else _field(6, asset)


TABLE = _node("t", "InitializeTableFromTextFileV2", "table", "asset")


@pytest.mark.parametrize(
    ("asset", "more", "verdict"),
    [
        (_node("asset", "Placeholder"), _asset("words.txt"), "allow"),
        (_const("asset", "words.txt"), _asset("words.txt"), "allow"),
        (_const("asset", "words.txt"), _asset("words.txt", old=True), "allow"),
        (_const("asset", "/train/words.txt"), _asset("words.txt"), "review"),
        (_const("asset", "/etc/passwd"), b"", "deny"),
        (_node("asset", "Placeholder"), b"", "deny"),
        (_const("asset", "../x"), _asset("../x"), "deny"),
        (_const("asset", "/x"), _asset("/x", old=True), "deny"),
    ],
)
def test_the_file_of_a_table(tmp_path: Path, asset: bytes, more: bytes, verdict: str) -> None:
    found = _inspect(tmp_path, _meta((asset, TABLE), more=more))
    assert found.verdict.value == verdict, found.findings
    if verdict == "review":
        allowed = _inspect(tmp_path, _meta((asset, TABLE), more=more), found.findings[0].allow)
        assert allowed.verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("node", "verdict"),
    [
        (_node("n", "FixedUnigramCandidateSampler", vocab_file=_field(2, b"")), "allow"),
        (_node("n", "FixedUnigramCandidateSampler", vocab_file=_field(2, b"/etc/passwd")), "deny"),
        (_node("n", "FixedUnigramCandidateSampler", vocab_file=_field(9, b"file")), "deny"),
        (_node("n", "DecodeProtoV2", descriptor_source=_field(2, b"local://")), "allow"),
        (_node("n", "DecodeProtoV2", descriptor_source=_field(2, b"/etc/passwd")), "deny"),
        (_node("n", "ImmutableConst", memory_region_name=_field(2, b"/etc/passwd")), "deny"),
        (_node("n", "GenerateVocabRemapping", "evil", "evil"), "deny"),
    ],
)
def test_files_that_other_operators_read(tmp_path: Path, node: bytes, verdict: str) -> None:
    found = _inspect(tmp_path, _meta((EVIL, node)))
    assert found.verdict.value == verdict, found.findings
