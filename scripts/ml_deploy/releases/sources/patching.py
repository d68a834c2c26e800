"""`patch`: what inputs do not name, merged into the objects before they are sent.

A strategic merge as Kubernetes does it: dictionaries are merged, null removes a key, lists whose items have a key of
their own (containers and env by name, ports by name or number, ...) are merged item by item, any other list is
replaced. `$patch: delete` in such an item removes it, `$patch: replace` in a dictionary replaces it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_deploy.errors import InputError, ManifestError
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.sources.documents import documents
from ml_deploy.releases.sources.manifests import Manifest, read_text

_DIRECTIVE = "$patch"
#: What items of a list are told apart by, the first that both have; all other lists are replaced.
_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",), "initContainers": ("name",), "ephemeralContainers": ("name",), "env": ("name",),
    "volumes": ("name",), "volumeClaimTemplates": ("name",), "imagePullSecrets": ("name",), "secrets": ("name",),
    "volumeMounts": ("mountPath",), "volumeDevices": ("devicePath",), "hostAliases": ("ip",),
    "ports": ("name", "containerPort", "port"), "topologySpreadConstraints": ("topologyKey",),
}  # fmt: skip


@dataclass(frozen=True)
class Patch:
    """What is merged into every object of this kind and, where they are given, this name and API version."""

    content: Object
    where: str

    def fits(self, obj: Object) -> bool:
        """Whether it is for this object."""
        name = (self.content.get("metadata") or {}).get("name")
        return (
            self.content["kind"] == obj["kind"]
            and self.content.get("apiVersion", obj["apiVersion"]) == obj["apiVersion"]
            and name in (None, obj["metadata"]["name"])
        )

    @property
    def title(self) -> str:
        """`Deployment`, or `Deployment web`."""
        return f"{self.content['kind']} {(self.content.get('metadata') or {}).get('name') or ''}".strip()


def read(given: str, root: Path) -> list[Patch]:
    """The patches in the input: YAML text, or the path of a file. Raises InputError for what is neither."""
    text, where = given, "patch"
    if "\n" not in given and not given.startswith("{"):
        path = root / given
        if path.is_file():
            text, where = read_text(path, root), given
        elif path.suffix in (".yaml", ".yml", ".json"):
            raise InputError(f"`patch` names {given!r}, and there is no such file (looked in {root.resolve()}).")
    found = [
        Patch(_partial(document, where, line), f"{where}, line {line}")
        for document, line in documents(text, where)
        if document is not None
    ]
    if not found:
        raise InputError("`patch` has no document in it.")
    return found


def _partial(document: Any, where: str, line: int) -> Object:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise InputError(
            f"{where}, line {line}: a patch needs `kind`, to say which objects it is for.",
            hint="Write it as a part of the object: `kind: Deployment` and then `spec:` with what is to be different.",
        )
    return document


def merged(found: Sequence[Manifest], patches: Sequence[Patch]) -> list[Manifest]:
    """The manifests with every patch merged in. Raises ManifestError for a patch that is for none of them."""
    result = list(found)
    for patch in patches:
        hits = [i for i, one in enumerate(result) if patch.fits(one.object)]
        if not hits:
            there = ", ".join(one.title for one in found)
            raise ManifestError(
                f"The patch for {patch.title} ({patch.where}) is for no object of this release; it has {there}.",
                hint="Correct `kind`, `apiVersion` or `metadata.name` of the patch.",
                title="Patch fits nothing",
            )
        for i in hits:
            result[i] = replace(result[i], object=_merge(result[i].object, patch.content, patch.where, ()))
    return result


def _merge(into: Any, patch: Object, where: str, path: tuple[str, ...]) -> Object:
    """A dictionary with a patch merged in."""
    directive = patch.get(_DIRECTIVE)
    if directive not in (None, "replace"):
        raise InputError(f"{where}: `$patch: {directive}` at {'.'.join(path)} is not known here (replace, delete).")
    result = copy.deepcopy(into) if isinstance(into, dict) and directive is None else {}
    for key, value in patch.items():
        below = (*path, key)
        if key == _DIRECTIVE:
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merge(result.get(key), value, where, below)
        elif isinstance(value, list) and key in _KEYS and all(isinstance(item, dict) for item in value):
            result[key] = _merge_items(result.get(key) or [], value, where, below)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_items(into: Sequence[Object], items: Sequence[Object], where: str, path: tuple[str, ...]) -> list[Object]:
    """A list of named things with a patch merged in, item by item; what is new comes last."""
    result = list(into)
    for item in items:
        at = _same(result, item, where, path)
        if item.get(_DIRECTIVE) == "delete":
            if at is None:
                raise ManifestError(f"{where}: {'.'.join(path)} has no such item to delete.")
            del result[at]
        elif at is None:
            result.append(_merge(None, item, where, path))
        elif path[-1] == "env":  # merged, a value would stay beside a valueFrom
            result[at] = copy.deepcopy(item)
        else:
            result[at] = _merge(result[at], item, where, path)
    return result


def _same(there: Sequence[Object], item: Object, where: str, path: tuple[str, ...]) -> int | None:
    keys = [key for key in _KEYS[path[-1]] if _key(item, key) is not None]
    if not keys:
        raise InputError(
            f"{where}: an item of {'.'.join(path)} has no `{_KEYS[path[-1]][0]}`, so nobody knows which one it changes.",
            hint="The container of generated objects is called like `app`." if path[-1] == "containers" else "",
        )
    for key in keys:
        for i, one in enumerate(there):
            if isinstance(one, dict) and _key(one, key) == _key(item, key):
                return i
    return None


def _key(item: Object, key: str) -> Any:
    """What an item is told apart by: on itself, or for claims in its metadata."""
    return item.get(key, (item.get("metadata") or {}).get(key))
