"""Where custom resources keep their images beside `containers`: paths by kind, as `InferenceService:spec.predictor.model.image`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ml_deploy.errors import InputError
from ml_deploy.releases.cluster import Object

#: Kinds whose images are known to stand elsewhere. Their containers are found like everybody's.
_KNOWN = (
    "InferenceService:spec.predictor.*.image", "InferenceService:spec.transformer.*.image",
    "InferenceService:spec.explainer.*.image",
    "SparkApplication:spec.image", "SparkApplication:spec.driver.image", "SparkApplication:spec.executor.image",
)  # fmt: skip
_PATH = re.compile(r"([A-Z]\w*):((?:[\w-]+|\*)(?:\[\*\])?(?:\.(?:[\w-]+|\*)(?:\[\*\])?)*)")


@dataclass(frozen=True)
class Place:
    """One string in an object: the container that holds it, its key there, and the way to it in words."""

    holder: Any
    key: Any
    where: str


class Paths:
    """The paths that were given, beside those that are known; a given one that leads nowhere is told."""

    def __init__(self, given: Sequence[tuple[str, str]]) -> None:
        self._given = given
        self._known = [_split(one) for one in _KNOWN]
        self._found: set[tuple[str, str]] = set()

    @classmethod
    def read(cls, lines: Sequence[str]) -> Paths:
        """From `Kind:path` lines; `[*]` stands for every item of a list, `*` for every key. Raises InputError."""
        for line in lines:
            if not _PATH.fullmatch(line):
                raise InputError(
                    f"`image-paths` has a line that is not Kind:path ({line[:80]!r}).",
                    hint="For example: InferenceService:spec.predictor.model.image, or Kind:spec.steps[*].image",
                )
        return cls([_split(line) for line in lines])

    def places(self, obj: Object) -> Iterator[Place]:
        """Where this object keeps images, by the paths for its kind."""
        for kind, path in dict.fromkeys([*self._given, *self._known]):
            if obj["kind"] == kind:
                for place in _places(obj, path.replace("[*]", ".[*]").split("."), ""):
                    self._found.add((kind, path))
                    yield place

    def refuse_unused(self) -> None:
        """A given path that no object has is a misspelt one. Raises InputError."""
        for kind, path in self._given:
            if (kind, path) not in self._found:
                raise InputError(f"`image-paths` has {kind}:{path}, and there is no image at this path in any {kind}.")


def _split(line: str) -> tuple[str, str]:
    kind, _, path = line.partition(":")
    return kind, path


def _places(value: Any, way: Sequence[str], walked: str) -> Iterator[Place]:
    step, rest = way[0], way[1:]
    for key in _keys(value, step):
        words = f"{walked}[{key}]" if isinstance(key, int) else f"{walked}.{key}".lstrip(".")
        if rest:
            yield from _places(value[key], rest, words)
        elif isinstance(value[key], str):
            yield Place(value, key, words)


def _keys(value: Any, step: str) -> list[Any]:
    if isinstance(value, list):
        return list(range(len(value))) if step == "[*]" else []
    if isinstance(value, dict):
        return list(value) if step == "*" else [step] if step in value else []
    return []
