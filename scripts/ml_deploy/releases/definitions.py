"""CustomResourceDefinitions of a release, and the kinds that they define."""

from __future__ import annotations

from collections.abc import Iterable

from ml_deploy.releases.cluster import Object

KIND = "CustomResourceDefinition"

#: Group and kind.
Defined = tuple[str, str]


def kind_of(obj: Object) -> Defined:
    """The group and kind of an object."""
    return str(obj["apiVersion"]).partition("/")[0], str(obj["kind"])


def defined_by(definition: Object) -> Defined:
    """The group and kind that a definition defines."""
    spec = definition.get("spec") or {}
    return str(spec.get("group")), str((spec.get("names") or {}).get("kind"))


def defined(objects: Iterable[Object]) -> dict[Defined, Object]:
    """The definitions among these objects by what they define."""
    return {defined_by(obj): obj for obj in objects if obj["kind"] == KIND}
