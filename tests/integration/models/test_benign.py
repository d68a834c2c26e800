"""Real models are allowed: every estimator of scikit-learn, pipelines, searches, in every way to save them."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from scipy import sparse
from sklearn import (
    compose,
    ensemble,
    feature_extraction,
    linear_model,
    model_selection,
    neighbors,
    pipeline,
    preprocessing,
)
from sklearn.utils import all_estimators

from ml_deploy.models import sandbox
from ml_deploy.models.findings import Verdict

RANDOM = numpy.random.RandomState(0)
ROWS = RANDOM.rand(40, 4)
CLASSES = (ROWS[:, 0] > 0.5).astype(int)
NUMBERS = ROWS @ [1, 2, 3, 4]
TEXTS = ["good model", "bad model", "good data", "bad data"] * 5


def _fitted(estimator: Any) -> Any | None:
    """The estimator, fitted on whatever it takes; None when it takes nothing of ours."""
    for data in ((ROWS, CLASSES), (ROWS, NUMBERS), (ROWS,), (TEXTS,), ([{"a": 1}, {"b": 2}],), (ROWS[:, 0], NUMBERS),
                 ([[1, 2], [3]],), (ROWS, numpy.c_[NUMBERS, NUMBERS]), (ROWS, numpy.c_[CLASSES, 1 - CLASSES]),
                 (ROWS @ ROWS.T,)):  # fmt: skip
        try:
            return estimator.fit(*data)
        except Exception:
            continue
    return None


def _estimators() -> Iterator[tuple[str, Any]]:
    for name, cls in all_estimators():
        for arguments in ((), (linear_model.LogisticRegression(),)):
            try:
                estimator = _fitted(cls(*arguments))
            except TypeError:
                continue
            if estimator is not None:
                yield name, estimator
                break


def _compositions() -> Iterator[tuple[str, Any]]:
    forest = ensemble.RandomForestClassifier(3, random_state=0)
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), forest)
    yield "pipeline", scaled.fit(ROWS, CLASSES)
    yield (
        "tf-idf",
        pipeline.make_pipeline(
            feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2)), linear_model.LogisticRegression()
        ).fit(TEXTS, [0, 1] * 10),
    )
    columns = compose.ColumnTransformer([("a", preprocessing.OneHotEncoder(), [0]), ("b", "passthrough", [1, 2])])
    yield "column transformer", columns.fit(ROWS.round())
    search = model_selection.GridSearchCV(scaled, {"randomforestclassifier__max_depth": [1, 2]}, cv=2, scoring="f1")
    yield "grid search", search.fit(ROWS, CLASSES)
    yield (
        "stacking",
        ensemble.StackingClassifier([("f", forest), ("l", linear_model.LogisticRegression())]).fit(ROWS, CLASSES),
    )
    yield "k-d tree", neighbors.KNeighborsRegressor(algorithm="kd_tree").fit(ROWS, NUMBERS)
    yield "ufunc", preprocessing.FunctionTransformer(numpy.log1p).fit(ROWS)
    yield "plain values", {"sparse": sparse.csr_matrix(ROWS), "random": RANDOM, "generator": numpy.random.default_rng(0),
                           "masked": numpy.ma.masked_array([1, 2], [False, True]), "objects": numpy.array([None, "a", 1.5], object),
                           "structured": numpy.zeros(3, [("a", "f8"), ("b", "S3")]), "dates": numpy.array(["2026-01-01"], "M8[D]"),
                           "text": numpy.array(["ä", "b"]), "scalar": numpy.float32(1), "fortran": numpy.asfortranarray(ROWS)}  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {**dict(_estimators()), **dict(_compositions())}


def _save(models: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Each model pickled (in turn in every protocol) and through joblib (in turn in every compression)."""
    ways = [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3), ("lz4", 3)]
    saved = {}
    for number, (name, model) in enumerate(models.items()):
        pickled = io.BytesIO()
        try:
            pickle.dump(model, pickled, protocol=number % 6)
        except (pickle.PicklingError, TypeError, AttributeError):
            continue
        saved[f"{name} (pickle {number % 6})"] = folder / f"{number}.pickle"
        saved[f"{name} (pickle {number % 6})"].write_bytes(pickled.getvalue())
        saved[f"{name} (joblib {ways[number % 7]})"] = folder / f"{number}.joblib"
        joblib.dump(model, folder / f"{number}.joblib", compress=ways[number % 7])
    return saved


def test_real_models_are_allowed(models: dict[str, Any], tmp_path: Path) -> None:
    saved = _save(models, tmp_path)
    assert len(saved) > 380
    found = dict(zip(saved, sandbox.inspect(list(saved.values())), strict=True))
    stopped = {
        name: [f.message for f in one.findings] for name, one in found.items() if one.verdict is not Verdict.ALLOW
    }
    assert stopped == {}


def test_feature_names_are_read(tmp_path: Path) -> None:
    model = preprocessing.StandardScaler().fit(ROWS)
    model.feature_names_in_ = numpy.array(["age", "income", "visits", "score"], dtype=object)
    joblib.dump(model, tmp_path / "model.joblib")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    for name in ("model.joblib", "model.pkl"):
        assert sandbox.read(tmp_path / name).feature_names == ("age", "income", "visits", "score")
