"""The user's policy: what nobody but them can vouch for. Read from YAML, errors with their line.

```yaml
allow-globals:            # exact names, `module:name`
  - mypackage.transformers:Clip
allow-operators:          # ONNX, `domain:operator`
  - com.microsoft:FusedGelu
```
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_deploy.errors import InputError

_GLOBAL = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OPERATOR = re.compile(r"[A-Za-z_][\w.\-]*:[A-Za-z_]\w*")
_EXAMPLE = {"allow-globals": "mypackage.transformers:Clip", "allow-operators": "com.microsoft:FusedGelu"}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Exact names that the user vouches for: `module:name` and `domain:operator`."""

    allow_globals: frozenset[str] = frozenset()
    allow_operators: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, list[str]]:
        """For JSON."""
        return {name: sorted(value) for name, value in asdict(self).items()}


def from_dict(values: dict[str, list[str]]) -> Policy:
    """The inverse of `Policy.as_dict`."""
    return Policy(**{name: frozenset(value) for name, value in values.items()})


def is_operator(text: str) -> bool:
    """Whether this is a name that `allow-operators` takes."""
    return _OPERATOR.fullmatch(text) is not None


def load(path: str | Path) -> Policy:
    """Read a policy file. Raises InputError with the file and the line."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The policy {path} cannot be read: {error}.", hint="Check the input `policy`.") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise _wrong(path, line, f"it is no valid YAML: {error.problem}") from error
    values: dict[str, frozenset[str]] = {}
    for name, line, items in _entries(node, path):
        if name in values:
            raise _wrong(path, line, f"`{name}` is there twice")
        values[name] = frozenset(_item(name, item, path) for item in items)
    return Policy(**{name.replace("-", "_"): value for name, value in values.items()})


def _entries(node: Any, path: str | Path) -> Iterator[tuple[str, int, list[Any]]]:
    import yaml

    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path, 1, "it must be a mapping, `allow-globals:` with a list below it")
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value not in _EXAMPLE:
            raise _wrong(path, line, f"there is no key `{key.value}`; the keys are {', '.join(_EXAMPLE)}")
        if not isinstance(value, yaml.SequenceNode):
            raise _wrong(path, line, f"`{key.value}` must be a list, each line as `- {_EXAMPLE[key.value]}`")
        yield key.value, line, value.value


def _item(name: str, node: Any, path: str | Path) -> str:
    pattern = _GLOBAL if name == "allow-globals" else _OPERATOR
    text = getattr(node, "value", None)
    line = node.start_mark.line + 1
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise _wrong(path, line, f"an entry of `{name}` must be an exact name such as `{_EXAMPLE[name]}`")
    if name == "allow-globals":
        from ml_deploy.models.globals_ import never_allowed

        module, _, attribute = text.partition(":")
        reason = never_allowed(module, attribute)
        if reason:
            raise _wrong(path, line, f"`{text}` can never be allowed: it {reason}")
    return text


def _wrong(path: str | Path, line: int, what: str) -> InputError:
    return InputError(f"The policy {path} is not right in line {line}: {what}.", hint="Correct that line.",
                      title="Invalid policy", file=str(path), line=line)  # fmt: skip
