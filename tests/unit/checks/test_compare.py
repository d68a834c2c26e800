"""Values against values: what counts as the same answer, and what is said when it is not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_deploy.checks.compare import Rules, cut, differences, shown

NAN, INF = float("nan"), float("inf")


def told(expected: Any, got: Any, **rules: Any) -> list[str]:
    return [str(difference) for difference in differences(expected, got, Rules(**rules))]


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1.0, 1.0 + 5e-7),
        (0.0, 5e-10),
        (2, 2.0),
        (2.0, 2),
        (NAN, NAN),
        (INF, INF),
        ("setosa", "setosa"),
        (None, None),
        (True, True),
        ([], []),
        ({"a": [1.5, {"b": "x"}]}, {"a": [1.5000001, {"b": "x"}]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (10**400, 10**400),
    ],
)
def test_same(expected: Any, got: Any) -> None:
    assert told(expected, got) == []


@pytest.mark.parametrize(
    ("expected", "got", "sentence"),
    [
        (1.5, 1.7, "$: expected 1.5, got 1.7 (off by 0.2, 0.13 of it)"),
        (0.0, 1.0, "$: expected 0.0, got 1.0 (off by 1)"),
        (1_000_000, 1_000_001, "$: expected 1000000, got 1000001 (off by 1, 1e-06 of it)"),
        (1, True, "$: expected 1 (number), got true (boolean)"),
        (False, 0, "$: expected false (boolean), got 0 (number)"),
        ("1", 1, '$: expected "1" (string), got 1 (number)'),
        (1.0, None, "$: expected 1.0 (number), got null (null)"),
        (1.0, NAN, "$: expected 1.0, got NaN"),
        (NAN, 1.0, "$: expected NaN, got 1.0"),
        (NAN, None, "$: expected NaN (number), got null (null)"),
        (INF, -INF, "$: expected Infinity, got -Infinity"),
        ("setosa", "Setosa", '$: expected "setosa", got "Setosa"'),
        ([1, 2], [1], "$: expected 2 items [1, 2], got 1 item [1]"),
        ([1], {"0": 1}, '$: expected [1] (list), got {"0": 1} (object)'),
        ({"label": 1}, {}, "$.label: expected 1, but it is missing"),
        ({}, {"took": 3}, "$.took: not expected, got 3"),
        ({"a b": [{"c": 1}]}, {"a b": [{"c": 2}]}, '$["a b"][0].c: expected 1, got 2 (off by 1, 1 of it)'),
        (10**400, 1.0, f"$: expected {'1' + '0' * 79}… (401 characters), got 1.0"),
    ],
)
def test_different(expected: Any, got: Any, sentence: str) -> None:
    assert told(expected, got) == [sentence]


def test_every_place_is_named() -> None:
    assert len(told({"a": [1, 2, 3], "b": "x"}, {"a": [1, 5, 6], "b": "y"})) == 3


def test_tolerances_of_a_case_hold_for_whole_numbers_too() -> None:
    assert told(200, 201, rtol=0.01) != []
    assert told(200, 201, rtol=0.01, whole=True) == []


def test_tolerances_are_inclusive_and_add_nothing_up() -> None:
    assert told(1.0, 1.5, rtol=0.0, atol=0.5) == []
    assert told(1.0, 1.5000001, rtol=0.0, atol=0.5) != []


def test_ignored_paths() -> None:
    expected, got = (
        {"label": 1, "items": [{"id": "a", "p": 1.0}]},
        {"label": 1, "took": 5, "items": [{"id": "b", "p": 1.0}]},
    )
    assert told(expected, got, ignore=("$.took", "$.items[*].id")) == []
    assert told(expected, got, ignore=("$.took", "$.items[1].id")) == ['$.items[0].id: expected "a", got "b"']


def test_an_ignored_key_may_be_missing() -> None:
    assert told({"took": 1, "label": 1}, {"label": 1}, ignore=("$.took",)) == []


def test_deep_nesting_is_an_answer_and_no_crash() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert told(deep, deep) == ["$: nested too deeply to be compared"]
    assert len(shown(deep)) < 200


def test_text_from_outside_is_defanged() -> None:
    assert cut("a\x1b[31mb\ud800\u202ec\nd") == "a�[31mb��c d"
    assert cut("x" * 500, 10) == "xxxxxxxxxx… (500 characters)"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_every_value_equals_itself_over_the_wire(value: Any) -> None:
    assert told(value, json.loads(json.dumps(value))) == []


@settings(max_examples=100, deadline=None)
@given(json_values, json_values)
def test_differences_are_symmetric_and_printable(one: Any, other: Any) -> None:
    there, back = told(one, other), told(other, one)
    assert bool(there) == bool(back)
    assert all(sentence.isprintable() and len(sentence) < 1000 for sentence in there)


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_floats_agree_exactly_when_isclose_says_so(one: float, other: float) -> None:
    assert (told(one, other) == []) == math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
