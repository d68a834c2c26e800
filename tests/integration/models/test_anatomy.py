"""What a model file says of itself, read without loading it."""

from __future__ import annotations

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
