"""Manifests: read from files, folders and globs, checked for shape, ordered for applying.

Objects stay the dictionaries that their authors wrote. Raises ManifestError with file and line.
"""

from __future__ import annotations

import copy
import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_deploy.errors import ManifestError, cause
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.sources.documents import documents

if TYPE_CHECKING:
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
        found += parse(read_text(path, root), _shown(path, root), variables)
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
                hint="Name files, folders or globs relative to the workspace (of folders and globs, .yaml, .yml and .json are read); "
                "is the repository checked out?",
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


def read_text(path: Path, root: Path) -> str:
    """A file that its author wrote. Raises ManifestError when it cannot be read, or is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        hint = "Save it as UTF-8." if isinstance(error, UnicodeDecodeError) else ""
        raise ManifestError(f"The file {_shown(path, root)} cannot be read: {cause(error)}.", hint=hint) from error


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def parse(text: str, file: str, variables: Variables | None = None) -> list[Manifest]:
    """The objects of one file: several documents, `kind: List` unfolded, empty documents left out."""
    found: list[Manifest] = []
    for document, line in documents(text, file, variables):
        if document is not None:
            found += (Manifest(obj, file, line) for obj in _objects(document, file, line))
    return found


def _objects(document: Any, file: str, line: int) -> Iterator[Object]:
    if not isinstance(document, dict):
        raise _wrong(file, line, f"is no Kubernetes object but {_word(document)}")
    items = document.get("items")
    if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
        for item in items:
            yield from _objects(item, file, line)
        return
    if Path(file).stem == "kustomization" or str(document.get("apiVersion")).startswith("kustomize.config.k8s.io/"):
        raise _wrong(file, line, "is a kustomization", "Give its folder as `kustomize`.")
    if Path(file).name == "Chart.yaml":
        raise _wrong(file, line, "is a Helm chart", "Give its folder as `chart`.")
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key), str) or not document[key]:
            raise _wrong(file, line, f"has no `{key}`", "Every document of a manifest is a Kubernetes object.")
    _refuse_shape(document, file, line)
    yield _own(document, file, line)


def _refuse_shape(document: Object, file: str, line: int) -> None:
    """What every object has, in the form that every object has it; all else is for the server to judge."""
    kind, meta = document["kind"], document.get("metadata")
    if not isinstance(meta, dict) or not meta.get("name"):
        hint = "A release finds its objects again by name: `generateName` cannot be used."
        raise _wrong(file, line, f"({kind}) has no `metadata.name`", hint if meta else "")
    for key in ("name", "namespace"):
        if not isinstance(meta.get(key), str | None):
            raise _wrong(file, line, f"({kind}) has {_word(meta[key])} for `metadata.{key}`", "Put it in quotes.")
    parts = {"metadata.labels": meta.get("labels"), "metadata.annotations": meta.get("annotations"),
             "spec": document.get("spec")}  # fmt: skip
    for key, value in parts.items():
        if not isinstance(value, dict | None):
            raise _wrong(file, line, f"({kind}) has {_word(value)} for `{key}`", "It is made of keys with values.")


def _own(document: Object, file: str, line: int) -> Object:
    """A copy of its own, for anchors make parts of documents shared; of what JSON can carry to the server."""
    try:
        copied: Object = json.loads(json.dumps(document, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        hint = "`!!binary`, `!!set`, .inf and .nan, and anchors within themselves, have no place in manifests."
        raise _wrong(file, line, f"({document['kind']}) cannot be sent: {error}", hint) from error
    return copied


def _wrong(file: str, line: int, what: str, hint: str = "") -> ManifestError:
    return ManifestError(f"The document at {file}:{line} {what}.", hint=hint, file=file, line=line)


def _word(value: object) -> str:
    words = {"str": "a text", "list": "a list", "int": "a number", "float": "a number", "bool": "a truth value",
             "dict": "a mapping", "NoneType": "an empty entry"}  # fmt: skip
    return words.get(type(value).__name__, type(value).__name__)


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


def lone_spec(workload: Object) -> Object:
    """The spec of a workload's pods for a pod that is not one of them: a StatefulSet's own claims are empty folders there."""
    template = template_of(workload)
    spec: Object = copy.deepcopy(template["spec"]) if template else {}
    volumes = spec.get("volumes") or []
    claims = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates") or []}
    missing = sorted(claims - {one["name"] for one in volumes})
    return {**spec, "volumes": [*volumes, *({"name": name, "emptyDir": {}} for name in missing)]} if missing else spec
