"""Requests to arrays and arrays to answers: the Open Inference Protocol v2, and the plain `/predict`.

Every problem of a request is a BadRequest with one sentence: it becomes a 400.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, Any]

_DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


class BadRequest(Exception):
    """The client's mistake, in one sentence."""


class Tensor(NamedTuple):
    """What a model takes or gives: -1 stands for any length. `datatype` is the protocol's word."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """As the protocol's metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def read(body: bytes) -> Any:
    """A body's JSON. Raises BadRequest."""
    if not body:
        raise BadRequest("the body is empty: send JSON")
    try:
        return json.loads(body)
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    except ValueError as error:  # no JSON, no UTF-8, or an integer with thousands of digits
        raise BadRequest(f"the body is no JSON: {error}") from None


def write(answer: Any) -> bytes:
    """An answer as JSON. Numbers that JSON does not have (NaN, infinities) become null."""
    try:
        return json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(answer), allow_nan=False, separators=(",", ":")).encode()


def infer_inputs(request: Any, wanted: Sequence[Tensor]) -> Arrays:
    """The tensors of a v2 inference request by name. Raises BadRequest."""
    if not isinstance(request, dict):
        raise BadRequest("the request must be an object with `inputs`")
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise BadRequest("`inputs` must be a list of tensors with name, shape, datatype and data")
    arrays: Arrays = {}
    for entry in inputs:
        name, array = _tensor(entry)
        if name in arrays:
            raise BadRequest(f"the input {name!r} is given twice")
        arrays[name] = array
    return _matched(arrays, wanted)


def predict_inputs(request: Any, wanted: Sequence[Tensor], features: Sequence[str]) -> Arrays:
    """The arrays of a plain request: rows as a list, or under `instances` or `inputs`. Raises BadRequest.

    A row is a list of numbers, or an object by the names of `features`. A model with several
    inputs takes them by name: `{"inputs": {"age": [[1]], "city": [["Ulm"]]}}`.
    """
    rows = request
    if isinstance(request, dict):
        given = [key for key in ("instances", "inputs") if key in request]
        if len(given) != 1:
            raise BadRequest('send rows as {"instances": [[...], ...]}')
        rows = request[given[0]]
    if isinstance(rows, dict):
        return _matched({str(name): _array(value, f"`{name}`") for name, value in rows.items()}, wanted)
    if not isinstance(rows, list) or not rows:
        raise BadRequest("there are no rows: send a list with at least one")
    if len(wanted) > 1:
        names = ", ".join(repr(tensor.name) for tensor in wanted)
        raise BadRequest(
            f'the model has {len(wanted)} inputs ({names}): send them by name, {{"inputs": {{NAME: rows}}}}'
        )
    if any(isinstance(row, dict) for row in rows):
        rows = [_by_name(row, number, features) for number, row in enumerate(rows)]
    return {wanted[0].name: _array(rows, "the rows")}


def infer_answer(model: str, request: Any, outputs: Arrays, version: str = "1") -> dict[str, Any]:
    """The v2 answer with the outputs that were asked for, all when none was named. Raises BadRequest."""
    asked = request.get("outputs") or [{"name": name} for name in outputs]
    if not isinstance(asked, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in asked
    ):
        raise BadRequest("`outputs` must be a list of objects with a name")
    unknown = [one["name"] for one in asked if one["name"] not in outputs]
    if unknown:
        raise BadRequest(f"the model has no output {unknown[0]!r} (it has {', '.join(map(repr, outputs))})")
    answer: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.get("id"):
        answer["id"] = str(request["id"])
    return {**answer, "outputs": [_output(one["name"], outputs[one["name"]]) for one in asked]}


def plain(value: Any) -> Any:
    """An array as nested lists, bytes as text."""
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    return _text(listed)


def datatype(dtype: Any) -> str:
    """The protocol's word for a numpy type; text and everything else is BYTES."""
    return _NAMES.get(np.dtype(dtype), "BYTES")


def _tensor(entry: Any) -> tuple[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or "data" not in entry:
        raise BadRequest("every input needs name, shape, datatype and data")
    name, kind, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise BadRequest(f"the input {name!r} has datatype {kind!r}; known are {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise BadRequest(f"the shape of the input {name!r} must be a list of whole numbers")
    array = _array(entry["data"], f"the input {name!r}", kind)
    if math.prod(shape) != array.size:
        raise BadRequest(f"the input {name!r} has {array.size} values, but its shape {shape} needs {math.prod(shape)}")
    return name, array.reshape(shape)


def _array(data: Any, what: str, kind: str = "") -> Any:
    """Lists as an array of the wanted type, else of the one that their values have."""
    if not isinstance(data, list):
        raise BadRequest(f"{what} must be a list")
    try:
        array = np.asarray(data) if not kind or kind == "BYTES" else np.asarray(data, dtype=_checked(data, kind))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadRequest(f"{what} cannot be read as an array: {_ragged(error)}") from None
    if array.dtype == object and any(isinstance(value, (dict, list)) for value in array.ravel()):
        raise BadRequest(f"{what} must be numbers or strings in lists of equal lengths")
    if kind == "BYTES" or array.dtype.kind == "U":  # numpy makes text of numbers that stand beside text: read again
        return np.asarray(data, dtype=object)
    return array


def _checked(data: list[Any], kind: str) -> Any:
    """The numpy type, after a look that numpy would not cut or bend the values to fit it."""
    dtype = np.dtype(_DTYPES[kind])
    natural = np.asarray(data)
    allowed = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if natural.size and natural.dtype.kind not in allowed:
        raise ValueError(f"the values are no {kind}")
    if dtype.kind in "iu" and natural.size:
        limits: Any = np.iinfo(dtype)
        if natural.min() < limits.min or natural.max() > limits.max:
            raise OverflowError(f"a value does not fit into {kind}")
    return dtype


def _matched(arrays: Arrays, wanted: Sequence[Tensor]) -> Arrays:
    """The arrays under the model's names; with a single one on both sides the name does not matter."""
    if len(arrays) == len(wanted) == 1:
        return {wanted[0].name: next(iter(arrays.values()))}
    names = {tensor.name for tensor in wanted}
    missing, unknown = sorted(names - set(arrays)), sorted(set(arrays) - names)
    if unknown or missing:
        said = [f"has no input {unknown[0]!r}"] if unknown else []
        said += [f"needs the input {missing[0]!r}"] if missing else []
        raise BadRequest(f"the model {' and '.join(said)} (its inputs: {', '.join(map(repr, sorted(names)))})")
    return arrays


def _by_name(row: Any, number: int, features: Sequence[str]) -> list[Any]:
    if not isinstance(row, dict):
        raise BadRequest(f"row {number} is no object, others are")
    if not features:
        raise BadRequest("the model does not know its features' names: send each row as a list")
    missing = [name for name in features if name not in row]
    unknown = [name for name in row if name not in features]
    if missing or unknown:
        raise BadRequest(
            f"row {number} " + (f"lacks {missing[0]!r}" if missing else f"has the unknown feature {unknown[0]!r}")
        )
    return [row[name] for name in features]


def _output(name: str, value: Any) -> dict[str, Any]:
    array = np.asarray(value) if not isinstance(value, np.ndarray) else value
    return {"name": name, "datatype": datatype(array.dtype), "shape": list(array.shape), "data": plain(array.ravel())}


def _ragged(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "its lists have different lengths" if "inhomogeneous" in text else text[:200]


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value] if value and not isinstance(value[0], (int, float)) else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): _text(item) for key, item in value.items()}
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
