"""Helm charts and kustomizations: what a renderer is asked, and what becomes of the YAML that it gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ml_deploy.errors import InputError, ManifestError
from ml_deploy.releases.sources import manifests
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.sources.variables import Variables

_HOOK = "helm.sh/hook"
_TESTS = {"test", "test-success", "test-failure"}
_NEVER_HERE = {
    "pre-delete",
    "post-delete",
    "pre-rollback",
    "post-rollback",
}  # Helm's own ways out, which nobody takes here


@dataclass(frozen=True)
class Capabilities:
    """What a chart may ask about the cluster: its version, and its `group/version` and `group/version/Kind`s."""

    version: str
    api_versions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart (folder, .tgz, URL or repo/name) with its values; `release` and `namespace` are what templates see.

    login: what the registry of an oci:// address is given, as docker keeps it; empty leaves signing in to helm.
    """

    reference: str
    version: str = ""
    values: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    release: str
    namespace: str

    @property
    def title(self) -> str:
        """The reference as it may be shown: an address without user and password."""
        return re.sub(r"://[^/@]+@", "://", self.reference)

    @property
    def registry(self) -> str:
        """The host of an oci:// address; empty for any other chart."""
        return self.reference.removeprefix("oci://").partition("/")[0] if self.reference.startswith("oci://") else ""

    def refuse_idle_version(self, root: Path) -> None:
        """Helm disregards a version for what is not looked up by one. Raises InputError."""
        if self.version and (self.reference.startswith(("http://", "https://")) or (root / self.reference).exists()):
            raise InputError(
                f"`chart-version` would be disregarded: {self.title} is one chart with a version of its own.",
                hint="Leave `chart-version` out; it is for oci:// addresses and for charts of a repository (repo/name).",
            )


class Renderer(Protocol):
    """Runs the tools that render; paths are relative to the workspace. Raises ManifestError with the tool's words."""

    def chart(self, chart: Chart, capabilities: Capabilities | None) -> str:
        """`helm template`: YAML of all objects, CRDs included. Without capabilities: Helm's own assumptions."""

    def kustomization(self, folder: str) -> str:
        """`kustomize build` or `kubectl kustomize`: YAML of all objects."""


def objects_of_chart(text: str, chart: Chart, root: Path, tell: Callable[[str], None]) -> list[Manifest]:
    """The objects that a chart rendered to, each with its template as its place.

    Helm's hooks are objects that Helm runs around an installation; there is no Helm here, so a chart that
    depends on them is refused. Hooks that only Helm's own test, delete and rollback would run are left out, and said.
    """
    sources = [(m.start(), m[1]) for m in re.finditer(r"(?m)^# Source: (\S+)$", text)]
    starts = [(text.count("\n", 0, position) + 1, name) for position, name in sources]
    found = [_placed(one, starts, chart, root) for one in manifests.parse(text, f"chart {chart.title} as rendered")]
    if not found:
        raise ManifestError(
            f"The chart {chart.title} renders to no object at all.",
            hint="Its values may turn everything off: check `values` and `set`.",
        )
    kept = [one for one in found if not _hooks(one)]
    _refuse_hooks([one for one in found if _hooks(one) - _TESTS - _NEVER_HERE], chart)
    for one in found:
        if _hooks(one):
            tell(f"{one.title} ({one.place}) is left out: it is a hook for Helm's own {', '.join(sorted(_hooks(one)))}")
    if not kept:
        raise ManifestError(f"The chart {chart.title} renders to nothing but hooks, which only Helm itself runs.")
    manifests.refuse_twins(kept)
    return kept


def objects_of_kustomization(text: str, folder: str, variables: Variables | None) -> list[Manifest]:
    """The objects that a kustomization rendered to."""
    found = [replace(one, file=folder, line=0) for one in manifests.parse(text, f"{folder} as rendered", variables)]
    if not found:
        raise ManifestError(f"The kustomization {folder} renders to no object at all.", hint="Check its `resources`.")
    manifests.refuse_twins(found)
    return found


def _placed(one: Manifest, starts: Sequence[tuple[int, str]], chart: Chart, root: Path) -> Manifest:
    """The object with its template for a place; in a chart that is a folder, the template's path in the repository."""
    name = next((name for line, name in reversed(starts) if line < one.line), "")
    below = name.partition("/")[2]
    path = f"{chart.reference.rstrip('/')}/{below}"
    return replace(one, file=path if (root / path).is_file() else name or f"chart {chart.title}", line=0)


def _hooks(one: Manifest) -> set[str]:
    said = (one.object["metadata"].get("annotations") or {}).get(_HOOK)
    return {word.strip() for word in str(said).split(",")} if said else set()


def _refuse_hooks(found: Sequence[Manifest], chart: Chart) -> None:
    if not found:
        return
    listed = ", ".join(f"{one.title} ({', '.join(sorted(_hooks(one)))}, {one.place})" for one in found)
    raise ManifestError(
        f"The chart {chart.title} has hooks, which only Helm itself runs: {listed}.",
        hint="Turn them off by `values` or `set`. If it needs none of them to run, render it without "
        "(`helm template --no-hooks`) in a step before, and give the result as `manifests`.",
        title="Hooks are not supported",
        file=found[0].file,
    )
