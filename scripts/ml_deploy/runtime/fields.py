"""Inputs and outputs as dataclass fields: the one source of names, descriptions and defaults.

`action.yml`, the tables in the READMEs and the options of the terminal are generated from these.
An input is always a string at first, as GitHub has it; empty means unset.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ml_deploy.errors import InputError

ENV_PREFIX = "ML_DEPLOY_"
T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """What is known of one input: text for people, and how to read its string."""

    description: str
    parse: Callable[[str], Any]
    default: str = ""
    required: bool = False
    secret: bool = False
    masked: bool = False
    repeatable: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """What is known of one output."""

    description: str


def _input(spec: Input) -> Any:
    empty = None if spec.required else spec.parse(spec.default)
    return dataclasses.field(default=empty, repr=not spec.secret, metadata={"input": spec})


def text(description: str, *, default: str = "", required: bool = False) -> Any:
    """A string, stripped."""
    return _input(Input(description, str.strip, default, required))


def secret(description: str, *, masked: bool = True) -> Any:
    """A string that is left out of `repr`, and masked in the log.

    masked: False where only a part of it is secret (a kubeconfig); its reader masks that part.
    """
    return _input(Input(description, str.strip, secret=True, masked=masked))


def lines(description: str, *, default: str = "", required: bool = False) -> Any:
    """A newline-separated list, read as a tuple of non-empty stripped strings."""
    return _input(Input(description, _parse_lines, default, required, repeatable=True))


def secret_lines(description: str) -> Any:
    """A newline-separated list of secrets."""
    return _input(Input(description, _parse_lines, secret=True, masked=True, repeatable=True))


def flag(description: str, *, default: bool = False) -> Any:
    """Exactly `true` or `false`."""
    return _input(Input(description, _parse_flag, "true" if default else "false"))


def choice(description: str, choices: tuple[str, ...], *, default: str) -> Any:
    """One word out of a few."""
    return _input(Input(description, _one_of(choices), default, choices=choices))


def integer(
    description: str, *, default: str = "", minimum: int = 0, maximum: int | None = None, required: bool = False
) -> Any:
    """A whole number, or None when unset."""
    return _input(Input(description, _number(int, minimum, maximum), default, required))


def number(description: str, *, default: str = "", minimum: float = 0.0) -> Any:
    """A decimal number, or None when unset."""
    return _input(Input(description, _number(float, minimum), default))


def duration(description: str, *, default: str = "") -> Any:
    """`90s`, `5m` or `1h` (also `250ms`), read as seconds (float); None when unset."""
    return _input(Input(description, parse_duration, default))


def size(description: str, *, default: str = "") -> Any:
    """`500MB`, `2GiB` or a number of bytes, read as bytes (int); None when unset."""
    return _input(Input(description, parse_size, default))


def parsed(description: str, parse: Callable[[str], Any], *, default: str) -> Any:
    """What `parse` makes of the string; it raises ValueError with words such as `must be …`."""
    return _input(Input(description, parse, default))


def output(description: str, *, default: Any = "") -> Any:
    """An output of a command. True and False are written as true and false."""
    return dataclasses.field(default=default, metadata={"output": Output(description)})


def parse_duration(value: str) -> float | None:
    """Seconds in `250ms`, `90s`, `5m`, `1h`; None for an empty string."""
    if not value.strip():
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value.strip())
    if not match:
        raise ValueError("must be a duration such as 90s, 5m or 1h")
    return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2]]


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


def parse_size(value: str) -> int | None:
    """Bytes in `500MB` (decimal), `2GiB` (binary) or `1048576`; None for an empty string."""
    if not value.strip():
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
    if not match or match[2].upper() not in _UNITS:
        raise ValueError("must be a size such as 500MB, 2GiB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _parse_lines(value: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in value.splitlines() if line.strip())


def _parse_flag(value: str) -> bool:
    if value.strip() not in ("true", "false"):
        raise ValueError("must be exactly true or false")
    return value.strip() == "true"


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.strip() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value.strip()

    return parse


def _number(kind: type, minimum: float, maximum: float | None = None) -> Callable[[str], Any]:
    def parse(value: str) -> Any:
        if not value.strip():
            return None
        try:
            parsed = kind(value.strip())
        except ValueError:
            raise ValueError(f"must be a {'whole ' if kind is int else ''}number") from None
        if not parsed >= minimum or parsed == float("inf"):
            raise ValueError(f"must be {minimum:g} or more")
        if maximum is not None and parsed > maximum:
            raise ValueError(f"must be {maximum} or less")
        return parsed

    return parse


def inputs_of(cls: type) -> dict[str, Input]:
    """The inputs of a command by their kebab-case name, in the order they were written."""
    return {_kebab(f.name): f.metadata["input"] for f in dataclasses.fields(cls) if "input" in f.metadata}


def outputs_of(cls: type) -> dict[str, Output]:
    """The outputs of a command by their kebab-case name."""
    return {_kebab(f.name): f.metadata["output"] for f in dataclasses.fields(cls) if "output" in f.metadata}


def env_name(name: str) -> str:
    """`max-model-size` -> `ML_DEPLOY_MAX_MODEL_SIZE`."""
    return ENV_PREFIX + name.upper().replace("-", "_")


def read(cls: type[T], values: Mapping[str, str]) -> T:
    """Build `cls` from raw strings by kebab-case name. Raises one InputError naming every problem.

    A class may have `contradictions(values)`: a static method that yields sentences about
    inputs that do not go together, judged on the raw strings that differ from their defaults.
    """
    parsed, problems = _parse(cls, values)
    if problems:
        raise _invalid(problems)
    return cls(**parsed)


def problems_of(cls: type, values: Mapping[str, str]) -> list[str]:
    """What `read` would complain about, one sentence each."""
    return _parse(cls, values)[1]


def _parse(cls: type, values: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    known = inputs_of(cls)
    given = {name: value for name, value in values.items() if value.strip()}
    parsed: dict[str, Any] = {}
    problems: list[str] = []
    for name, spec in known.items():
        try:
            parsed[name.replace("-", "_")] = _value(spec, given.get(name, ""))
        except ValueError as error:
            shown = "" if spec.secret or name not in given else f" (it is {_short(given[name])})"
            problems.append(f"`{name}` {error}{shown}")
    # In an action every input arrives, with its default where the user wrote none: that one is nobody's choice.
    chosen = {name: value for name, value in given.items() if name not in known or value != known[name].default}
    problems += getattr(cls, "contradictions", lambda _: ())(chosen)
    return parsed, problems


def _value(spec: Input, raw: str) -> Any:
    if not raw and spec.required:
        raise ValueError(f"is required: {spec.description}")
    return spec.parse(raw or spec.default)


def _invalid(problems: list[str]) -> InputError:
    if len(problems) == 1:
        several = re.match("`[^`]+`(, | and )`", problems[0])
        message = f"The input{'s' if several else ''} {problems[0].rstrip('.')}."
    else:
        message = f"{len(problems)} inputs are not right:\n" + "\n".join(f"- {p}" for p in problems)
    return InputError(message, hint="Change the `with:` block of this step (or the options on the terminal).")


def _short(value: str) -> str:
    line = value.strip().splitlines()[0]
    return repr(line if len(line) <= 60 else line[:57] + "...")


def as_outputs(result: object) -> dict[str, str]:
    """The strings to write for a Result, by kebab-case name."""
    return {name: _as_string(getattr(result, name.replace("-", "_"))) for name in outputs_of(type(result))}


def _as_string(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "\n".join(str(item) for item in value)
    return str(value)


def _kebab(name: str) -> str:
    return name.replace("_", "-")
