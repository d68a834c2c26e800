"""Manifests: read from files, folders and globs, checked for shape, ordered for applying.

Objects stay the dictionaries that their authors wrote. Raises ManifestError with file and line.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_deploy.errors import ManifestError, cause
from ml_deploy.releases.cluster import Object

if TYPE_CHECKING:
    import yaml

    from ml_deploy.releases.sources.variables import Variables

_ENDINGS = (".yaml", ".yml", ".json")
_FIRST = (
    "Namespace", "CustomResourceDefinition", "PriorityClass", "RuntimeClass", "StorageClass", "ResourceQuota", "LimitRange",
    "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "NetworkPolicy",
    "Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim", "Service",
)  # fmt: skip
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob")


@dataclass(frozen=True)
class Manifest:
    """One object and where its author wrote it (`file` is empty for what was generated)."""

    object: Object
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """`deploy.yaml:12`, a chart's template, or `generated`."""
        return (f"{self.file}:{self.line}" if self.line else self.file) or "generated"

    @property
    def title(self) -> str:
        """`Deployment wine`."""
        return f"{self.object['kind']} {self.object['metadata']['name']}"


def read(patterns: Sequence[str], root: Path, variables: Variables | None = None) -> list[Manifest]:
    """Every object in the files that the patterns name, relative to `root`, in the order they were written.

    variables: what is put in for `${NAME}`. A pattern is a file, a folder (searched through for .yaml, .yml and .json) or a glob with `**`.
    """
    found: list[Manifest] = []
    for path in files(patterns, root):
        found += parse(_text(path, root), _shown(path, root), variables)
    if not found:
        raise ManifestError(
            f"There is no object in the manifests ({', '.join(patterns)}): every document is empty.",
            hint="Check `manifests`.",
        )
    refuse_twins(found)
    return found


def files(patterns: Sequence[str], root: Path) -> list[Path]:
    """The files that the patterns name, each once, sorted within a pattern. A pattern without a file is an error."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = _matches(pattern, root)
        if not matched:
            raise ManifestError(
                f"`manifests` names {pattern!r}, and there is no manifest there (looked in {root.resolve()}).",
                hint="Name files, folders or globs relative to the workspace; is the repository checked out?",
            )
        found.update(dict.fromkeys(matched))
    return list(found)


def _matches(pattern: str, root: Path) -> list[Path]:
    path = root / pattern
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in _ENDINGS and p.is_file())
    found = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 (the pattern may be absolute)
    return sorted(p for p in found if p.is_file() and p.suffix in _ENDINGS)


def _text(path: Path, root: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"The manifest {_shown(path, root)} cannot be read: {cause(error)}.") from error


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def parse(text: str, file: str, variables: Variables | None = None) -> list[Manifest]:
    """The objects of one file: several documents, `kind: List` unfolded, empty documents left out."""
    found: list[Manifest] = []
    for document, line in documents(text, file, variables):
        if document is not None:
            found += (Manifest(obj, file, line) for obj in _objects(document, file, line))
    return found


def documents(text: str, file: str, variables: Variables | None = None) -> Iterator[tuple[Any, int]]:
    """The documents of a YAML text, each with its first line. Raises ManifestError for what is not YAML."""
    import yaml

    loader = _loader()(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if variables:
                variables.fill(node, loader, file)
            _refuse_repeated_keys(node, file)
            yield loader.construct_document(node), node.start_mark.line + 1
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark else 0
        problem = getattr(error, "problem", "") or str(error)
        raise ManifestError(
            f"{file}{f', line {line}' if line else ''} is not YAML: {problem}.",
            hint=_yaml_hint(text, line),
            file=file,
            line=line,
        ) from error
    finally:
        loader.dispose()


def _yaml_hint(text: str, line: int) -> str:
    if "{{" in text:
        return "It has `{{ }}`, as templates of Helm charts do: give the chart's folder as `chart`."
    lines = text.splitlines()
    if 0 < line <= len(lines) and "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]:
        return "The line is indented with a tab; YAML wants spaces."
    if 0 < line <= len(lines) and "${" in lines[line - 1]:
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
    return Loader


def _plain_numbers(tag: str, pattern: Any) -> Any:
    """The pattern of a resolver, but numbers to the base of 60 left out."""
    import re

    if tag.endswith((":int", ":float")):
        return re.compile(rf"(?![^:]*:)(?:{pattern.pattern})", re.VERBOSE)
    return pattern


def _refuse_repeated_keys(node: yaml.Node, file: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen: set[object] = set()
        for key, value in node.value:
            if key.value in seen and key.value != "<<":
                line = key.start_mark.line + 1
                raise ManifestError(
                    f"{file}, line {line}: the key {key.value!r} is there twice.",
                    hint="One of the two would be lost: remove it.", file=file, line=line,
                )  # fmt: skip
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
            _refuse_repeated_keys(value, file)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, file)


def _objects(document: Any, file: str, line: int) -> Iterator[Object]:
    if not isinstance(document, dict):
        raise _wrong(file, line, f"is no Kubernetes object but a {_word(document)}")
    items = document.get("items")
    if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
        for item in items:
            yield from _objects(item, file, line)
        return
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key), str) or not document[key]:
            raise _wrong(file, line, f"has no `{key}`", "Every document of a manifest is a Kubernetes object.")
    if document["apiVersion"].startswith("kustomize.config.k8s.io/"):
        raise _wrong(file, line, "is a kustomization", "Give its folder as `kustomize`.")
    meta = document.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        hint = "A release finds its objects again by name: `generateName` cannot be used." if meta else ""
        raise _wrong(file, line, f"({document['kind']}) has no `metadata.name`", hint)
    yield json.loads(json.dumps(document))  # of its own: anchors make parts of documents shared


def _wrong(file: str, line: int, what: str, hint: str = "") -> ManifestError:
    return ManifestError(f"The document at {file}:{line} {what}.", hint=hint, file=file, line=line)


def _word(value: object) -> str:
    return {"str": "text", "list": "list", "int": "number", "float": "number", "bool": "truth value"}.get(
        type(value).__name__, type(value).__name__
    )


def refuse_twins(manifests: Sequence[Manifest]) -> None:
    """Raises ManifestError for an object that is there twice."""
    seen: dict[tuple[str, ...], Manifest] = {}
    for one in manifests:
        meta = one.object["metadata"]
        group = one.object["apiVersion"].rpartition("/")[0]
        key = (group, one.object["kind"], str(meta.get("namespace") or ""), meta["name"])
        if key in seen:
            raise ManifestError(
                f"{one.title} is there twice: at {seen[key].place} and at {one.place}.",
                hint="Only one of them can be applied: remove the other.", file=one.file, line=one.line,
            )  # fmt: skip
        seen[key] = one


def rank(kind: str) -> int:
    """Where a kind stands in the order of applying: what others need comes first, workloads late, the rest last."""
    if kind in _FIRST:
        return _FIRST.index(kind)
    return len(_FIRST) if kind in _WORKLOADS else len(_FIRST) + 1


def ordered(manifests: Sequence[Manifest]) -> list[Manifest]:
    """In an order that works: namespaces, CRDs, accounts and rights, configuration, services, workloads, the rest."""
    return sorted(manifests, key=lambda one: rank(one.object["kind"]))


def is_workload(obj: Object) -> bool:
    """Whether the object runs pods of its own."""
    return obj.get("kind") in _WORKLOADS


def template_of(obj: Object) -> Object | None:
    """The pod template of a workload (of a CronJob: its job's), or None."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = spec.get("template")
    return template if isinstance(template, dict) and isinstance(template.get("spec"), dict) else None
