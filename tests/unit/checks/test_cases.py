"""Golden predictions: their file, and the judgement of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_deploy.checks.cases import KEYS, Report, escape_cell, judge, judge_answer, load, parse
from ml_deploy.checks.http import Answer, Request, join, problem_of
from ml_deploy.errors import EndpointDown, InputError


def written(tmp_path: Path, *cases: Any) -> Path:
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(case if isinstance(case, str) else json.dumps(case) for case in cases))
    return file


def answering(body: Any, status: int = 200, kind: str = "application/json") -> Callable[[Request], Answer]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request: Answer(status, {"Content-Type": kind}, data, 0.002)


def judged(tmp_path: Path, case: dict[str, Any], ask: Callable[[Request], Answer]) -> Report:
    return judge(load(written(tmp_path, {"request": {}, **case})), ask)


def test_the_shortest_case(tmp_path: Path) -> None:
    (case,) = load(written(tmp_path, {"request": {"x": 1}, "expect": [0]}))
    assert (case.name, case.line, case.status, case.expect) == ("line 1", 1, 200, [0])
    assert (case.request.method, case.request.path, case.request.body) == ("POST", "/predict", b'{"x": 1}')
    assert case.request.headers == {"Content-Type": "application/json"}


def test_a_case_says_everything(tmp_path: Path) -> None:
    (case,) = load(written(tmp_path, {
        "name": "n", "request": [1], "expect": None, "path": "/v2/x?y=1", "method": "put", "headers": {"content-type": "a/b"},
        "status": 422, "rtol": 0.1, "atol": 0, "ignore": ["$.took"],
    }))  # fmt: skip
    assert (case.request.method, case.request.path, case.request.headers) == (
        "PUT",
        "/v2/x?y=1",
        {"content-type": "a/b"},
    )
    assert (case.status, case.expect, case.rules.rtol, case.rules.atol, case.rules.whole) == (422, None, 0.1, 0.0, True)


def test_a_get_needs_only_a_path(tmp_path: Path) -> None:
    (case,) = load(written(tmp_path, {"path": "/health", "expect": "ok"}))
    assert (case.request.method, case.request.body) == ("GET", None)


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_bytes(b'\xef\xbb\xbf\n{"request": 1, "expect": 1}\r\n\r\n')
    assert [case.line for case in load(file)] == [2]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is no JSON (Expecting property name enclosed in double quotes at column 2)"),
        ("[1]", "is JSON, but no object: a case is {…}"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"request": ' + "9" * 5000 + "}", "is no JSON (Exceeds the limit"),
        ({"expect": 1}, "needs `request`"),
        ({"request": 1}, "needs `expect`"),
        ({"request": 1, "expect": 1, "atoll": 1}, "has unknown keys 'atoll' (known: name, request,"),
        ({"request": 1, "expect": 1, "name": ""}, "`name` must be a non-empty string"),
        ({"request": 1, "expect": 1, "method": "FETCH"}, "`method` must be one of GET, POST"),
        ({"request": 1, "expect": 1, "path": "http://x/predict"}, "`path` must start with /"),
        ({"request": 1, "expect": 1, "path": "/a b"}, "`path` must start with / and have no spaces"),
        ({"request": 1, "expect": 1, "headers": {"a": 1}}, "`headers` must be an object of strings"),
        ({"request": 1, "expect": 1, "status": True}, "`status` must be an HTTP status"),
        ({"request": 1, "expect": 1, "rtol": -1}, "`rtol` must be a number, 0 or more"),
        ({"request": 1, "expect": 1, "atol": "1"}, "`atol` must be a number, 0 or more"),
        ('{"request": 1, "expect": 1, "rtol": NaN}', "`rtol` must be a number, 0 or more"),
        ({"request": 1, "expect": 1, "ignore": ["took"]}, "`ignore` must be a list of JSON paths"),
    ],
)
def test_a_malformed_case_names_file_and_line(tmp_path: Path, line: Any, problem: str) -> None:
    file = written(tmp_path, {"request": 1, "expect": 1}, line)
    with pytest.raises(InputError) as caught:
        load(file)
    assert f"{file}, line 2: {problem}" in caught.value.message
    assert (caught.value.file, caught.value.line) == (str(file), 2)
    assert len(caught.value.message) < 500


def test_all_malformed_lines_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, *["x"] * 20))
    assert "line 1:" in caught.value.message
    assert "line 8:" in caught.value.message
    assert "… and 12 more lines." in caught.value.message


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_no_cases_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="has no golden predictions"):
        load(written(tmp_path, text))


def test_files_that_are_no_cases(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "b").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load(tmp_path / "b")
    with pytest.raises(InputError, match="Git LFS pointer"):
        load(written(tmp_path, "version https://git-lfs.github.com/spec/v1", "oid sha256:0", "size 1"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (json.dumps({"request": 1, "expect": 1}, indent=1), "The file looks like one pretty-printed JSON document."),
        (json.dumps([{"request": 1, "expect": 1}], indent=1), "The file looks like a JSON array"),
        (json.dumps([{"request": 1, "expect": 1}]), "The file looks like a JSON array"),
        ("[\n", "The file looks like a JSON array"),
        ("x", "Write one JSON object a line"),
    ],
)
def test_what_the_file_looks_like_instead(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, text))
    assert caught.value.hint.startswith(hint)


def test_right_answers_pass(tmp_path: Path) -> None:
    report = judged(tmp_path, {"expect": {"p": [0.5]}}, answering({"p": [0.50000001]}))
    assert (report.passed, report.failed, report.failures, report.down) == (1, 0, (), False)
    assert report.sentence() == "1 golden prediction answered as expected"


def test_a_wrong_answer_names_case_path_expected_and_got(tmp_path: Path) -> None:
    report = judged(tmp_path, {"name": "low", "expect": {"p": [0.5]}}, answering({"p": [0.75]}))
    assert (report.passed, report.failed, report.down) == (0, 1, False)
    assert report.sentence() == (
        'The golden prediction failed; first "low": $.p[0]: expected 0.5, got 0.75 (off by 0.25, 0.5 of it)'
    )


def test_a_case_may_expect_a_refusal(tmp_path: Path) -> None:
    assert judged(tmp_path, {"status": 422}, answering({"detail": "no"}, 422)).passed == 1
    report = judged(tmp_path, {"status": 422}, answering({"p": 1}))
    assert report.failures[0].text() == 'status: expected 422, got 200 ({"p": 1})'


def test_a_server_error_is_down_unless_expected(tmp_path: Path) -> None:
    report = judged(tmp_path, {"expect": 1}, answering(b"<h1>Internal Server Error</h1>", 500, "text/html"))
    assert report.down
    assert report.failures[0].text() == "status: expected 200, got 500 (<h1>Internal Server Error</h1>)"
    assert judged(tmp_path, {"status": 503}, answering(b"", 503)).passed == 1


def test_no_answer_is_down(tmp_path: Path) -> None:
    def ask(request: Request) -> Answer:
        raise EndpointDown("http://x refused the connection.")

    report = judged(tmp_path, {"expect": 1}, ask)
    assert report.down
    assert report.failures[0].differences == ("http://x refused the connection",)


def test_down_when_the_others_were_right(tmp_path: Path) -> None:
    answers = iter([Answer(503, {}, b""), Answer(200, {}, b"1")])
    report = judge(load(written(tmp_path, *[{"request": 1, "expect": 1}] * 2)), lambda request: next(answers))
    assert (report.failed, report.down) == (1, True)


def test_not_down_when_one_was_wrong(tmp_path: Path) -> None:
    answers = iter([Answer(500, {}, b""), Answer(200, {}, b"2")])
    report = judge(load(written(tmp_path, *[{"request": 1, "expect": 1}] * 2)), lambda request: next(answers))
    assert (report.failed, report.down) == (2, False)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"<html>" + b"x" * 5000, "text/html; charset=utf-8", "$: expected JSON, got 5006 bytes of text/html; charset=utf-8 (<html>xx"),
        (b"", "", "$: expected JSON, got 0 bytes of no content type"),
        (b"\xff\xfe", "application/json", "$: expected JSON, got 2 bytes of application/json (��)"),
        (b"[" * 100_000, "application/json", "$: expected JSON, got 100000 bytes of application/json ([["),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json(tmp_path: Path, body: bytes, kind: str, text: str) -> None:
    report = judged(tmp_path, {"expect": 1}, answering(body, kind=kind))
    assert report.failures[0].text().startswith(text)
    assert len(report.sentence()) < 600


def test_plain_text_is_a_string(tmp_path: Path) -> None:
    assert judged(tmp_path, {"expect": "ok"}, answering(b"ok\n", kind="text/plain")).passed == 1


def test_many_differences_are_cut(tmp_path: Path) -> None:
    report = judged(tmp_path, {"expect": list(range(100))}, answering([-1] * 100))
    assert len(report.failures[0].differences) == 100
    assert report.failures[0].text().endswith("; and 95 more")


def test_the_table_shows_failures_first_and_defuses_markup(tmp_path: Path) -> None:
    cases = [
        {"name": "fine", "request": 1, "expect": 1},
        {"name": "a|b <img> `x` [l](u) @you", "request": 1, "expect": 2},
    ]
    table = judge(load(written(tmp_path, *cases)), answering(1)).table().splitlines()
    assert table[2] == (
        "| a&#124;b &lt;img&gt; &#96;x&#96; &#91;l&#93;(u) &#64;you | ❌ $: expected 2, got 1 (off by 1, 0.5 of it) | 2.0 ms |"
    )
    assert table[3] == "| fine | ✅ | 2.0 ms |"


def test_the_table_has_no_column_of_times_where_none_was_taken(tmp_path: Path) -> None:
    (case,) = load(written(tmp_path, {"name": "fine", "request": 1, "expect": 1}))
    table = Report((judge_answer(case, Answer(200, {}, b"1")),)).table()
    assert table.splitlines() == ["| golden prediction | answer |", "|---|---|", "| fine | ✅ |"]


def test_the_table_is_bounded(tmp_path: Path) -> None:
    table = judge(load(written(tmp_path, *[{"request": 1, "expect": 2}] * 300)), answering(1)).table()
    assert table.splitlines()[-1] == "| … and 250 more | | |"
    assert escape_cell("a\nb") == "a b"


def test_each_outcome_is_told_as_it_comes(tmp_path: Path) -> None:
    told: list[str] = []
    judge(load(written(tmp_path, {"request": 1, "expect": 2})), answering(1), tell=lambda o: told.append(o.text()))
    assert told == ["$: expected 2, got 1 (off by 1, 0.5 of it)"]


@pytest.mark.parametrize(
    ("base", "path", "joined"),
    [("", "/predict", "/predict"), ("/", "/predict", "/predict"), ("/v1/", "/predict", "/v1/predict"), ("/v1", "", "/v1"),
     ("/v1", "/", "/v1/"), ("", "", "/"), ("/a", "/b?c=1", "/a/b?c=1")],
)  # fmt: skip
def test_join(base: str, path: str, joined: str) -> None:
    assert join(base, path) == joined


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(anything)
def test_a_line_is_a_case_or_has_a_problem_in_words(value: Any) -> None:
    try:
        case = parse(json.dumps(value), 7)
    except ValueError as problem:
        assert type(problem) is ValueError
        assert str(problem)[0].islower() or str(problem).startswith("`")
    else:
        assert case.request.path.startswith("/")
        assert case.line == 7


@settings(max_examples=150, deadline=None)
@given(
    expect=anything,
    body=st.binary(max_size=40) | anything.map(lambda value: json.dumps(value).encode()),
    status=st.integers(100, 599),
    kind=st.sampled_from(["", "text/plain", "application/json"]),
)
def test_any_answer_is_judged_and_told_in_printable_words(expect: Any, body: bytes, status: int, kind: str) -> None:
    case = parse(json.dumps({"request": 1, "expect": expect}), 1)
    outcome = judge_answer(case, Answer(status, {"content-type": kind}, body))
    assert outcome.text().isprintable()
    assert "\n" not in Report((outcome,)).table().splitlines()[2]
    assert outcome.differences or status == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://10.0.0.7:8080/base", ""),
        ("https://[::1]/", ""),
        ("example.org", "no HTTP address"),
        ("localhost:8000", "no HTTP address"),
        ("ftp://example.org", "no HTTP address"),
        ("http://", "no HTTP address"),
        ("http://x:99999", "no address"),
        ("http://user:s3cret@x", "contains a user or password"),
        ("http://s3cret@x", "contains a user or password"),
        ("https://x/?code=s3cret", "has a query or fragment"),
        ("x?code=s3cret", "has a query or fragment"),
    ],
)
def test_addresses(url: str, words: str) -> None:
    assert words in problem_of(url)
    assert bool(words) == bool(problem_of(url))
    assert "s3cret" not in problem_of(url)
