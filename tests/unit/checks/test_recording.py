"""Recording golden predictions: what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml_deploy.checks.cases import judge, load
from ml_deploy.checks.http import Answer, Request
from ml_deploy.checks.recording import record, requests_of
from ml_deploy.errors import InputError, WrongAnswers


def file_of(tmp_path: Path, *lines: Any) -> Path:
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def recorded(file: Path, ask: Callable[[Request], Answer]) -> list[dict[str, Any]]:
    return [json.loads(one.line) for one in record(requests_of(file, path="/predict"), ask)]


def echo(request: Request) -> Answer:
    return Answer(
        200, {}, json.dumps({"method": request.method, "path": request.path, "n": len(request.body or b"")}).encode()
    )


def test_bodies_and_cases_may_be_mixed(tmp_path: Path) -> None:
    lines = recorded(
        file_of(tmp_path, {"inputs": [1]}, [1, 2], {"name": "n", "request": 1, "expect": "old", "rtol": 0.1}, {"path": "/health"}), echo
    )  # fmt: skip
    assert lines == [
        {"request": {"inputs": [1]}, "expect": {"method": "POST", "path": "/predict", "n": 15}},
        {"request": [1, 2], "expect": {"method": "POST", "path": "/predict", "n": 6}},
        {"name": "n", "request": 1, "rtol": 0.1, "expect": {"method": "POST", "path": "/predict", "n": 1}},
        {"path": "/health", "expect": {"method": "GET", "path": "/health", "n": 0}},
    ]


def test_a_body_with_a_key_called_request_and_others_is_a_body(tmp_path: Path) -> None:
    assert recorded(file_of(tmp_path, {"request": 1, "customer": 2}), echo)[0]["request"] == {
        "request": 1,
        "customer": 2,
    }


def test_what_is_recorded_passes(tmp_path: Path) -> None:
    out = tmp_path / "cases.jsonl"
    wanted = requests_of(file_of(tmp_path, {"ünïcode": "\ud800", "x": 1}, {"x": "é"}), path="/predict")
    answers = [Answer(200, {}, b'{"p": [1.5, NaN, "\\ud800"]}'), Answer(200, {}, '{"p": "é"}'.encode())]
    ask = lambda request: answers[b"ud800" not in (request.body or b"")]  # noqa: E731
    out.write_text("\n".join(one.line for one in record(wanted, ask)), encoding="utf-8")
    assert judge(load(out), ask).failed == 0
    assert '"é"' in out.read_text(encoding="utf-8")


def test_what_varies_is_ignored_and_told(tmp_path: Path) -> None:
    numbers = iter(range(10))
    (one,) = record(
        requests_of(file_of(tmp_path, {"x": 1}), path="/predict"),
        lambda request: Answer(200, {}, json.dumps({"p": 1, "took": next(numbers)}).encode()),
    )
    assert one.varying == ("$.took",)
    assert json.loads(one.line) == {"request": {"x": 1}, "expect": {"p": 1, "took": 0}, "ignore": ["$.took"]}


def test_an_expected_refusal_is_recorded(tmp_path: Path) -> None:
    (line,) = recorded(
        file_of(tmp_path, {"request": 1, "status": 422}), lambda request: Answer(422, {}, b'{"detail": "no"}')
    )
    assert line == {"request": 1, "status": 422, "expect": {"detail": "no"}}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answer(422, {}, b"bad input")], "answered with status 422 (bad input)"),
        ([Answer(200, {}, b"<html>")], "the answer is no JSON (<html>)"),
        ([Answer(200, {}, b"1"), Answer(200, {}, b"2")], "the same request got two different answers"),
        ([Answer(200, {}, b"1"), Answer(503, {}, b"1")], "the same request got two different answers"),
    ],
)
def test_what_cannot_be_recorded(tmp_path: Path, answers: list[Answer], words: str) -> None:
    given = iter(answers * 2)
    with pytest.raises(WrongAnswers) as caught:
        record(requests_of(file_of(tmp_path, {"x": 1}), path="/predict"), lambda request: next(given))
    assert words in caught.value.message
    assert "Nothing was written" in caught.value.message


def test_malformed_requests(tmp_path: Path) -> None:
    file = tmp_path / "r"
    file.write_text('{"x": 1}\n{x}\n')
    with pytest.raises(InputError, match="line 2: is no JSON"):
        requests_of(file, path="/predict")
    file.write_text("\n")
    with pytest.raises(InputError, match="has no requests"):
        requests_of(file, path="/predict")
