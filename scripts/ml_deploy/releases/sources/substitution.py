"""Images put into the containers that they belong to, and what ties a pod template to its configuration."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ml_deploy.errors import InputError, ManifestError
from ml_deploy.images.reference import Reference, parse
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.sources.image_paths import Paths, Place
from ml_deploy.releases.sources.manifests import Manifest, template_of

CONFIG_HASH = "ml-deploy/config-hash"
_CONTAINERS = ("containers", "initContainers")


@dataclass(frozen=True)
class Put:
    """One image that was put into one place: `container web`, or a path."""

    manifest: Manifest
    where: str
    before: str
    after: str


def put_images(
    manifests: Sequence[Manifest], images: Sequence[str], paths: Paths | None = None
) -> tuple[list[Manifest], list[Put]]:
    """Copies of the manifests with each image in the containers of its repository, wherever they are in the object.

    paths: where custom resources keep images that no container has.

    A container is meant when its image names the same registry and repository; when none does, the same
    repository (whatever the registry); when none does either, its bare name is the repository's last part.
    Raises InputError for two images of one repository, ManifestError where an image belongs to no container.
    """
    references = [parse(image) for image in images]
    _refuse_rivals(references)
    copies = [replace(one, object=copy.deepcopy(one.object)) for one in manifests]
    paths = paths or Paths(())
    written = [(one, place, place.holder[place.key]) for one in copies for place in _places(one.object, paths)]
    paths.refuse_unused()
    puts: list[Put] = []
    for reference, image in zip(references, images, strict=True):
        meant = _meant(reference, written)
        if not meant:
            raise _nowhere(image, written)
        for one, place, before in meant:
            place.holder[place.key] = image
            puts.append(Put(one, place.where, before, image))
    return copies, puts


def _places(obj: Object, paths: Paths) -> Iterator[Place]:
    """Where an object has images, each place once: its containers, then what the paths lead to."""
    found = [
        Place(c, "image", f"container {c.get('name', '')}") for c in containers(obj) if isinstance(c.get("image"), str)
    ]
    seen = {(id(place.holder), place.key) for place in found}
    yield from found
    yield from (place for place in paths.places(obj) if (id(place.holder), place.key) not in seen)


def containers(value: Any) -> Iterator[Object]:
    """Every container in an object: of pod templates, and of custom resources that embed them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _CONTAINERS and isinstance(inner, list):
                yield from (c for c in inner if isinstance(c, dict))
            else:
                yield from containers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from containers(inner)


def _refuse_rivals(references: Sequence[Reference]) -> None:
    for i, one in enumerate(references):
        for other in references[:i]:
            if one.same_repository(other):
                raise InputError(
                    f"Two images are of one repository: {other} and {one}.",
                    hint="A container's repository says which image it gets: give each repository once.",
                )


_Found = tuple[Manifest, Place, str]


def _meant(reference: Reference, written: Sequence[_Found]) -> list[_Found]:
    named = [(entry, parsed) for entry in written if (parsed := _parsed(entry[2])) is not None]
    exact = [entry for entry, other in named if reference.same_repository(other)]
    if exact:
        return exact
    same = [entry for entry, other in named if _bare(other) == _bare(reference)]
    if same:
        return same
    last = _bare(reference).rpartition("/")[2]
    return [entry for entry, _ in named if entry[2].partition(":")[0].partition("@")[0] == last]


def _parsed(image: str) -> Reference | None:
    try:
        return parse(image)
    except InputError:  # a placeholder such as IMAGE
        return None


def _bare(reference: Reference) -> str:
    return reference.repository.removeprefix("library/")


def _nowhere(image: str, written: Sequence[_Found]) -> ManifestError:
    images = sorted({entry[2] for entry in written})
    listed = ", ".join(images[:10]) + (f" and {len(images) - 10} more" if len(images) > 10 else "")
    return ManifestError(
        f"No container in the manifests uses the repository of {image}; the images in them: {listed or 'none'}.",
        hint=f"Write `image: {parse(image).name}` in the container that is to get it; for an image that a custom resource "
        "keeps elsewhere, name the place in `image-paths`.",
        title="Image not in the manifests",
    )


def unpinned(images: Sequence[str]) -> list[str]:
    """Those of the images that are not named by digest."""
    return [image for image in images if not parse(image).pinned]


def tie_configuration(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Copies of the manifests whose pod templates carry a hash of the release's config maps and secrets they use.

    A changed one so restarts the pods, an unchanged one does not.
    """
    data = {
        (one.object["kind"], one.object["metadata"]["name"]): one.object
        for one in manifests
        if one.object["kind"] in ("ConfigMap", "Secret")
    }
    copies = [replace(one, object=copy.deepcopy(one.object)) for one in manifests]
    for one in copies:
        template = template_of(one.object)
        named = sorted(used(template["spec"])) if template and one.object["kind"] != "Job" else []
        contents = [(kind, name, _contents(data[kind, name])) for kind, name in named if (kind, name) in data]
        if template and contents:
            digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]
            annotations = template.setdefault("metadata", {}).setdefault("annotations", {})
            annotations[CONFIG_HASH] = digest
    return copies


def _contents(obj: Object) -> list[Any]:
    return [obj.get("data"), obj.get("binaryData"), obj.get("stringData")]


def used(pod_spec: Object) -> set[tuple[str, str]]:
    """(kind, name) of the config maps and secrets that a pod spec names: volumes, projected volumes, env, envFrom."""
    return {(kind, str(holder.get(key))) for kind, holder, key in references(pod_spec)}


def references(value: Any) -> Iterator[tuple[str, Object, str]]:
    """Where a pod spec names config maps and secrets: the kind, the dictionary, and the key that holds the name."""
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("configMap", "configMapRef", "configMapKeyRef") and isinstance(inner, dict):
                yield "ConfigMap", inner, "name"
            elif key in ("secret", "secretRef", "secretKeyRef") and isinstance(inner, dict):
                yield "Secret", inner, "secretName" if "secretName" in inner else "name"
            else:
                yield from references(inner)
