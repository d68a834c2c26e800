"""The two kinds of models: scikit-learn estimators and ONNX graphs, behind one face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.protocol import Arrays, BadRequest, Tensor, datatype, plain

_ONNX_TYPES = {
    "float": "FP32", "double": "FP64", "float16": "FP16", "bool": "BOOL", "string": "BYTES", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64",
}  # fmt: skip
_NUMPY_TYPES = {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "BOOL": np.bool_, "INT8": np.int8,
                "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8, "UINT16": np.uint16,
                "UINT32": np.uint32, "UINT64": np.uint64, "BYTES": np.object_}  # fmt: skip


class Unusable(Exception):
    """The file holds no model that can serve; the text says why."""


class Model(Protocol):
    """A loaded model."""

    @property
    def platform(self) -> str:
        """The protocol's word for the kind of model."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """What it gives."""

    @property
    def features(self) -> Sequence[str]:
        """Names of its features, in their order; empty when it does not know them."""

    def run(self, arrays: Arrays) -> Arrays:
        """Outputs by name. Raises BadRequest for arrays that do not fit."""

    def summary(self, outputs: Arrays) -> dict[str, Any]:
        """The outputs as the plain `/predict` answers them."""


def load(kind: str, path: Path, threads: int) -> Model:
    """Load a model. Raises Unusable, or whatever its library raises."""
    return Onnx(path, threads) if kind == "onnx" else ScikitLearn(path)


class ScikitLearn:
    """An estimator with `predict`; probabilities too where it has them."""

    platform = "sklearn"

    def __init__(self, path: Path) -> None:
        import joblib

        self._estimator = joblib.load(path)
        if not callable(getattr(self._estimator, "predict", None)):
            raise Unusable(f"it holds a {type(self._estimator).__name__}, which has no `predict`")
        self._proba = callable(getattr(self._estimator, "predict_proba", None))
        self.features = [str(name) for name in getattr(self._estimator, "feature_names_in_", ())]
        count = int(getattr(self._estimator, "n_features_in_", -1))
        self.inputs = [Tensor("input", "FP64", (-1, count))]
        classes = np.asarray(getattr(self._estimator, "classes_", [0.0]))
        self.outputs = [Tensor("predict", datatype(classes.dtype), (-1,))]
        if self._proba:
            self.outputs.append(Tensor("predict_proba", "FP64", (-1, len(classes))))

    def run(self, arrays: Arrays) -> Arrays:
        """Predict for rows. What scikit-learn refuses (number of features, NaN, text) is the client's mistake."""
        rows = self._rows(arrays["input"])
        try:
            outputs = {"predict": np.asarray(self._estimator.predict(rows))}
            if self._proba:
                outputs["predict_proba"] = np.asarray(self._estimator.predict_proba(rows))
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise BadRequest(" ".join(str(error).split())[:500]) from error
        return outputs

    def summary(self, outputs: Arrays) -> dict[str, Any]:
        """Predictions, and probabilities where there are any."""
        named = {"predict": "predictions", "predict_proba": "probabilities"}
        return {named[name]: plain(value) for name, value in outputs.items()}

    def _rows(self, array: Any) -> Any:
        if array.ndim < 2:
            raise BadRequest("send a list of rows, each a list of features (one row is [[...]])")
        if not self.features:
            return array
        if array.shape[1] != len(self.features):
            raise BadRequest(f"a row has {array.shape[1]} features, the model needs {len(self.features)}")
        try:
            import pandas as pd  # type: ignore[import-untyped]
        except ImportError:
            return array  # trained on a data frame, but its steps may do without names
        return pd.DataFrame(array, columns=self.features).infer_objects()


class Onnx:
    """An ONNX graph in onnxruntime."""

    platform = "onnx"
    features: Sequence[str] = ()

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        ort.set_default_logger_severity(3)
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [_tensor(one) for one in self._session.get_inputs()]
        self.outputs = [_tensor(one) for one in self._session.get_outputs()]

    def run(self, arrays: Arrays) -> Arrays:
        """Run the graph; what onnxruntime refuses (rank, shape, type) is the client's mistake."""
        feed = {tensor.name: _fitting(arrays[tensor.name], tensor) for tensor in self.inputs}
        try:
            values = self._session.run(None, feed)
        except Exception as error:  # onnxruntime's own errors have no common public class
            if type(error).__name__ in ("InvalidArgument", "ValueError", "TypeError"):
                raise BadRequest(_sentence(error)) from error
            if type(error).__name__ in ("Fail", "RuntimeException") and "shape" in str(error).lower():
                raise BadRequest(_sentence(error)) from error
            raise
        return {tensor.name: _unzipped(value) for tensor, value in zip(self.outputs, values, strict=True)}

    def summary(self, outputs: Arrays) -> dict[str, Any]:
        """A classifier's label and probabilities as scikit-learn has them; of other graphs the outputs by name."""
        names = list(outputs)
        answer: dict[str, Any] = {"predictions": plain(outputs[names[0]])}
        if len(names) == 2 and "prob" in names[1].lower():
            return {**answer, "probabilities": plain(outputs[names[1]])}
        if len(names) > 1:
            answer["outputs"] = {name: plain(value) for name, value in outputs.items()}
        return answer


def _tensor(one: Any) -> Tensor:
    kind = str(one.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in one.shape or ())
    return Tensor(one.name, _ONNX_TYPES.get(kind, "FP32" if "float" in kind else "BYTES"), shape)


def _fitting(array: Any, tensor: Tensor) -> Any:
    """The array in the graph's type, with the graph's shape."""
    if tensor.shape and (
        array.ndim != len(tensor.shape)
        or any(want not in (-1, have) for want, have in zip(tensor.shape, array.shape, strict=True))
    ):
        shape = [length if length >= 0 else "any" for length in tensor.shape]
        raise BadRequest(f"the input {tensor.name!r} has shape {list(array.shape)}, the model needs {shape}")
    wanted = np.dtype(_NUMPY_TYPES[tensor.datatype])
    if wanted.kind == "O":
        return array.astype(str).astype(object)
    if array.dtype == object or (array.dtype.kind == "f" and wanted.kind in "iu"):
        raise BadRequest(f"the values of the input {tensor.name!r} are no {tensor.datatype}")
    with np.errstate(over="ignore"):
        fitted = array.astype(wanted)
    if array.dtype.kind == "f" and not np.array_equal(np.isfinite(array), np.isfinite(fitted)):
        raise BadRequest(f"a value of the input {tensor.name!r} does not fit into {tensor.datatype}")
    return fitted


def _unzipped(value: Any) -> Any:
    """A list of maps (what skl2onnx makes of probabilities by default) as an array in the order of their keys."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.asarray([[row[key] for key in value[0]] for row in value])
    return value


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.rpartition("] : ")[2][:500] or text[:500]
