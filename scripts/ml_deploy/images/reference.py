"""Image references: `[registry[:port]/]repository[:tag][@digest]`, read as Docker reads them.

The first part is a registry only when it has a dot or a colon, or is `localhost`. So the
colon of a port is never taken for a tag's: `localhost:5000/app` has no tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ml_deploy.errors import InputError

DOCKER_HUB = "docker.io"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image's name in full: `nginx` is registry `docker.io`, repository `library/nginx`, no tag."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository, short for what is on Docker Hub; without tag and digest."""
        official = self.repository.removeprefix("library/")
        short = official if "/" not in official else self.repository
        ambiguous = "/" in short and _is_registry(short.partition("/")[0])
        return short if self.registry == DOCKER_HUB and not ambiguous else f"{self.registry}/{self.repository}"

    @property
    def pinned(self) -> bool:
        """Whether it says exactly one image (it has a digest)."""
        return bool(self.digest)

    def with_tag(self, tag: str) -> Reference:
        """The same repository with this tag and no digest. Raises InputError for an illegal tag."""
        return replace(self, tag=check_tag(tag), digest="")

    def with_digest(self, digest: str) -> Reference:
        """The same repository by digest, without tag. Raises InputError for what is no digest."""
        return replace(self, tag="", digest=check_digest(digest))

    def same_repository(self, other: Reference) -> bool:
        """Whether both name the same repository of the same registry (`nginx` and `docker.io/library/nginx` do)."""
        return (self.registry.lower(), self.repository) == (other.registry.lower(), other.repository)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return self.name + tag + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Read a reference. Raises InputError that says which part is wrong."""
    if _IMAGE_ID.fullmatch(text):
        raise _wrong(text, "is an image's ID, not its name")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _wrong(text, f"has no valid digest ({digest!r} is not sha256: and 64 hexadecimal digits)")
    registry, rest = _split_registry(rest)
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _wrong(text, f"has no valid tag ({tag!r}: letters, digits, `_`, `.` and `-`, at most 128)")
    if not _REGISTRY.fullmatch(registry):
        raise _wrong(text, f"has no valid registry ({registry!r})")
    _check_repository(text, registry, repository)
    return Reference(registry, repository, tag, digest)


def check_tag(tag: str) -> str:
    """The tag as it is. Raises InputError for an illegal one."""
    if not _TAG.fullmatch(tag):
        raise InputError(
            f"{tag!r} is no tag of an image.",
            hint="A tag has letters, digits, `_`, `.` and `-`, does not start with `.` or `-`, and is at most 128 long.",
        )
    return tag


def check_digest(digest: str) -> str:
    """The digest as it is. Raises InputError for an illegal one."""
    if not _DIGEST.fullmatch(digest):
        raise InputError(
            f"{digest!r} is no digest of an image.", hint="A digest is `sha256:` and 64 hexadecimal digits."
        )
    return digest


def _split_registry(rest: str) -> tuple[str, str]:
    first, slash, after = rest.partition("/")
    if slash and _is_registry(first):
        registry = DOCKER_HUB if first in ("index.docker.io", "registry-1.docker.io") else first
    else:
        registry, after = DOCKER_HUB, rest
    if registry == DOCKER_HUB and "/" not in after:
        after = f"library/{after}"
    return registry, after


def is_host(name: str) -> bool:
    """Whether a name is that of a registry's host (`localhost`, `r.example.com`, `r:5000`)."""
    return "." in name or ":" in name or name == "localhost"


def _is_registry(first: str) -> bool:
    return is_host(first) or first != first.lower()


def _check_repository(text: str, registry: str, repository: str) -> None:
    if not repository.removeprefix("library/"):
        raise _wrong(text, "names no repository")
    if not _REPOSITORY.fullmatch(repository):
        why = (
            "upper-case letters are not allowed" if repository != repository.lower() else "a-z, 0-9, `.`, `_`, `-`, `/`"
        )
        raise _wrong(text, f"has no valid repository ({repository.removeprefix('library/')!r}: {why})")
    if len(registry) + len(repository) + 1 > 255:
        raise _wrong(text, "is longer than 255 characters")


def _wrong(text: str, why: str) -> InputError:
    return InputError(
        f"The image reference {text!r} {why}.",
        hint="A reference looks like `myregistry.azurecr.io/team/model:v1` or `…/model@sha256:…`.",
    )
