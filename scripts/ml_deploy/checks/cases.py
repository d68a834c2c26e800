"""Golden predictions: requests with the answers that they must get.

A file of them is JSONL, one object a line. Needed are `request` (or the `path` of a GET) and `expect` (or a
`status`); `name`, `path`, `method`, `headers`, `status`, `rtol`, `atol` and `ignore` are optional.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_deploy.checks.compare import ATOL, RTOL, Rules, cut, differences
from ml_deploy.checks.http import Answer, Ask, Request, header
from ml_deploy.checks.jsonl import read_json, read_lines
from ml_deploy.errors import EndpointDown

#: Stands for "any body will do", since `null` is an answer too.
ANYTHING = object()
KEYS = ("name", "request", "expect", "path", "method", "headers", "status", "rtol", "atol", "ignore")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_DIFFERENCES_SHOWN = 5
_ROWS_SHOWN = 50


@dataclass(frozen=True)
class Case:
    """One golden prediction. `line` is where it stands in its file."""

    name: str
    request: Request
    expect: Any = ANYTHING
    status: int = 200
    rules: Rules = field(default_factory=Rules)
    line: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one case. `down` means no answer (`status` 0, `hint` may say more), or a server's error (5xx)."""

    case: Case
    differences: tuple[str, ...] = ()
    seconds: float = 0.0
    down: bool = False
    hint: str = ""
    status: int = 0

    def text(self) -> str:
        """The differences on one line; empty when the answer was right."""
        more = len(self.differences) - _DIFFERENCES_SHOWN
        parts = [*self.differences[:_DIFFERENCES_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return "; ".join(parts)


@dataclass(frozen=True)
class Report:
    """The outcomes of all cases that were asked, in their order."""

    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The cases that were answered wrongly or not at all."""
        return tuple(outcome for outcome in self.outcomes if outcome.differences)

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return len(self.failures)

    @property
    def passed(self) -> int:
        """How many cases were answered rightly."""
        return len(self.outcomes) - self.failed

    @property
    def down(self) -> bool:
        """Whether every failure is a missing answer or a server's error: the endpoint is at fault, not the model."""
        return bool(self.failures) and all(outcome.down for outcome in self.failures)

    def sentence(self) -> str:
        """`2 of 5 golden predictions failed; first "low risk": $.label: expected 1, got 0` (no full stop)."""
        total = len(self.outcomes)
        if not self.failures:
            return f"{total} golden prediction{'' if total == 1 else 's'} answered as expected"
        first = self.failures[0]
        which = f"{self.failed} of {total} golden predictions" if total > 1 else "The golden prediction"
        return f'{which} failed; first "{cut(first.case.name, 60)}": {cut(first.text(), 400)}'

    def table(self) -> str:
        """A Markdown table: failures first, then as many of the others as fit."""
        rows = [*self.failures, *(outcome for outcome in self.outcomes if not outcome.differences)]
        timed = any(outcome.seconds for outcome in rows)  # those asked through the API server have none
        lines = ["| golden prediction | answer |" + " time |" * timed, "|---|---|" + "---:|" * timed]
        lines += [_row(outcome, timed) for outcome in rows[:_ROWS_SHOWN]]
        if len(rows) > _ROWS_SHOWN:
            lines.append(f"| … and {len(rows) - _ROWS_SHOWN} more | |" + " |" * timed)
        return "\n".join(lines)

    def as_json(self) -> list[dict[str, Any]]:
        """The outcomes for a JSON report."""
        return [
            {"name": o.case.name, "line": o.case.line, "passed": not o.differences, "down": o.down,
             "seconds": round(o.seconds, 6), "differences": list(o.differences)}
            for o in self.outcomes
        ]  # fmt: skip


def load(file: Path, *, path: str = "/predict") -> list[Case]:
    """Read golden predictions; `path` is asked where a case names none.

    Raises InputError, with file and line, naming every problem at once; a file without cases is one.
    """
    return read_lines(file, lambda line, number: parse(line, number, path), what="golden predictions", hint=FORMAT)


def judge(cases: Sequence[Case], ask: Ask, *, tell: Callable[[Outcome], None] | None = None) -> Report:
    """Ask every case once, in order, and judge the answers. `tell` hears of each outcome as it comes."""
    outcomes = []
    for case in cases:
        try:
            answer = ask(case.request)
            outcome = judge_answer(case, answer)
        except EndpointDown as error:
            outcome = Outcome(case, (error.message.rstrip("."),), down=True, hint=error.hint)
        if tell:
            tell(outcome)
        outcomes.append(outcome)
    return Report(tuple(outcomes))


def judge_answer(case: Case, answer: Answer) -> Outcome:
    """Compare one answer with what its case expects."""
    down = answer.status >= 500 and case.status < 500
    return Outcome(case, tuple(_differences(case, answer)), answer.seconds, down=down, status=answer.status)


def body_of(answer: Answer) -> Any:
    """The answer's JSON; plain text becomes a string. Raises ValueError for a body that is neither."""
    text = answer.body.decode("utf-8")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if header(answer, "content-type").startswith("text/plain"):
            return text.strip()
        raise ValueError("no JSON") from None


def parse(line: str, number: int, path: str = "/predict") -> Case:
    """Read one case. Raises ValueError with a sentence that says what is wrong."""
    raw = _object(line)
    has_request = "request" in raw
    if not has_request and "path" not in raw:
        raise ValueError("needs `request` (what to send), or `path` for a GET")
    if "expect" not in raw and "status" not in raw:
        raise ValueError("needs `expect` (the answer), or at least a `status`")
    headers = _headers(raw)
    body = json.dumps(raw["request"]).encode() if has_request else None
    if body is not None and "content-type" not in map(str.lower, headers):
        headers = {"Content-Type": "application/json", **headers}
    return Case(
        name=_string(raw, "name", f"line {number}"),
        request=Request(_method(raw, "POST" if has_request else "GET"), _path(raw, path), headers, body),
        expect=raw.get("expect", ANYTHING),
        status=_status(raw),
        rules=_rules(raw),
        line=number,
    )


FORMAT = (
    "Write one JSON object a line, for example "
    '{"name": "low risk", "request": {"inputs": [[1.0, 2.0]]}, "expect": {"predictions": [0]}}. '
    "`record-cases` writes such a file from a running endpoint."
)


def _object(line: str) -> dict[str, Any]:
    raw = read_json(line)
    if not isinstance(raw, dict):
        raise ValueError("is JSON, but no object: a case is {…}")
    unknown = [key for key in raw if key not in KEYS]
    if unknown:
        raise ValueError(f"has unknown keys {', '.join(map(repr, unknown))} (known: {', '.join(KEYS)})")
    return raw


def _string(raw: dict[str, Any], key: str, default: str) -> str:
    value = raw.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{key}` must be a non-empty string")
    return value


def _method(raw: dict[str, Any], default: str) -> str:
    method = _string(raw, "method", default).upper()
    if method not in _METHODS:
        raise ValueError(f"`method` must be one of {', '.join(_METHODS)}")
    return method


def _path(raw: dict[str, Any], default: str) -> str:
    path = _string(raw, "path", default)
    if not path.startswith("/") or any(character.isspace() for character in path):
        raise ValueError("`path` must start with / and have no spaces (the endpoint's address is not part of it)")
    return path


def _headers(raw: dict[str, Any]) -> dict[str, str]:
    headers = raw.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError("`headers` must be an object of strings")
    return headers


def _status(raw: dict[str, Any]) -> int:
    status = raw.get("status", 200)
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError("`status` must be an HTTP status such as 200")
    return status


def _rules(raw: dict[str, Any]) -> Rules:
    ignore = raw.get("ignore", [])
    if not isinstance(ignore, list) or not all(isinstance(path, str) and path.startswith("$") for path in ignore):
        raise ValueError('`ignore` must be a list of JSON paths such as "$.took" or "$.items[*].id"')
    whole = "rtol" in raw or "atol" in raw
    return Rules(_tolerance(raw, "rtol", RTOL), _tolerance(raw, "atol", ATOL), whole, tuple(ignore))


def _tolerance(raw: dict[str, Any], key: str, default: float) -> float:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"`{key}` must be a number, 0 or more")
    return float(value)


def _differences(case: Case, answer: Answer) -> Iterator[str]:
    if answer.status != case.status:
        body = cut(answer.body.decode("utf-8", "replace"), 200) or "empty body"
        to = header(answer, "location") if 300 <= answer.status < 400 else ""
        yield f"status: expected {case.status}, got {answer.status} ({'redirect to ' + cut(to, 200) if to else body})"
        return
    if case.expect is ANYTHING:
        return
    try:
        got = body_of(answer)
    except ValueError:
        kind = header(answer, "content-type") or "no content type"
        body = cut(answer.body.decode("utf-8", "replace"), 200)
        yield f"$: expected JSON, got {len(answer.body)} bytes of {cut(kind)}" + (f" ({body})" if body else "")
        return
    yield from map(str, differences(case.expect, got, case.rules))


def _row(outcome: Outcome, timed: bool) -> str:
    answer = "✅" if not outcome.differences else "❌ " + escape_cell(cut(outcome.text(), 600))
    time = f"{outcome.seconds * 1000:.1f} ms" if outcome.seconds else ""
    return f"| {escape_cell(cut(outcome.case.name, 60))} | {answer} |" + f" {time} |" * timed


def fenced(text: str, language: str = "") -> str:
    """Text from outside as a block of code, whatever fences it has in it."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def escape_cell(text: str) -> str:
    """Text from outside for a cell of a Markdown table: no markup, no links, no new cells."""
    for character, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("\n", " ")):
        text = text.replace(character, safe)
    for character in "\\`*_[]!@~":
        text = text.replace(character, f"&#{ord(character)};")
    return text
