"""`${NAME}` in manifests, for the names that were asked for and no others.

Values are put into scalars after the YAML was read, so that none of them can change its structure: in quotes a value
stays text, without quotes it is read as YAML reads it (`replicas: ${REPLICAS}` is a number). `$${NAME}` is the way to
write `${NAME}` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ml_deploy.errors import InputError, ManifestError

if TYPE_CHECKING:
    import yaml


class Variables:
    """The variables that may be put in, by name; `values` holds those that are set."""

    def __init__(self, names: tuple[str, ...], values: Mapping[str, str]) -> None:
        self._names, self._values = names, values
        self._pattern = re.compile(rf"(\$?)\$\{{({'|'.join(map(re.escape, names))})\}}")
        self._seen: set[str] = set()

    def fill(self, nodes: Iterable[yaml.Node], loader: Any, file: str) -> None:
        """Put the values into every scalar. Raises ManifestError, with file and line, for what is unset."""
        import yaml

        for node in nodes:
            if isinstance(node, yaml.ScalarNode):
                filled = self._filled(node.value, file, node.start_mark.line + 1)
                if filled != node.value:
                    node.value = filled
                    if not node.style:  # plain: neither quotes nor a block
                        node.tag = loader.resolve(yaml.ScalarNode, filled, (True, False))

    def refuse_unused(self) -> None:
        """A name that is nowhere in the manifests is a misspelt one."""
        unused = [name for name in self._names if name not in self._seen]
        if unused:
            raise InputError(
                f"`substitute` names {', '.join(unused)}, and no manifest has {', '.join(f'${{{n}}}' for n in unused)}.",
                hint="Correct the name here or in the manifests, or take it out of `substitute`.",
            )

    def _filled(self, text: str, file: str, line: int) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[2]
            self._seen.add(name)
            if found[1]:
                return f"${{{name}}}"
            if not self._values.get(name):
                raise _unset(name, file, line)
            return self._values[name]

        return self._pattern.sub(value, text)


def _unset(name: str, file: str, line: int) -> ManifestError:
    return ManifestError(
        f"{file}, line {line}: ${{{name}}} is to be replaced, and the environment variable {name} is unset or empty.",
        hint=f"Set it in the job's or the step's `env:`, or take {name} out of `substitute`.",
        file=file,
        line=line,
    )
