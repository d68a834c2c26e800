"""What was made ahead of traffic for a release that no user got: it goes again, or is named with why it stays.

Only what this release made: by the UID that was recorded, and not older than its record. What a strategy makes in a
colour is the strategy's to remove.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_deploy.errors import Forbidden
from ml_deploy.releases import removal
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.colours import base_of
from ml_deploy.releases.history import Release, key, ref_of
from ml_deploy.releases.lease import Clock

_LEAVING = 5.0  # seconds in which pods of the release are at least on their way out
_PAUSE = 0.25

Tell = Callable[[str], None]


def made(cluster: Cluster, release: Release) -> list[Object]:
    """What is left of it, as it is live, the last made first. `release` is loaded, and never went live."""
    found = []
    for obj in reversed(release.objects):
        ref = ref_of(obj, release.namespace)
        uid = None if base_of(obj) else release.uids.get(key(ref))
        live = cluster.get(ref) if uid else None
        if live and live["metadata"]["uid"] == uid and _is_new(live, release):
            found.append(live)
    return found


def take_back(cluster: Cluster, release: Release, *, clock: Clock, tell: Tell) -> tuple[str, ...]:
    """Remove it, but nothing that may hold data or that somebody uses; returns what stays, in words."""
    stays = []
    for live in made(cluster, release):
        ref = ref_of(live)
        try:
            reason = removal.protected(live, release.app, namespaced=removal.is_namespaced(cluster, ref))
            reason = reason or _used(cluster, live, clock)
            if not reason and removal.delete(cluster, ref, live["metadata"]["uid"]):
                tell(f"removed {ref}, which was made for revision {release.revision}")
        except (ApiError, Forbidden) as error:
            reason = f"could not be removed ({error.message})"
        if reason:
            stays.append(_stays(live, release, f"it {reason}"))
    return tuple(stays)


def kept(cluster: Cluster, release: Release, why: str) -> tuple[str, ...]:
    """All of it, in words: nothing is removed."""
    return tuple(_stays(live, release, why) for live in made(cluster, release))


def _is_new(live: Object, release: Release) -> bool:
    meta = live["metadata"]
    return bool(not meta.get("deletionTimestamp") and meta["creationTimestamp"] >= release.born)


def _used(cluster: Cluster, live: Object, clock: Clock) -> str:
    """Which pod still runs under an account; those of the release itself are given a moment to leave."""
    until = clock.monotonic() + _LEAVING
    while live["kind"] == "ServiceAccount" and (pods := _pods_of(cluster, live)):
        if clock.monotonic() >= until:
            return f"is used by Pod {pods[0]}"
        clock.sleep(_PAUSE)
    return ""


def _pods_of(cluster: Cluster, account: Object) -> list[str]:
    meta = account["metadata"]
    found = cluster.list("v1", "Pod", meta["namespace"], fields=f"spec.serviceAccountName={meta['name']}")
    return [
        str(pod["metadata"]["name"]) for pod in found
        if not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]  # fmt: skip


def _stays(live: Object, release: Release, why: str) -> str:
    return f"{ref_of(live)}, made for revision {release.revision}, stays: {why}"
