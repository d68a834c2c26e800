"""The images that pods are started from, and whether an older release can still be started from its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ml_deploy.errors import Forbidden, NoRelease
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.history import FAILED, Release
from ml_deploy.releases.rollout import condition
from ml_deploy.releases.sources.manifests import template_of
from ml_deploy.releases.sources.substitution import containers

_OTHERS = 5  # revisions that are looked at when one cannot be restored

#: Of these images, those that their registry says it does not have; one that cannot be asked is not among them.
Missing = Callable[[Sequence[str]], Sequence[str]]


def of_workloads(objects: Sequence[Object]) -> list[str]:
    """The images that the pods of these objects are started from; not those that nodes must have already."""
    found = [
        one["image"]
        for obj in objects
        if template_of(obj) or obj.get("kind") == "Pod"
        for one in containers(obj)
        if isinstance(one.get("image"), str) and one.get("imagePullPolicy") != "Never"
    ]
    return list(dict.fromkeys(found))


def check_retained(cluster: Cluster, target: Release, history: Sequence[Release], missing: Missing) -> None:
    """Before a release is restored: its images must still be there. `target` is loaded.

    An image that ready pods run is on their nodes, and is not asked for. Raises NoRelease for another that its
    registry no longer has, and names the revisions whose images are there.
    """
    images = of_workloads(target.objects)
    here = _running(cluster) if images else set()
    for image in missing([image for image in images if image not in here]):
        raise _gone(target, image, history, missing)


def _running(cluster: Cluster) -> set[str]:
    """The images of the namespace's ready pods."""
    try:
        pods = cluster.list("v1", "Pod", cluster.namespace)
    except (ApiError, Forbidden):
        return set()
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    return {str(one.get("image")) for pod in ready for one in containers(pod)}


def _gone(target: Release, image: str, history: Sequence[Release], missing: Missing) -> NoRelease:
    others = [r for r in history if r.revision != target.revision and r.activated and r.state != FAILED and r.images]
    there = [str(r.revision) for r in others[:_OTHERS] if not missing(r.images)]
    choice = f"Revisions whose images are there: {', '.join(there)} (`to-revision`)." if there else (
        "No other revision's images are there, either."
    )  # fmt: skip
    return NoRelease(
        f"Revision {target.revision} of {target.app} cannot be restored: the registry no longer has its image {image}.",
        hint=f"Nothing was changed. {choice} Or push the image again: its digest stays the same.",
        title="Image is gone",
    )
