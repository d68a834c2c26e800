"""Requests become arrays or one clear sentence, never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.protocol import BadRequest, Tensor, infer_answer, infer_inputs, plain, predict_inputs, read, write

ROWS = [Tensor("input", "FP64", (-1, 2))]
TWO = [Tensor("age", "FP32", (-1, 1)), Tensor("city", "BYTES", (-1, 1))]


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2], **changes}]}


@pytest.mark.parametrize("request_", [[[1, 2]], {"instances": [[1, 2]]}, {"inputs": [[1, 2]]}])
def test_rows_in_three_dresses(request_: Any) -> None:
    assert predict_inputs(request_, ROWS, ())["input"].tolist() == [[1, 2]]


def test_rows_by_the_features_names() -> None:
    arrays = predict_inputs({"instances": [{"b": 2, "a": 1}]}, ROWS, ("a", "b"))
    assert arrays["input"].tolist() == [[1, 2]]


def test_numbers_beside_text_stay_numbers() -> None:
    assert predict_inputs([[1.5, "Ulm"], [2, "Bonn"]], ROWS, ())["input"].tolist() == [[1.5, "Ulm"], [2, "Bonn"]]


def test_several_inputs_by_name() -> None:
    arrays = predict_inputs({"inputs": {"city": [["Ulm"]], "age": [[7]]}}, TWO, ())
    assert arrays["city"].dtype == object
    assert arrays["age"].tolist() == [[7]]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "send rows as"),
        ({"instances": [[1]], "inputs": [[1]]}, "send rows as"),
        ({"instances": []}, "no rows"),
        ({"instances": "text"}, "no rows"),
        (5, "no rows"),
        (None, "no rows"),
        ({"instances": [[1, 2], [3]]}, "different lengths"),
        ({"instances": [{"a": 1, "b": 2}, [2]]}, "no object"),
        ({"instances": [{"a": 1}]}, "lacks 'b'"),
        ({"instances": [{"a": 1, "b": 2, "c": 3}]}, "unknown feature 'c'"),
        ({"instances": [[{"x": 1}, 2]]}, "numbers or strings"),
    ],
)
def test_rows_that_are_none(request_: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        predict_inputs(request_, ROWS, ("a", "b"))


@pytest.mark.parametrize(
    ("request_", "words"),
    [({"inputs": [[1, 2]]}, "2 inputs"), ({"inputs": {"age": [[1]]}}, "needs the input 'city'"),
     ({"inputs": {"age": [[1]], "city": [["a"]], "zip": [[1]]}}, "no input 'zip'"), ({"inputs": {"age": 1, "city": 2}}, "must be a list")],
)  # fmt: skip
def test_names_that_do_not_fit(request_: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        predict_inputs(request_, TWO, ())


def test_a_tensor_flat_or_nested() -> None:
    for data in ([1, 2], [[1, 2]]):
        array = infer_inputs(tensor(data=data), ROWS)["input"]
        assert (array.tolist(), array.dtype) == ([[1.0, 2.0]], np.float64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [2, 2]}, "needs 4"),
        ({"shape": [10**9, 10**9]}, "needs 1000000000000000000"),
        ({"shape": [-1, 2]}, "whole numbers"),
        ({"shape": [True, 2]}, "whole numbers"),
        ({"shape": None}, "whole numbers"),
        ({"datatype": "FP99"}, "known are BOOL"),
        ({"datatype": ["FP64"]}, "known are BOOL"),
        ({"datatype": "INT8", "data": [1, 300]}, "does not fit"),
        ({"datatype": "UINT8", "data": [-1, 0]}, "does not fit"),
        ({"datatype": "INT32", "data": [1.5, 2]}, "no INT32"),
        ({"datatype": "FP64", "data": ["1", "2"]}, "no FP64"),
        ({"data": [None, 1]}, "no FP64"),
        ({"data": [10**400, 1]}, "cannot be read|no FP64"),
        ({"data": {"a": 1}}, "must be a list"),
        ({"name": 5}, "every input needs"),
    ],
)
def test_tensors_that_are_none(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        infer_inputs(tensor(**changes), ROWS)


@pytest.mark.parametrize(
    "request_", [[], 5, None, {}, {"inputs": []}, {"inputs": {}}, {"inputs": [5]}, {"inputs": tensor()["inputs"] * 2}]
)
def test_inference_requests_that_are_none(request_: Any) -> None:
    with pytest.raises(BadRequest):
        infer_inputs(request_, ROWS)


def test_answers_of_the_protocol() -> None:
    outputs = {"label": np.array(["a", "b"], dtype=object), "score": np.array([[0.5], [0.25]], dtype=np.float32)}
    answer = infer_answer("m", {"id": "7"}, outputs)
    assert answer["id"] == "7"
    assert answer["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        {"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 0.25]},
    ]
    assert [one["name"] for one in infer_answer("m", {"outputs": [{"name": "score"}]}, outputs)["outputs"]] == ["score"]
    wrongs: list[Any] = ["x", [5], [{"name": [1]}], [{"name": "other"}], [{}]]
    for wrong in wrongs:
        with pytest.raises(BadRequest):
            infer_answer("m", {"outputs": wrong}, outputs)


def test_numbers_that_json_does_not_have_become_null() -> None:
    assert json.loads(write({"a": [1.5, float("nan"), float("inf")]})) == {"a": [1.5, None, None]}


def test_bytes_and_numpy_scalars_become_text_and_numbers() -> None:
    assert plain(np.array([b"a", "b"], dtype=object)) == ["a", "b"]
    assert plain(np.array([[1, 2]])) == [[1, 2]]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"1" * 5000], ids=["empty", "cut", "bytes", "deep", "digits"]
)
def test_bodies_that_are_no_json(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["inputs", "name", "shape", "data", "a"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_any_json_is_an_array_or_a_bad_request(request_: Any) -> None:
    asks: list[Callable[[], dict[str, Any]]] = [
        lambda: infer_inputs(request_, ROWS),
        lambda: predict_inputs(request_, ROWS, ("a", "b")),
    ]
    for ask in asks:
        try:
            arrays = ask()
        except BadRequest as error:
            assert str(error)
        else:
            assert list(arrays) == ["input"]
