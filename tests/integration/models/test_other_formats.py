"""XGBoost, LightGBM, skops, pandas, TensorFlow graphs, 7z: real files pass, what acts or is damaged does not."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import lightgbm
import numpy
import pandas  # type: ignore[import-untyped]
import pytest
import skops.io
import xgboost
from sklearn import ensemble, linear_model, model_selection, neighbors, pipeline, preprocessing

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

RANDOM = numpy.random.RandomState(0)
ROWS = pandas.DataFrame(RANDOM.rand(60, 4), columns=list("abcd"))
CLASSES = (ROWS["a"] > 0.5).astype(int)


def _inspect(folder: Path, data: bytes, name: str = "model.bin", **policy: Any) -> Inspection:
    (folder / name).write_bytes(data)
    return inspect_file(str(folder / name), Policy(**policy))


def _saved(folder: Path, save: Any, ending: str) -> bytes:
    save(str(folder / f"saved.{ending}"))
    return (folder / f"saved.{ending}").read_bytes()


@pytest.fixture(scope="module")
def boosted() -> Any:
    return xgboost.XGBClassifier(n_estimators=3).fit(ROWS, CLASSES)


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_xgboost(tmp_path: Path, boosted: Any, ending: str) -> None:
    data = _saved(tmp_path, boosted.save_model, ending)
    found = _inspect(tmp_path, data)
    assert (found.verdict, found.anatomy.format, found.anatomy.n_features_in) == (Verdict.ALLOW, "xgboost", 4), (
        found.findings
    )
    assert found.anatomy.feature_names == ("a", "b", "c", "d")
    for bad in (
        data[:-10],
        data[: len(data) // 2],
        data + b"\0",
        data.replace(b"gradient_booster", b"gradient_boostex"),
    ):
        assert _inspect(tmp_path, bad).verdict is Verdict.DENY


def test_lightgbm(tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(ROWS, CLASSES)
    data = _saved(tmp_path, model.booster_.save_model, "txt")
    found = _inspect(tmp_path, data)
    assert (found.verdict, found.anatomy.format, found.anatomy.n_features_in) == (Verdict.ALLOW, "lightgbm", 4), (
        found.findings
    )
    for bad in (data[: data.index(b"end of trees")], data.replace(b"Tree=1\n", b"Xree=1\n"), data + b"\0"):
        assert _inspect(tmp_path, bad).verdict is Verdict.DENY
    assert _inspect(tmp_path, pickle.dumps(model)).verdict is Verdict.ALLOW


def test_pickles_of_xgboost_and_pandas(tmp_path: Path, boosted: Any) -> None:
    frame = ROWS.assign(
        k=pandas.Categorical(["a", "b"] * 30),
        t=pandas.Timestamp("2026-01-01"),
        s="x",
        i=pandas.array([1, None] * 30, dtype="Int64"),
    )
    things = {
        "booster": boosted.get_booster(), "model": boosted, "frame": frame, "series": frame["s"], "index": frame.set_index(["s", "i"]),
        "dates": pandas.date_range("2026-01-01", periods=3), "periods": pandas.Series(pandas.period_range("2026-01", periods=2, freq="M")),
        "intervals": pandas.Series([pandas.Interval(0, 1)]), "sparse": pandas.arrays.SparseArray([0, 0, 1]),
    }  # fmt: skip
    for name, thing in things.items():
        for protocol in (2, 4, 5):
            found = _inspect(tmp_path, pickle.dumps(thing, protocol))
            assert found.verdict is Verdict.ALLOW, (name, protocol, found.findings)


@pytest.fixture(scope="module")
def estimators() -> dict[str, Any]:
    return {
        "forest": ensemble.RandomForestClassifier(3).fit(ROWS, CLASSES),
        "pipeline": pipeline.make_pipeline(
            preprocessing.FunctionTransformer(numpy.log1p), linear_model.LogisticRegression()).fit(ROWS.to_numpy(), CLASSES),
        "search": model_selection.GridSearchCV(linear_model.SGDClassifier(), {"alpha": [0.1, 0.2]}).fit(ROWS, CLASSES),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=3).fit(ROWS, CLASSES),
        "bytes": preprocessing.FunctionTransformer(numpy.log1p, kw_args={"a": b"\0\1raw", "b": bytearray(b"\xff")}),
        "k-d tree": neighbors.KNeighborsClassifier(algorithm="kd_tree").fit(ROWS, CLASSES),
    }  # fmt: skip


def test_skops(tmp_path: Path, estimators: dict[str, Any]) -> None:
    for name, estimator in estimators.items():
        found = _inspect(tmp_path, skops.io.dumps(estimator))
        assert (found.verdict, found.anatomy.format) == (Verdict.ALLOW, "skops"), (name, found.findings)


def _changed(data: bytes, **change: Any) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                schema["content"]["content"]["evil"] = {"__id__": 1, **change}
                content = json.dumps(schema).encode()
            new.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("node", "verdict"),
    [
        ({"__loader__": "ObjectNode", "__module__": "os", "__class__": "system", "content": None}, "deny"),
        ({"__loader__": "FunctionNode", "__module__": "builtins", "__class__": "function",
          "content": {"module_path": "os", "function": "system"}}, "deny"),
        ({"__loader__": "MethodNode", "__module__": "builtins", "__class__": "method",
          "content": {"__module__": "subprocess", "__class__": "Popen"}}, "deny"),  # CVE-2025-54413
        ({"__loader__": "OperatorFuncNode", "__module__": "operator", "__class__": "methodcaller", "attrs": None}, "deny"),  # CVE-2025-54412
        ({"__loader__": "ObjectNode", "__module__": "mine", "__class__": "Clip", "content": None}, "review"),
    ],
)  # fmt: skip
def test_types_in_a_skops_schema(
    tmp_path: Path, estimators: dict[str, Any], node: dict[str, Any], verdict: str
) -> None:
    found = _inspect(tmp_path, _changed(skops.io.dumps(estimators["forest"]), **node))
    assert found.verdict.value == verdict, found.findings


def _field(number: int, data: bytes) -> bytes:
    length = len(data)
    return (
        bytes([number << 3 | 2])
        + (bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7]))
        + data
    )


def _graph(*operators: str, inside: str = "") -> bytes:
    nodes = b"".join(_field(1, _field(1, b"n") + _field(2, name.encode())) for name in operators)
    library = _field(2, _field(1, _field(3, _field(1, b"m") + _field(2, inside.encode())))) if inside else b""
    return nodes + library


def _saved_model(graph: bytes) -> bytes:
    return b"\x08\x01" + _field(2, _field(1, _field(4, b"serve")) + _field(2, graph))


@pytest.mark.parametrize(
    ("graph", "verdict"),
    [
        (_graph("Placeholder", "MatMul", "VarHandleOp"), "allow"),
        (_graph("Placeholder", inside="MatMul"), "allow"),
        (_graph("Placeholder", "ReadFile"), "deny"), (_graph("Placeholder", "WriteFile"), "deny"),
        (_graph("Placeholder", inside="EagerPyFunc"), "deny"), (_graph("Placeholder", "MineOwn"), "review"),
        (_graph("Placeholder", "LoadDataset"), "review"),
    ],
)  # fmt: skip
def test_graphs_of_tensorflow(tmp_path: Path, graph: bytes, verdict: str) -> None:
    for data, name in ((_saved_model(graph), "savedmodel"), (graph, "frozen-graph")):
        found = _inspect(tmp_path, data)
        assert (found.verdict.value, found.anatomy.format) == (verdict, name), found.findings
        assert _inspect(tmp_path, data[:-1]).verdict is Verdict.DENY
    allowed = _inspect(
        tmp_path, _saved_model(_graph("Placeholder", "MineOwn")), allow_operators=frozenset(["tensorflow:MineOwn"])
    )
    assert allowed.verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 64, "a 7z archive"), (b"GGUF" + b"\0" * 64, "a GGUF file"), (b"Rar!\x1a\x07\x00" + b"\0" * 64, "a RAR archive"),
        (b"\x7fELF" + b"\0" * 64, "a program"), (b"<!DOCTYPE html><html>404</html>", "a web page"), (struct.pack("<64d", *range(64)), "no format"),
    ],
)  # fmt: skip
def test_what_is_refused_is_called_by_its_name(tmp_path: Path, data: bytes, says: str) -> None:
    found = _inspect(tmp_path, data)
    assert found.verdict is Verdict.DENY
    assert says in found.findings[0].message
