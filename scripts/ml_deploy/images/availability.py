"""Does a registry hold an image, and for which platforms? Asked ahead, as far as it can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ml_deploy.errors import MlDeployError
from ml_deploy.images.reference import Reference
from ml_deploy.images.registry import Manifest

_UNKNOWN = "unknown"  # attestations lie beside images under this platform


class Library(Protocol):
    """The part of a registry that is read here."""

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """The manifest under a tag or digest, or None."""

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob; empty when there is none."""


@dataclass(frozen=True)
class Availability:
    """held: whether the registry has it; None where it could not be asked, and then `why`.

    platforms: such as `linux/amd64`; empty where that is not known.
    """

    held: bool | None
    platforms: frozenset[str] = frozenset()
    why: str = ""

    def lacks(self, wanted: Iterable[str]) -> list[str]:
        """The platforms among `wanted` that it has no image for; none where its own are not known."""
        return sorted(set(wanted) - self.platforms) if self.held and self.platforms else []


def look(library: Library, image: Reference) -> Availability:
    """Ask. A registry that does not answer, or not us, makes it unknown, never an error."""
    try:
        found = library.manifest(image.repository, image.digest or image.tag or "latest")
        return Availability(True, _platforms(library, image, found)) if found else Availability(False)
    except MlDeployError as error:
        return Availability(None, why=error.message)


def _platforms(library: Library, image: Reference, manifest: Manifest) -> frozenset[str]:
    try:
        content = json.loads(manifest.body)
        if "manifests" in content:
            found = [one.get("platform") or {} for one in content["manifests"]]
        else:
            found = [json.loads(library.blob(image.repository, content["config"]["digest"]) or b"{}")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return frozenset()
    named = {f"{one.get('os', '')}/{one.get('architecture', '')}" for one in found}
    return frozenset(one for one in named if not one.startswith("/") and not one.endswith(("/", f"/{_UNKNOWN}")))
