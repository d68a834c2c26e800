"""What a model file says of itself, read without loading it."""

from __future__ import annotations

import pickle
from pathlib import Path

import joblib
import numpy
import pytest
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ml_deploy.models import anatomy, sandbox

ROWS = numpy.arange(24.0).reshape(8, 3)
LABELS = numpy.array([0, 1] * 4)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return make_pipeline(StandardScaler(), RandomForestClassifier(2, random_state=0)).fit(ROWS, LABELS)


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3), ("lz4", 3)])
def test_a_joblib_file_tells_its_library_version(tmp_path: Path, pipeline: Pipeline, compress: object) -> None:
    file = tmp_path / "model.bin"
    joblib.dump(pipeline, file, compress=compress)
    known = sandbox.read(file)
    assert (known.format, known.framework, known.top) == ("joblib", "scikit-learn", "sklearn.pipeline.Pipeline")
    assert known.compression == (compress[0] if isinstance(compress, tuple) else "")
    assert known.versions == {"scikit-learn": sklearn.__version__}
    assert known.n_features_in == 3
    assert known.requirements() == ("joblib", "numpy>=2", f"scikit-learn=={sklearn.__version__}")


def test_an_onnx_file_tells_inputs_and_outputs(tmp_path: Path, pipeline: Pipeline) -> None:
    from skl2onnx import to_onnx

    file = tmp_path / "model.bin"
    file.write_bytes(to_onnx(pipeline, ROWS[:1].astype(numpy.float32), options={"zipmap": False}).SerializeToString())
    known = sandbox.read(file)
    assert known.format == "onnx"
    assert known.inputs == (anatomy.Tensor(name="X", dtype="float32", shape=(None, 3)),)
    assert [output.name for output in known.outputs] == ["label", "probabilities"]
    assert known.opsets["ai.onnx.ml"] >= 1
    assert "TreeEnsembleClassifier" in known.operators


def test_it_survives_the_way_through_json(tmp_path: Path, pipeline: Pipeline) -> None:
    joblib.dump(pipeline, tmp_path / "model.bin")
    known = sandbox.read(tmp_path / "model.bin")
    assert anatomy.from_dict(known.as_dict()) == known


REAL = Path(__file__).parent / "real"


@pytest.mark.parametrize(
    ("name", "top", "numbers", "biggest"),
    [
        ("torch-checkpoint.pt", "dict", 5302, "rng: uint8[5056]"),
        ("torch-checkpoint.pth", "dict", 5302, "rng: uint8[5056]"),
        ("torch-tensors.pt", "dict", 46, "view: float32[3, 4]"),
        ("torch-module.pt", "torch.nn.modules.container.Sequential", 91, "weight: float32[8, 4]"),
        ("torch-dtypes.pt", "dict", None, "float16: float16[3]"),  # some storages do not tell their type
        ("torch-plain.pkl", "collections.OrderedDict", None, None),  # its storages are files in strings
        ("keras-table.keras", "Sequential", 5, "/layers/dense/vars/0: float32[4, 1]"),
        ("keras-image.h5", "", 58, "/model_weights/dense_2/sequential/dense_2/kernel: float32[18, 2]"),
        ("statsmodels-logit.pkl", "statsmodels.discrete.discrete_model.BinaryResultsWrapper", 324, "orig_exog: float64[60, 3]"),
    ],
)  # fmt: skip
def test_numbers_and_tensors(name: str, top: str, numbers: int | None, biggest: str | None) -> None:
    known = sandbox.read(REAL / name)
    shown = [f"{one.name}: {one.dtype}{list(one.shape)}" for one in known.tensors[:1]]
    assert (known.top, known.parameters, shown) == (top, numbers, [biggest] if biggest else [])


def test_a_saved_model_tells_its_version_and_what_it_serves() -> None:
    known = sandbox.read(REAL / "tensorflow-saved-model.tar.gz")
    assert known.versions == {"tensorflow": "2.21.0"}
    assert known.inputs == (anatomy.Tensor(name="rows", dtype="float32", shape=(None, 2)),)
    assert known.outputs == (anatomy.Tensor(name="output_0", dtype="float32", shape=(None, 1)),)


def test_keras_tells_its_inputs() -> None:
    (one,) = sandbox.read(REAL / "keras-table.keras").inputs
    assert (one.dtype, one.shape) == ("float32", (None, 4))


@pytest.mark.parametrize("protocol", [2, 4, 5, None])
def test_arrays_count_once_objects_and_texts_not_at_all(tmp_path: Path, protocol: int | None) -> None:
    weights = numpy.zeros((30, 4))
    records = numpy.zeros(10, [("left", "i8"), ("gain", "f8")])
    holds = {"weights": weights, "names": numpy.array(["a", "b"]), "things": numpy.array([None, "x"]),
             "counts": numpy.zeros(3, "u1"), "records": records}  # fmt: skip
    if protocol is None:
        joblib.dump(holds, tmp_path / "model.bin")
    else:  # joblib writes an array again whenever it meets it
        (tmp_path / "model.bin").write_bytes(pickle.dumps({**holds, "again": weights}, protocol))
    known = sandbox.read(tmp_path / "model.bin")
    assert known.parameters == 120 + 3 + 20
    assert [(one.name, one.dtype, one.shape) for one in known.tensors] == [
        ("weights", "float64", (30, 4)), ("counts", "uint8", (3,))]  # fmt: skip


def test_boosted_trees_tell_their_trees_and_no_numbers_beside_them(tmp_path: Path) -> None:
    from lightgbm import LGBMClassifier
    from xgboost import XGBClassifier

    xgboost = XGBClassifier(n_estimators=3).fit(ROWS, LABELS)
    lightgbm = LGBMClassifier(n_estimators=4, min_child_samples=1, verbose=-1).fit(ROWS, LABELS)
    for name in ("model.json", "model.ubj"):
        xgboost.save_model(tmp_path / name)
        assert sandbox.read(tmp_path / name).trees == 3
    lightgbm.booster_.save_model(tmp_path / "model.txt")
    assert sandbox.read(tmp_path / "model.txt").trees == 4
    joblib.dump(lightgbm, tmp_path / "model.joblib")
    assert sandbox.read(tmp_path / "model.joblib").parameters is None


def test_skops_tells_the_version_of_scikit_learn(tmp_path: Path, pipeline: Pipeline) -> None:
    import skops.io

    skops.io.dump(pipeline, tmp_path / "model.skops")
    assert sandbox.read(tmp_path / "model.skops").versions["scikit-learn"] == sklearn.__version__
