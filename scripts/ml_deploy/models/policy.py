"""The user's policy: what nobody but them can vouch for, and their limits. Read from YAML, errors with their line.

```yaml
allow-globals:            # exact names, `module:name`
  - mypackage.transformers:Clip
allow-operators:          # ONNX, `domain:operator`
  - com.microsoft:FusedGelu
formats:                  # what is accepted
  - onnx
limits:
  size: 500MB             # of all files together
  memory: 2GiB            # of the process that reads them
  time: 5m                # for a file
severities:               # deny, review or note, by rule
  format-mismatch: note
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_deploy.errors import InputError, cause

_GLOBAL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OPERATOR = re.compile(r"[A-Za-z_][\w.\-]*:[A-Za-z_]\w*")
_EXAMPLE = {
    "allow-globals": "mypackage.transformers:Clip",
    "allow-operators": "com.microsoft:FusedGelu",
    "formats": "onnx",
}
_MAPPINGS = {"limits": "size: 500MB", "severities": "format-mismatch: note"}
_LEAST = {"size": 1, "memory": 512 << 20, "time": 1.0}
#: Names of formats, as findings and the output `format` have them.
FORMATS = ("frozen-graph", "hdf5", "joblib", "keras", "keras-h5", "lightgbm", "npy", "npz", "onnx", "pickle", "pytorch", "safetensors",
           "savedmodel", "skops", "tar", "torch-export", "torchscript", "xgboost", "zip")  # fmt: skip
Parse = Callable[[str], float | int | None]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Exact names that the user vouches for (`module:name` and `domain:operator`), and limits. None and empty: as usual.

    size and memory are bytes, seconds are for one file; severities are by rule.
    """

    allow_globals: frozenset[str] = frozenset()
    allow_operators: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    size: int | None = None
    memory: int | None = None
    seconds: float | None = None
    severities: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, list[str]]:
        """What an inspection needs of it, for JSON."""
        return {"allow_globals": sorted(self.allow_globals), "allow_operators": sorted(self.allow_operators)}


def from_dict(values: dict[str, list[str]]) -> Policy:
    """The inverse of `Policy.as_dict`."""
    return Policy(
        allow_globals=frozenset(values["allow_globals"]), allow_operators=frozenset(values["allow_operators"])
    )


def is_operator(text: str) -> bool:
    """Whether this is a name that `allow-operators` takes."""
    return _OPERATOR.fullmatch(text) is not None


def is_global(text: str) -> bool:
    """Whether this is a name that `allow-globals` takes, as far as its spelling tells."""
    return _GLOBAL.fullmatch(text) is not None


def load(path: str | Path, parse_size: Parse, parse_duration: Parse) -> Policy:
    """Read a policy file; sizes and durations are written as in inputs. Raises InputError with the file and the line."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The policy {path} cannot be read: {cause(error)}.", hint="Check the input `policy`."
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise _wrong(path, line, f"it is no valid YAML: {error.problem}") from error
    parts = dict(_parts(node, path))
    limits = {
        name: _limit(name, value, {"time": parse_duration}.get(name, parse_size), path)
        for name, value in parts.get("limits", {}).items()
    }
    return Policy(
        allow_globals=frozenset(_item("allow-globals", item, path) for item in parts.get("allow-globals", ())),
        allow_operators=frozenset(_item("allow-operators", item, path) for item in parts.get("allow-operators", ())),
        formats=tuple(_item("formats", item, path) for item in parts.get("formats", ())),
        size=limits.get("size"), memory=limits.get("memory"), seconds=limits.get("time"),
        severities={name: _severity(name, value, path) for name, value in parts.get("severities", {}).items()},
    )  # fmt: skip


def _parts(node: Any, path: str | Path) -> Iterator[tuple[str, Any]]:
    """The keys, each with the nodes of its list, or of its mapping by name."""
    import yaml

    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path, 1, "it must be a mapping, `allow-globals:` with a list below it")
    for name, line, value in _entries(node, path):
        if name in _EXAMPLE and isinstance(value, yaml.SequenceNode):
            yield name, value.value
        elif name in _EXAMPLE:
            raise _wrong(path, line, f"`{name}` must be a list, each line as `- {_EXAMPLE[name]}`")
        elif name in _MAPPINGS and isinstance(value, yaml.MappingNode):
            yield name, {key: inner for key, _, inner in _entries(value, path)}
        elif name in _MAPPINGS:
            raise _wrong(path, line, f"`{name}` must be a mapping, each line as `{_MAPPINGS[name]}`")
        else:
            raise _wrong(path, line, f"there is no key `{name}`; the keys are {', '.join((*_EXAMPLE, *_MAPPINGS))}")


def _entries(node: Any, path: str | Path) -> Iterator[tuple[str, int, Any]]:
    seen: set[str] = set()
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise _wrong(path, line, f"`{name}` is there twice")
        seen.add(name)
        yield name, line, value


def _item(name: str, node: Any, path: str | Path) -> str:
    text, line = getattr(node, "value", None), node.start_mark.line + 1
    if name == "formats":
        if text not in FORMATS:
            raise _wrong(path, line, f"there is no format `{text}`; the formats are {', '.join(FORMATS)}")
        return str(text)
    pattern = _GLOBAL if name == "allow-globals" else _OPERATOR
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise _wrong(path, line, f"an entry of `{name}` must be an exact name such as `{_EXAMPLE[name]}`")
    if name == "allow-globals":
        from ml_deploy.models.globals_ import never_allowed

        module, _, attribute = text.partition(":")
        reason = never_allowed(module, attribute)
        if reason:
            raise _wrong(path, line, f"`{text}` can never be allowed: it {reason}")
    return text


def _limit(name: str, node: Any, parse: Parse, path: str | Path) -> Any:
    line = node.start_mark.line + 1
    if name not in _LEAST:
        raise _wrong(path, line, f"there is no limit `{name}`; the limits are {', '.join(_LEAST)}")
    try:
        value = parse(str(getattr(node, "value", "")))
    except ValueError as error:
        raise _wrong(path, line, f"`{name}` {error}") from error
    if value is None or value < _LEAST[name]:
        raise _wrong(path, line, f"`{name}` must be {_LEAST[name]:,} {'s' if name == 'time' else 'bytes'} or more")
    return value


def _severity(rule: str, node: Any, path: str | Path) -> str:
    from ml_deploy.models import rules

    severity = str(getattr(node, "value", ""))
    reason = rules.refusal(rule, severity)
    if reason:
        raise _wrong(path, node.start_mark.line + 1, reason)
    return severity


def _wrong(path: str | Path, line: int, what: str) -> InputError:
    return InputError(f"The policy {path} is not right in line {line}: {what}.", hint="Correct that line.",
                      title="Invalid policy", file=str(path), line=line)  # fmt: skip
