"""The arithmetic of a rolling update, as pure functions."""

from __future__ import annotations

import math

from .admission import age
from .kinds import Object

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def replicas(obj: Object) -> int:
    return int(obj["spec"]["replicas"])


def revision(one: Object) -> int:
    return int((one["metadata"].get("annotations") or {}).get(REVISION, 0))


def owned_by(obj: Object, owner: Object) -> bool:
    uid = owner["metadata"]["uid"]
    return any(ref["uid"] == uid and ref.get("controller") for ref in obj["metadata"].get("ownerReferences") or [])


def active(pod: Object) -> bool:
    """Whether a pod counts: not ended and not being deleted."""
    return not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in ("Succeeded", "Failed")


def available_count(one: Object) -> int:
    return int((one.get("status") or {}).get("availableReplicas", 0))


def available(pod: Object, wait: int) -> float | None:
    """None for a pod that is not ready, else the seconds that it must still stay ready (0 when available)."""
    ready = next(
        (c for c in pod["status"].get("conditions") or [] if c["type"] == "Ready" and c["status"] == "True"), None
    )
    if ready is None:
        return None
    return max(wait - age(ready["lastTransitionTime"]), 0) if wait else 0


def limits(obj: Object) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods."""
    rolling = obj["spec"]["strategy"].get("rollingUpdate") or {}
    if not rolling:
        return 0, replicas(obj)
    surge = math.ceil(_share(rolling["maxSurge"], replicas(obj)))
    unavailable = math.floor(_share(rolling["maxUnavailable"], replicas(obj)))
    return surge, (unavailable if surge or unavailable else 1)


def _share(value: int | str, total: int) -> float:
    return value if isinstance(value, int) else int(value.rstrip("%")) * total / 100


def complete(obj: Object, status: Object) -> bool:
    wanted = replicas(obj)
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas")]
    return counts == [wanted] * 3 and status.get("observedGeneration", 0) >= obj["metadata"]["generation"]


def next_sizes(obj: Object, new: Object, old: list[Object]) -> dict[str, int]:
    """The next step: how many pods each replica set should have, by its name."""
    sizes = {one["metadata"]["name"]: replicas(one) for one in [*old, new]}
    name, wanted = new["metadata"]["name"], replicas(obj)
    if obj["spec"]["strategy"]["type"] == "Recreate":
        return {key: wanted if key == name else 0 for key in sizes}
    surge, unavailable = limits(obj)
    if sizes[name] > wanted:
        return {**sizes, name: wanted}
    room = wanted + surge - sum(sizes.values())
    if sizes[name] < wanted and room > 0:
        return {**sizes, name: sizes[name] + min(room, wanted - sizes[name])}
    return _shrink_old(sizes, new, old, wanted - unavailable)


def _shrink_old(sizes: dict[str, int], new: Object, old: list[Object], least: int) -> dict[str, int]:
    """Old pods that are not available go first, then available ones as far as `least` stay available."""
    new_missing = max(replicas(new) - available_count(new), 0)
    budget = sum(sizes.values()) - least - new_missing
    for one in old:
        name = one["metadata"]["name"]
        broken = min(max(sizes[name] - available_count(one), 0), max(budget, 0))
        sizes[name] -= broken
        budget -= broken
    spare = available_count(new) + sum(min(available_count(one), sizes[one["metadata"]["name"]]) for one in old) - least
    for one in old:
        name = one["metadata"]["name"]
        less = min(sizes[name], max(spare, 0), max(budget, 0))
        sizes[name] -= less
        spare -= less
        budget -= less
    return sizes
