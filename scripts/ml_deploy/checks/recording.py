"""Golden predictions from a running endpoint: requests in, the same requests with their answers out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_deploy.checks.cases import KEYS, Case, body_of, parse
from ml_deploy.checks.compare import cut, differences
from ml_deploy.checks.http import Answer, Ask
from ml_deploy.checks.jsonl import read_json, read_lines
from ml_deploy.errors import WrongAnswers

_PROBLEMS_SHOWN = 5
_FORMAT = 'Write the body of one request a line, for example {"inputs": [[1.0, 2.0]]}.'


@dataclass(frozen=True)
class Wanted:
    """One request to record: its line as written, and the case that it makes."""

    raw: dict[str, Any]
    case: Case


@dataclass(frozen=True)
class Recorded:
    """One golden prediction as a line of JSONL; `varying` are the places where a second answer differed."""

    line: str
    varying: tuple[str, ...] = ()


def requests_of(file: Path, *, path: str) -> list[Wanted]:
    """Read requests: a line is a golden prediction (with or without its `expect`), or else the body of a request.

    Raises InputError with file and line.
    """

    def read(line: str, number: int) -> Wanted:
        raw = read_json(line)
        if not (isinstance(raw, dict) and ("request" in raw or "path" in raw) and set(raw) <= set(KEYS)):
            raw = {"request": raw}
        return Wanted(raw, parse(json.dumps({"expect": None, **raw}), number, path))

    return read_lines(file, read, what="requests", hint=_FORMAT)


def record(wanted: Sequence[Wanted], ask: Ask) -> list[Recorded]:
    """Ask every request twice. What differs between the two answers is written as `ignore`.

    Raises EndpointDown when no answer comes, and WrongAnswers, naming all of them, for requests that are not
    answered with the status that they should be, or with no JSON, or differently as a whole.
    """
    recorded, problems = [], []
    for one in wanted:
        try:
            recorded.append(_record(one, ask(one.case.request), ask(one.case.request)))
        except ValueError as error:
            problems.append(f'"{cut(one.case.name, 60)}": {error}')
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        raise WrongAnswers(
            f"{len(problems)} of {len(wanted)} requests cannot be recorded: "
            f"{'; '.join(problems[:_PROBLEMS_SHOWN] + more)}. Nothing was written.",
            hint="Correct the requests. One that is meant to be refused says so: give it a `status`.",
            title="Answers cannot be recorded",
        )
    return recorded


def _record(one: Wanted, first: Answer, second: Answer) -> Recorded:
    if first.status != one.case.status:
        body = cut(first.body.decode("utf-8", "replace"), 200) or "empty body"
        raise ValueError(f"answered with status {first.status} ({body})")
    try:
        expect, again = body_of(first), body_of(second)
    except ValueError:
        raise ValueError(f"the answer is no JSON ({cut(first.body.decode('utf-8', 'replace'), 200)})") from None
    varying = tuple(difference.path for difference in differences(expect, again, one.case.rules))
    if "$" in varying or second.status != first.status:
        raise ValueError("the same request got two different answers")
    ignore = [*one.raw.get("ignore", []), *varying]
    line = {**{key: value for key, value in one.raw.items() if key != "expect"}, "expect": expect}
    if ignore:
        line["ignore"] = ignore
    return Recorded(_written(line), varying)


def _written(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON allows and UTF-8 does not
        return json.dumps(value)
    return text
