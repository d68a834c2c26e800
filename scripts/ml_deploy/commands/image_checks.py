"""Are the images there? Registries are asked in the background; one that does not answer is a word, no failure."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ml_deploy.errors import InputError, ManifestError, MlDeployError
from ml_deploy.images import availability
from ml_deploy.images.availability import Availability
from ml_deploy.images.reference import parse
from ml_deploy.releases import pod_images

if TYPE_CHECKING:
    from ml_deploy.commands.common import ClusterInputs
    from ml_deploy.commands.ports import Adapters

_MOST = 8  # images that are asked for
_PATIENCE = 4.0  # seconds that a rollback waits for each registry


class ImageChecks:
    """Asks for each image in a thread of its own, from now on."""

    def __init__(self, inputs: ClusterInputs, adapters: Adapters, images: Iterable[str]) -> None:
        self._inputs, self._adapters = inputs, adapters
        self._images = list(dict.fromkeys(images))[:_MOST]
        self._found: dict[str, Availability] = {}
        self._threads = [threading.Thread(target=self._ask, args=(image,), daemon=True) for image in self._images]
        for thread in self._threads:
            thread.start()

    def result(self, seconds: float) -> dict[str, Availability]:
        """What is known after at most so many seconds for each, by image."""
        for thread in self._threads:
            thread.join(seconds)
        late = Availability(None, why=f"its registry did not answer within {seconds:g} s")
        return {image: self._found.get(image, late) for image in self._images}

    def _ask(self, image: str) -> None:
        try:
            reference = parse(image)
            registry = self._adapters.registry(self._inputs.reading(reference.registry))
            self._found[image] = availability.look(registry, reference)
        except MlDeployError as error:
            self._found[image] = Availability(None, why=error.message)


@dataclass
class Judged:
    """What the registries' answers mean."""

    problems: list[MlDeployError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge(found: Mapping[str, Availability], nodes: Mapping[str, set[str]]) -> Judged:
    """Which images stand in the way of a deployment. nodes: the platforms on which each is to run, as far as known."""
    judged = Judged()
    for image, state in found.items():
        if state.held is None:
            judged.notes.append(f"whether {image} exists was not asked: {state.why}")
        elif state.held:
            _platforms(image, state, nodes.get(image, set()), judged)
        elif here_only(image):
            judged.warnings.append(f"{image} is not in that registry, as this machine sees it.")
        else:
            judged.problems.append(ManifestError(
                f"The image {image} does not exist: its registry answers that it has none.",
                hint="Check repository, tag and digest: was it pushed, and to this registry?", title="No such image",
            ))  # fmt: skip
    return judged


def _platforms(image: str, state: Availability, nodes: set[str], judged: Judged) -> None:
    lacking = state.lacks(nodes)
    if not lacking:
        return
    said = f"The image {image} is for {', '.join(sorted(state.platforms))}, and nodes are {', '.join(sorted(nodes))}."
    if set(lacking) != nodes:
        judged.warnings.append(f"{said} Pods that land on {', '.join(lacking)} cannot start.")
        return
    judged.problems.append(ManifestError(
        said, hint=f"Build it for the nodes' platform (docker buildx build --platform {lacking[0]}), or choose other nodes "
        "with a nodeSelector.", title="Image for other processors",
    ))  # fmt: skip


def missing(inputs: ClusterInputs, adapters: Adapters) -> pod_images.Missing:
    """Asks which of some images are gone from their registries; see `pod_images.check_retained`."""

    def ask(images: Sequence[str]) -> list[str]:
        images = [image for image in images if not here_only(image)]
        found = ImageChecks(inputs, adapters, images).result(_PATIENCE)
        return [image for image, state in found.items() if state.held is False]

    return ask


def here_only(image: str) -> bool:
    """Whether the registry's address means another machine on each node, so that its answer here proves nothing there."""
    try:
        host = parse(image).registry
    except InputError:
        return False
    name = host.partition(":")[0]
    return name == "localhost" or name.startswith("127.") or host.startswith("[::1]")
