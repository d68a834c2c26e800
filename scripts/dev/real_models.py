"""Models of the real libraries, as corpus.py saves them: a function for each library gives names and ways to save.

A file is called `LIBRARY-WHAT.ENDING`; one whose name ends in `.review.ENDING` brings code by design, and must be sent to
review (`.deny.ENDING`: denied).
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real_networks import Named, Save, data, keras, keras_2, pickled, tensorflow, torch


def joblibbed(thing: Any, compress: Any = 0) -> Save:
    import joblib

    return lambda path: joblib.dump(thing, path, compress=compress)


def sklearn() -> Named:
    """Forests, pipelines, boosting, text, searches over distributions, trees of neighbours, data frames as input."""
    for name, model in _sklearn_models():
        for protocol in (0, 2, 4, 5):
            yield f"{name}-{protocol}.pkl", pickled(model, protocol)
        for way in (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3), ("lz4", 3)):
            yield f"{name}-{way[0] if way else 'raw'}.joblib", joblibbed(model, way)  # type: ignore[index]


def _sklearn_models() -> Iterator[tuple[str, Any]]:
    import numpy
    import pandas  # type: ignore[import-untyped]
    from scipy import stats
    from sklearn import (
        calibration,
        compose,
        ensemble,
        feature_extraction,
        gaussian_process,
        impute,
        linear_model,
        metrics,
        mixture,
        model_selection,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
    )

    rows, classes, numbers = data()
    frame = pandas.DataFrame(rows, columns=["age", "income", "visits", "score"])
    frame["city"] = ["a", "b", "c"] * 20
    forest = ensemble.RandomForestClassifier(3, max_depth=3, random_state=0)
    yield "forest", forest.fit(rows, classes)
    yield "gradient-boosting", ensemble.GradientBoostingRegressor(n_estimators=3).fit(rows, numbers)
    yield (
        "hist-boosting",
        ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]).fit(rows.round(), classes),
    )
    columns = compose.ColumnTransformer([
        ("numbers", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["age", "income"]),
        ("city", preprocessing.OneHotEncoder(handle_unknown="ignore"), compose.make_column_selector(pattern="city")),
        ("log", preprocessing.FunctionTransformer(numpy.log1p), ["visits"]),
    ])  # fmt: skip
    yield "columns", pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, classes)
    texts = ["good model", "bad model", "good data", "bad data"] * 15
    yield (
        "tf-idf",
        pipeline.make_pipeline(feature_extraction.text.TfidfVectorizer(), linear_model.SGDClassifier()).fit(
            texts, classes
        ),
    )
    space = {"C": stats.loguniform(1e-3, 1e3), "l1_ratio": stats.uniform(0, 1), "max_iter": stats.randint(50, 100)}
    search = model_selection.RandomizedSearchCV(linear_model.LogisticRegression(solver="saga"), space, n_iter=2, cv=2)
    yield "random-search", search.fit(rows, classes)
    scorer = metrics.make_scorer(metrics.fbeta_score, beta=2)
    grid = model_selection.GridSearchCV(
        forest, {"max_depth": [1, 2]}, scoring=scorer, cv=model_selection.StratifiedKFold(2)
    )
    yield "grid-search", grid.fit(rows, classes)
    yield "kd-tree", neighbors.KNeighborsRegressor(algorithm="kd_tree").fit(rows, numbers)
    yield "ball-tree", neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan").fit(rows, classes)
    yield "calibrated-svm", calibration.CalibratedClassifierCV(svm.SVC(), cv=2, ensemble=False).fit(rows, classes)
    kernel = gaussian_process.kernels.RBF() + gaussian_process.kernels.WhiteKernel()
    yield "gaussian-process", gaussian_process.GaussianProcessRegressor(kernel).fit(rows, numbers)
    yield "mixture", mixture.GaussianMixture(2).fit(rows)
    yield "network", neural_network.MLPClassifier((4,), max_iter=5).fit(rows, classes)
    yield (
        "stacking",
        ensemble.StackingRegressor(
            [("f", ensemble.ExtraTreesRegressor(2, max_depth=2)), ("r", linear_model.RidgeCV())]
        ).fit(rows, numbers),
    )
    yield "isolation", ensemble.IsolationForest(n_estimators=2, max_samples=8).fit(rows)


def values() -> Named:
    """What lies beside estimators: arrays, frames, sparse matrices, ufuncs, distributions, interpolators."""
    import numpy
    import pandas
    from scipy import interpolate, sparse, spatial, special, stats

    rows, _, numbers = data()
    made = {
        "arrays": {"f": numpy.asfortranarray(rows), "o": numpy.array([None, "a", 1.5], object), "d": numpy.array(["2026-01-01"], "M8[D]"),
                   "s": numpy.zeros(3, [("a", "f8"), ("b", "S3")]), "m": numpy.ma.masked_array([1, 2], [False, True]),
                   "r": numpy.rec.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")]), "t": numpy.array(["ä"])},
        "scalars": [numpy.float32(1), numpy.int64(2), numpy.bool_(True), numpy.str_("a"), numpy.datetime64("2026-01-01"), numpy.complex64(1j)],
        "random": [numpy.random.default_rng(0), numpy.random.RandomState(1), numpy.random.Generator(numpy.random.Philox(1)),
                   numpy.random.SeedSequence(3), numpy.random.SFC64(1), numpy.random.MT19937(2)],
        "ufuncs": [numpy.log1p, numpy.add, special.expit, special.logsumexp, numpy.mean, numpy.median],
        "polynomials": [numpy.poly1d([1, 2]), numpy.polynomial.Polynomial([1, 2, 3]), numpy.polynomial.Chebyshev([1])],
        "sparse": [kind(rows.round()) for kind in (sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.bsr_matrix,
                   sparse.lil_matrix, sparse.dok_matrix, sparse.dia_matrix, sparse.csr_array, sparse.coo_array, sparse.csc_array)],
        "trees": [spatial.cKDTree(rows), spatial.KDTree(rows), spatial.ConvexHull(rows) if False else spatial.distance.cosine],
        "interpolators": [interpolate.interp1d(numbers, numbers), interpolate.CubicSpline([1, 2, 3], [1, 4, 9]), interpolate.UnivariateSpline(numpy.arange(9.0), numpy.arange(9.0)),
                          interpolate.RegularGridInterpolator(([1, 2], [1, 2]), [[1, 2], [3, 4]]), interpolate.BSpline([0, 0, 1, 1], [1, 2], 1), interpolate.PchipInterpolator([1, 2, 3], [1, 4, 9])],
        "kde": stats.gaussian_kde(numbers),
        "distributions": [stats.norm(1, 2), stats.uniform(), stats.randint(1, 9), stats.loguniform(1e-3, 1), stats.expon(scale=2), stats.beta(1, 2),
                          stats.gamma(2), stats.lognorm(1), stats.poisson(3), stats.binom(5, 0.5), stats.t(3), stats.truncnorm(-1, 1), stats.norm,
                          stats.reciprocal(1, 2), stats.geom(0.5), stats.bernoulli(0.3), stats.triang(0.5), stats.weibull_min(2)],
        "frame": pandas.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": pandas.Categorical(["u", "v"]), "d": pandas.to_datetime(["2026-01-01", "2026-01-02"]),
                                   "e": pandas.to_timedelta([1, 2], "h"), "f": pandas.array([1, None], "Int64"), "g": pandas.array([True, None], "boolean"),
                                   "h": pandas.array(["p", None], pandas.StringDtype("python")), "i": pandas.period_range("2026-01", periods=2, freq="M"),
                                   "j": pandas.interval_range(0, 2), "k": pandas.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("UTC"),
                                   "l": pandas.arrays.SparseArray([0, 1]), "m": pandas.array([1.5, None], "Float64")}),
        "indexes": [pandas.Index([1, 2]), pandas.RangeIndex(3), pandas.MultiIndex.from_product([["a"], [1, 2]]), pandas.Index(["a", "b"]),
                    pandas.date_range("2026-01-01", periods=3, tz="Europe/Berlin"), pandas.CategoricalIndex(["a", "b"]), pandas.timedelta_range("1h", periods=2)],
        "pandas-scalars": [pandas.Timestamp("2026-01-01", tz="UTC"), pandas.Timedelta("1h"), pandas.Period("2026-01"), pandas.NA, pandas.NaT,
                           pandas.Interval(1, 2), pandas.offsets.Day(2), pandas.offsets.MonthEnd(), pandas.CategoricalDtype(["a"])],
        "series": pandas.Series([1.5, 2.5], index=pandas.date_range("2026-01-01", periods=2, freq="D"), name="x"),
    }  # fmt: skip
    for name, thing in made.items():
        for protocol in (0, 2, 5):
            yield f"{name}-{protocol}.pkl", pickled(thing, protocol)
        yield f"{name}.joblib", joblibbed(thing)
    yield "array.npy", lambda path: numpy.save(path, rows)
    yield "arrays.npz", lambda path: numpy.savez_compressed(path, rows=rows, names=numpy.array(["a", None], object))


def boosted() -> Named:
    """XGBoost and LightGBM: objects, and their own formats."""
    rows, classes, numbers = data()
    if there("xgboost"):
        import xgboost

        for name, model in (("classifier", xgboost.XGBClassifier(n_estimators=3).fit(rows, classes)),
                            ("regressor", xgboost.XGBRegressor(n_estimators=3).fit(rows, numbers)),
                            ("random-forest", xgboost.XGBRFClassifier(n_estimators=2).fit(rows, classes))):  # fmt: skip
            yield f"xgboost-{name}.pkl", pickled(model)
            yield f"xgboost-{name}.joblib", joblibbed(model)
            yield f"xgboost-{name}-booster.pkl", pickled(model.get_booster(), 2)
            for ending in ("json", "ubj"):
                yield f"xgboost-{name}.{ending}", model.save_model
        yield "xgboost-rank.pkl", pickled(xgboost.XGBRanker(n_estimators=2).fit(rows, classes, group=[30, 30]), 5)
        yield "xgboost-dart.json", xgboost.train({"booster": "dart"}, xgboost.DMatrix(rows, numbers), 2).save_model
        yield "xgboost-linear.ubj", xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(rows, numbers), 2).save_model
    if there("lightgbm"):
        import lightgbm

        settings = {"n_estimators": 3, "min_child_samples": 2, "verbose": -1}
        for name, trained in (("classifier", lightgbm.LGBMClassifier(**settings).fit(rows, classes)),
                              ("regressor", lightgbm.LGBMRegressor(**settings).fit(rows, numbers)),
                              ("ranker", lightgbm.LGBMRanker(**settings).fit(rows, classes, group=[30, 30]))):  # fmt: skip
            yield f"lightgbm-{name}.pkl", pickled(trained)
            yield f"lightgbm-{name}.joblib", joblibbed(trained, ("zlib", 3))
            yield f"lightgbm-{name}-booster.pkl", pickled(trained.booster_)
            yield f"lightgbm-{name}.txt", trained.booster_.save_model


def statsmodels() -> Named:
    """Results of regressions and time series, with and without their data and formula."""
    import numpy
    import pandas
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    rows, classes, numbers = data()
    frame = pandas.DataFrame(rows, columns=list("abcd")).assign(y=numbers)
    series = pandas.Series(
        numpy.sin(numpy.arange(48.0)) + rows[:48, 0], index=pandas.date_range("2026-01-01", periods=48, freq="D")
    )
    made = {
        "ols": sm.OLS(numbers, sm.add_constant(rows)).fit(), "wls": sm.WLS(numbers, rows, weights=rows[:, 0]).fit(),
        "glm": sm.GLM(classes, rows, family=sm.families.Binomial()).fit(), "poisson": sm.GLM(classes, rows, family=sm.families.Poisson()).fit(),
        "logit": sm.Logit(classes, rows[:, 1:]).fit(disp=0), "formula": smf.ols("y ~ a + b", frame).fit(), "rlm": sm.RLM(numbers, rows).fit(),
        "arima": sm.tsa.ARIMA(series, order=(1, 0, 1)).fit(), "holt": sm.tsa.ExponentialSmoothing(series, trend="add").fit(),
        "robust": sm.OLS(numbers, rows).fit(cov_type="HC1"), "ets": sm.tsa.ETSModel(numbers + 10).fit(disp=0),
    }  # fmt: skip
    for name, result in made.items():
        yield f"{name}.pkl", pickled(result)
        yield f"{name}.pickle", result.save


def imblearn() -> Named:
    """Samplers, and pipelines with them."""
    from imblearn import ensemble, over_sampling, pipeline
    from sklearn import linear_model

    rows, classes, _ = data()
    yield (
        "smote.pkl",
        pickled(pipeline.make_pipeline(over_sampling.SMOTE(), linear_model.LogisticRegression()).fit(rows, classes)),
    )
    yield "balanced.joblib", joblibbed(ensemble.BalancedRandomForestClassifier(2, max_depth=2).fit(rows, classes))


def other_picklers() -> Named:
    """cloudpickle and dill with plain objects pass, with functions by value they bring code."""
    import cloudpickle
    import dill
    from sklearn.linear_model import LinearRegression

    rows, _, numbers = data()
    for module in (cloudpickle, dill):
        yield f"{module.__name__}.pkl", pickled(LinearRegression().fit(rows, numbers), 4, module)
        yield f"{module.__name__}-function.deny.pkl", pickled(lambda value: value + 1, 4, module)


def containers() -> Named:
    """A pickle, and a packed folder, in everything that compresses."""
    import lz4.frame
    from sklearn.linear_model import LinearRegression

    rows, _, numbers = data()
    saved = pickle.dumps(LinearRegression().fit(rows, numbers))
    packers = (
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("lz4", lz4.frame.compress),
        ("z", zlib.compress),
    )
    for name, pack in packers:
        yield f"model.pkl.{name}", lambda path, pack=pack: path.write_bytes(pack(saved))  # type: ignore[misc]

    def tarred(path: Path) -> None:
        inner = path.with_suffix(".inner")
        inner.write_bytes(saved)
        with tarfile.open(path, "w:gz") as archive:
            archive.add(inner, "model/model.pkl")
        inner.unlink()

    yield "model.tar.gz", tarred


def others() -> Named:
    """safetensors, skops and ONNX."""
    rows, _, numbers = data()
    if there("safetensors"):
        from safetensors.numpy import save_file

        yield "numbers.safetensors", lambda path: save_file({"a": rows, "b": numbers}, path)
    if there("skops"):
        import skops.io
        from sklearn.linear_model import LinearRegression

        yield "linear.skops", lambda path: skops.io.dump(LinearRegression().fit(rows, numbers), path)


def there(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


LIBRARIES = {
    "sklearn": sklearn, "pandas": values, "torch": torch, "lightgbm": boosted, "statsmodels": statsmodels, "imblearn": imblearn,
    "dill": other_picklers, "lz4": containers, "keras": keras, "tensorflow": tensorflow, "tf_keras": keras_2, "numpy": others,
}  # fmt: skip
