"""YAML as Kubernetes reads it: the documents of a text, each with its first line, or what is wrong with which line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ml_deploy.errors import ManifestError

if TYPE_CHECKING:
    import yaml

    from ml_deploy.releases.sources.variables import Variables


def documents(text: str, file: str, variables: Variables | None = None) -> Iterator[tuple[Any, int]]:
    """The documents of a YAML text. variables: what is put in for `${NAME}`. Raises ManifestError for what is not YAML."""
    import yaml

    loader = _loader()(text)
    try:
        while loader.check_node():
            top = loader.get_node()
            nodes = list(_nodes(top))
            if variables:
                variables.fill(nodes, loader, file)
            _refuse_odd_keys(nodes, text, file)
            yield loader.construct_document(top), top.start_mark.line + 1
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", "") or str(error)
        raise _wrong(f"is not YAML: {problem}", text, file, mark.line + 1 if mark else 0) from error
    finally:
        loader.dispose()


def _nodes(top: yaml.Node) -> Iterator[yaml.Node]:
    """A document's nodes in the order in which they were written, each once: an alias is the node that it names."""
    import yaml

    seen, left = set[int](), [top]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            left += reversed([one for pair in node.value for one in pair])
        elif isinstance(node, yaml.SequenceNode):
            left += reversed(node.value)


def _refuse_odd_keys(nodes: list[yaml.Node], text: str, file: str) -> None:
    """Keys that are there twice, of which one would be lost, and keys that are no text (`{{ .Values.name }}` is one)."""
    import yaml

    for node in nodes:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("is no manifest: it has braces or brackets where a key belongs", text, file, line)
            if key.value in seen and key.value != "<<":
                raise ManifestError(
                    f"{file}, line {line}: the key {key.value!r} is there twice.",
                    hint="One of the two would be lost: remove it.", file=file, line=line,
                )  # fmt: skip
            seen.add(key.value)


def _wrong(what: str, text: str, file: str, line: int) -> ManifestError:
    where = f"{file}, line {line}" if line else file
    return ManifestError(f"{where} {what}.", hint=_hint(text, line), file=file, line=line)


def _hint(text: str, line: int) -> str:
    if "{{" in text:
        return "It has `{{ }}`, as templates of Helm charts do: give the chart's folder as `chart`."
    lines = text.splitlines()
    wrong = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in wrong[: len(wrong) - len(wrong.lstrip())]:
        return "The line is indented with a tab; YAML wants spaces."
    if "${" in wrong:
        return "Between braces `${NAME}` needs quotes: write each key on a line of its own, or put it in quotes."
    return "Mend the line; the cause may be the line above it."


def _loader() -> Any:
    """PyYAML's safe loader, reading scalars as Kubernetes does: `2024-01-01`, `12:30` and `=` are strings."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    odd = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, _plain_numbers(tag, pattern)) for tag, pattern in resolvers if tag not in odd]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0o[0-7]+$"), ["0"])
    return Loader


def _plain_numbers(tag: str, pattern: Any) -> Any:
    """The pattern of a resolver, but numbers to the base of 60 left out."""
    if tag.endswith((":int", ":float")):
        return re.compile(rf"(?![^:]*:)(?:{pattern.pattern})", re.VERBOSE)
    return pattern
