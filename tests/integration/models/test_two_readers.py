"""What one loader sees and another one does not: by names, by places, by the last of two values, in folders.

Each of these was allowed once, and did what it says to the library that is named, unless it is said otherwise.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.preprocessing import StandardScaler
from tests.integration.models.payloads import Raw, call, file, named, touch, value

from ml_deploy.errors import InputError
from ml_deploy.models.digest import model_files
from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

EVIL = file(touch("/nowhere"))
GOOD = pickle.dumps(StandardScaler().fit([[1.0], [2.0]]))
NODE = b"\n\x01n\x12\x04NoOp"


def _inspect(folder: Path, data: bytes, name: str = "model.bin", *, beside: bool = False) -> Inspection:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return inspect_file(str(path), Policy(), companions=beside)


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _rules(found: Inspection) -> set[str]:
    return {finding.rule for finding in found.findings}


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def _saved(*nodes: bytes) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes)
    return b"\x08\x01" + _field(2, _field(1, _field(4, b"serve")) + _field(2, graph))


_WRITES = _field(1, _field(1, b"n") + _field(2, b"WriteFile"))
_CUT = b"\x92\x80\x80\x80\x10" + bytes([len(_WRITES)]) + _WRITES  # a number of 33 bits, which some cut to 2


def test_names_that_torch_does_not_tell_apart(tmp_path: Path) -> None:
    members = {"archive/data.pkl": b"\x80\x02}.", "archive/DATA.PKL": b"\x80\x02}.", "archive/version": b"3\n"}
    assert _rules(_inspect(tmp_path, _zip(members))) == {"zip-mismatch"}


def test_a_zip_of_two_formats(tmp_path: Path) -> None:
    """Keras takes its configuration, and skops its schema, which nobody would have looked at."""
    keras = {"config.json": b'{"class_name": "Sequential", "config": {}}', "metadata.json": b"{}", "w.pkl": GOOD}
    assert _inspect(tmp_path, _zip(keras)).verdict is Verdict.ALLOW
    schema = {"__class__": "system", "__module__": "posix", "__loader__": "FunctionNode"}
    found = _inspect(tmp_path, _zip({**keras, "schema.json": json.dumps(schema).encode()}))
    assert [(f.verdict, f.rule) for f in found.findings] == [(Verdict.DENY, "zip-mismatch")]


def test_members_counted_otherwise(tmp_path: Path) -> None:
    data = _zip({"a.pkl": GOOD, "b.pkl": GOOD})
    end = data.rindex(b"PK\x05\x06")
    fewer = data[: end + 8] + struct.pack("<HH", 1, 1) + data[end + 12 :]
    assert _inspect(tmp_path, data).verdict is Verdict.ALLOW
    assert _rules(_inspect(tmp_path, fewer)) == {"zip-mismatch"}


def test_a_tar_goes_on_behind_its_end(tmp_path: Path) -> None:
    """GNU tar's `--ignore-zeros` reads on; Python's tarfile has the next ten kilobytes in its own buffer."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("model.pkl")
        info.size = len(GOOD)
        archive.addfile(info, io.BytesIO(GOOD))
    data, end = stream.getvalue(), 512 + -(-len(GOOD) // 512) * 512 + 1024
    assert _inspect(tmp_path, data).verdict is Verdict.ALLOW
    assert _rules(_inspect(tmp_path, data[:end] + EVIL + data[end + len(EVIL) :])) == {"trailing-data"}


@pytest.mark.parametrize("ending", ["pkl", "h5", "pb", "pt"])
def test_a_members_name_promises_another_format(tmp_path: Path, ending: str) -> None:
    header = b'{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    inner = struct.pack("<Q", len(header)) + header + b"x"
    assert _inspect(tmp_path, _zip({"m/w.safetensors": inner})).verdict is Verdict.ALLOW
    found = _inspect(tmp_path, _zip({f"m/model.{ending}": inner}))
    assert [(f.verdict, f.rule, f.member) for f in found.findings] == [
        (Verdict.REVIEW, "format-mismatch", f"m/model.{ending}")
    ]
    assert _rules(_inspect(tmp_path, b"only a text", f"model.{ending}", beside=True)) == {"format-mismatch"}


def test_a_text_that_is_a_pickle_in_c_only(tmp_path: Path) -> None:
    """`I010` is eight to CPython's C, and an error to its Python."""
    text = b"I010\n0cposix\nsystem\n(S'touch /nowhere'\ntR."
    assert "pickle-global" in _rules(_inspect(tmp_path, text, "settings.cfg", beside=True))
    for harmless in (b"I am a text.\n", b"(see below)\n", b"N.B.: 010\n"):
        assert _inspect(tmp_path, harmless, "notes.txt", beside=True).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    "data",
    [
        _saved(_field(1, b"n") + _field(2, b"NoOp") + _field(2, b"WriteFile")),  # protobuf takes the last
        _saved(NODE) + _field(1, _field(1, b"x") + _field(2, b"ReadFile")),  # a SavedModel, and a graph
        b"\x08\x01" + _field(2, _field(1, _field(4, b"serve")) + _field(2, _field(1, NODE)) + _CUT),
    ],
)  # fmt: skip
def test_graphs_that_readers_understand_differently(tmp_path: Path, data: bytes) -> None:
    assert _inspect(tmp_path, data).verdict is Verdict.DENY
    assert _inspect(tmp_path, _saved(NODE)).verdict is Verdict.ALLOW


def test_a_saved_model_that_begins_like_a_graph(tmp_path: Path) -> None:
    """TensorFlow goes by the file's name and ignores the nodes."""
    data = _field(1, NODE) + _saved(_field(1, b"n") + _field(2, b"WriteFile"))[2:]
    assert _inspect(tmp_path, data, "saved_model.pb").verdict is Verdict.DENY
    assert _inspect(tmp_path, _field(1, NODE), "frozen.pb").verdict is Verdict.ALLOW
    assert _inspect(tmp_path, b"meta_graphs {}\n", "saved_model.pbtxt", beside=True).verdict is Verdict.DENY


LAMBDA = {"module": "keras", "class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}}


@pytest.mark.parametrize("more", [{}, {"learner": {"gradient_booster": {}}, "version": [3, 2, 0]}])
def test_a_configuration_of_keras_as_a_text(tmp_path: Path, more: dict[str, Any]) -> None:
    """In an unpacked .keras, beside weights, in a zip without metadata; and in what is a model of XGBoost's, too."""
    text = json.dumps({**more, **LAMBDA}).encode()
    assert _rules(_inspect(tmp_path, text, "config.json", beside=True)) == {"keras-layer"}
    assert _inspect(tmp_path, b"\xef\xbb\xbf" + text, "config.json", beside=True).verdict is Verdict.DENY
    assert _rules(_inspect(tmp_path, _zip({"config.json": text, "model.pkl": GOOD}))) == {"keras-layer"}
    assert _inspect(tmp_path, b'{"model_type": "bert"}', "config.json", beside=True).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("layer", "verdict"),
    [
        ({"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}, "deny"),
        ({"module": "keras.src.models.model", "class_name": "model_from_json", "config": {}}, "deny"),
        ({"module": "keras.src.models.model", "class_name": "function", "config": "model_from_json"}, "deny"),
        ({"module": "keras.src.layers", "class_name": "_private", "config": {}}, "deny"),
        ({"module": "tf_keras.src.layersx", "class_name": "Evil", "config": {}}, "review"),
        ({"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}, "allow"),
        ({"module": "keras.activations", "class_name": "function", "config": "relu"}, "allow"),
        ({"module": "keras.src.models.functional", "class_name": "Functional", "config": {}}, "allow"),
    ],
)  # fmt: skip
def test_functions_and_modules_of_keras(tmp_path: Path, layer: dict[str, Any], verdict: str) -> None:
    """Before Keras 3.9 a function of any module could stand where a layer stands, and was called."""
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    assert _inspect(tmp_path, json.dumps(config).encode(), "c.json", beside=True).verdict.value == verdict


@pytest.mark.parametrize("mark", ["m/archive_format", "serialized_exported_program.json"])
def test_what_torch_export_saves(tmp_path: Path, mark: str) -> None:
    """`torch.export.load` evaluates the texts of expressions."""
    found = _inspect(tmp_path, _zip({mark: b"pt2", "m/models/model.json": b"{}", "m/w.pkl": GOOD}), "model.pt2")
    assert [(f.verdict, f.rule) for f in found.findings] == [(Verdict.REVIEW, "torchscript-code")]


def test_constructors_that_skops_calls(tmp_path: Path) -> None:
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"/etc/passwd"'}
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text] * 3}
    schema = {
        "__class__": "Booster",
        "__module__": "xgboost.core",
        "__loader__": "ConstructorFromReduceNode",
        "content": arguments,
    }
    found = _inspect(tmp_path, _zip({"schema.json": json.dumps(schema).encode()}))
    assert [(f.verdict, f.construct) for f in found.findings] == [(Verdict.REVIEW, "xgboost.core:Booster")]
    assert _inspect(tmp_path, skops.io.dumps(StandardScaler().fit([[1.0]]))).verdict is Verdict.ALLOW


_FIT = Raw(named("xgboost.core", "Booster").data + b")\x81" + value({"handle": None}) + b"b")


@pytest.mark.parametrize(
    ("thing", "rule"),
    [
        (call("functools", "partial", named("xgboost.core", "Booster"), None, (), "/etc/passwd"), "pickle-global"),
        (call("numpy", "str_", Raw(named("sklearn.base", "BaseEstimator").data + b")\x81")), "pickle-object-argument"),
        (call("builtins", "bytearray", 1 << 40), "pickle-object-argument"),
        (call("fractions", "Fraction", "1e999999999"), "pickle-object-argument"),
        (Raw(b"N" + b"r" + struct.pack("<I", 1 << 30)), "budget"), (Raw(b"Np4294967295\n"), "budget"),
        (call("dill._dill", "_create_array", named("copyreg", "__newobj__"), (named("xgboost.core", "Booster"),),
              {"handle": None}, {"handle": b"\0" * 64}), "pickle-address"),
        (_FIT, None), (call("fractions", "Fraction", "-3/4"), None), (call("builtins", "bytearray", b"x"), None),
    ],
)  # fmt: skip
def test_known_names_with_arguments_that_act(tmp_path: Path, thing: Raw, rule: str | None) -> None:
    assert _rules(_inspect(tmp_path, file(thing))) == ({rule} if rule else set())


def test_links_in_a_models_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.pkl").write_bytes(GOOD)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "evil.pkl").write_bytes(EVIL)
    (tmp_path / "model" / "b.pkl").symlink_to(tmp_path / "elsewhere" / "evil.pkl")
    assert len(model_files([tmp_path / "model"])) == 2, "a link to a file is read as the file"
    (tmp_path / "model" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a link to a folder or to nothing"):
        model_files([tmp_path / "model"])


@pytest.mark.parametrize(
    ("flavor", "rule"),
    [
        ("sklearn: {pickled_model: ../other.pkl}", "mlflow-path"), ("sklearn: {pickled_model: /tmp/m.pkl}", "mlflow-path"),
        ("pytorch: {model_data: 'https://example.com/m'}", "mlflow-path"), ("sklearn: {pickled_model: .git/m.pkl}", "mlflow-path"),
        ("tensorflow: {keras_module: evil}", "mlflow-loader"), ("transformers: {source_model_name: evil/model}", "mlflow-loader"),
        ("transformers: {source_model_name: a/b, model_binary: model}", ""), ("tensorflow: {keras_module: keras, data: m}", ""),
    ],
)  # fmt: skip
def test_what_mlflow_loads_from_elsewhere(tmp_path: Path, flavor: str, rule: str) -> None:
    found = _inspect(tmp_path, f"flavors:\n  {flavor}\n".encode(), "MLmodel", beside=True)
    assert _rules(found) == ({rule} if rule else set())


def test_objects_in_yaml(tmp_path: Path) -> None:
    """`model_from_yaml` of Keras before TensorFlow 2.6 loaded them (CVE-2021-37678)."""
    for text, rules in ((b"a: !!python/object/apply:os.system [id]\n", {"code-file"}), (b"name: env\nb: [1]\n", set())):
        assert _rules(_inspect(tmp_path, text, "model.yaml", beside=True)) == rules


def test_the_module_that_mlflow_unpickles_with(tmp_path: Path) -> None:
    for text, rules in ((b"mlflow.pytorch.pickle_module\n", set()), (b"evil", {"mlflow-loader"})):
        assert _rules(_inspect(tmp_path, text, "data/pickle_module_info.txt", beside=True)) == rules
