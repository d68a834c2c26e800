"""Reads files of one JSON value a line, and says of each line that is none where it is and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ml_deploy.errors import InputError

T = TypeVar("T")
_PROBLEMS_SHOWN = 8


def read_lines(file: Path, read: Callable[[str, int], T], *, what: str, hint: str) -> list[T]:
    """What `read` makes of each line (given its text and number) that is not blank.

    `read` raises ValueError with a sentence about the line. Raises InputError naming every such line at once;
    a file without lines is an error too. `what` names the contents in messages, `hint` says how to write them.
    """
    text = _text(file, what, hint)
    found: list[T] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                found.append(read(line, number))
        except ValueError as error:
            problems.append((number, str(error)))
    if problems:
        raise _malformed(file, text, problems, hint)
    if not found:
        raise InputError(f"{file} has no {what}.", hint=hint, file=str(file))
    return found


def read_json(line: str) -> Any:
    """The JSON value of a line. Raises ValueError with a sentence."""
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON ({error.msg} at column {error.colno})") from None
    except ValueError as error:  # a number with thousands of digits
        raise ValueError(f"is no JSON ({str(error).partition(';')[0]})") from None


def _text(file: Path, what: str, hint: str) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"There is no file {file} with {what}.",
            hint="Paths start from the workspace: check the spelling, and that the file is checked out.",
        ) from None
    except IsADirectoryError:
        raise InputError(f"{file} is a folder, not a file of {what}.", hint=hint) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}).", hint=hint) from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    if text.startswith("version https://git-lfs.github.com/spec/"):
        raise InputError(
            f"{file} is a Git LFS pointer, not the file itself.",
            hint="Check out with `lfs: true` (actions/checkout).",
            file=str(file),
        )
    return text


def _malformed(file: Path, text: str, problems: list[tuple[int, str]], hint: str) -> InputError:
    if text.lstrip().startswith("["):
        hint = "The file looks like a JSON array: take the brackets and the commas between the lines away. " + hint
    elif text.split("\n")[0].strip() == "{":
        hint = "The file looks like one pretty-printed JSON document. " + hint
    listed = [f"{file}, line {number}: {problem}." for number, problem in problems[:_PROBLEMS_SHOWN]]
    if len(problems) > _PROBLEMS_SHOWN:
        listed.append(f"… and {len(problems) - _PROBLEMS_SHOWN} more lines.")
    return InputError("\n".join(listed), hint=hint, file=str(file), line=problems[0][0])
