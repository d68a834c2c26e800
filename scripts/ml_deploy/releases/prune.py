"""Prune: what the release before had and this one has not is removed, once this one is ready.

Only what bears our mark and the UID that was recorded when we applied it (or was made by a run that ended before it
could record that); never what `removal` protects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ml_deploy.errors import NoRelease
from ml_deploy.releases import removal
from ml_deploy.releases.before_traffic import ROLE
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.colours import base_of
from ml_deploy.releases.history import DEPLOYED, DEPLOYING, FAILED, JUDGED_GOOD, SUPERSEDED, Release, key, ref_of
from ml_deploy.releases.records import Records


@dataclass(frozen=True)
class Pruning:
    """What goes, as it is live, the last applied first; and what stays, each in words."""

    goes: tuple[Object, ...] = ()
    stays: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line on each object."""
        return [*(f"{ref_of(obj)} goes: this release does not have it" for obj in self.goes), *self.stays]


def before(history: Sequence[Release]) -> list[Release]:
    """The release before a new one: the one that was live last; and where that one never finished, those behind it."""
    live = sorted((r for r in history if r.activated), key=lambda r: -r.activated)
    found = []
    for release in live:
        found.append(release)
        if release.state in (DEPLOYED, JUDGED_GOOD, SUPERSEDED):
            break
    return found


def planned(cluster: Cluster, records: Records, releases: Sequence[Release], objects: Sequence[Object]) -> Pruning:
    """What pruning would remove of these releases (without their objects, as `before` gives them)."""
    kept = {key(ref_of(obj, records.namespace)) for obj in objects}
    goes: dict[str, Object] = {}
    stays: dict[str, str] = {}
    for release in releases:
        try:
            objects_then = records.load(release).objects
        except NoRelease:
            stays[release.name] = f"what only revision {release.revision} had stays: its record is incomplete"
            continue
        for obj in reversed(objects_then):
            ref = ref_of(obj, release.namespace)
            if key(ref) in kept or key(ref) in goes or key(ref) in stays or is_twin(obj, objects):
                continue
            live = cluster.get(ref)
            if live is None or is_canary(live):
                continue
            namespaced, uid = removal.is_namespaced(cluster, ref), _uid(release, key(ref), live)
            reason = removal.protected(live, release.app, namespaced=namespaced, uid=uid)
            if reason:
                stays[key(ref)] = f"{ref} stays: it {reason}"
            else:
                goes[key(ref)] = live
    return Pruning(tuple(goes.values()), tuple(stays.values()))


def _uid(release: Release, name: str, live: Object) -> str:
    """The UID that was recorded; where a run ended before that, what has been made since its record counts as its own."""
    ended = release.state in (DEPLOYING, FAILED) and "" < release.born <= live["metadata"]["creationTimestamp"]
    return release.uids.get(name) or (str(live["metadata"]["uid"]) if ended else "never recorded")


def is_twin(obj: Object, objects: Sequence[Object]) -> bool:
    """Whether this is another colour of an object of the release, or its plain self: blue-green sees to those."""
    same = [one for one in objects if one["kind"] == obj["kind"]]
    return bool(base_of(obj)) or any(base_of(one) == obj["metadata"]["name"] for one in same)


def is_canary(live: Object) -> bool:
    """Whether this is part of a canary of ours, to which its strategy sees; others may be called so, too."""
    return (live["metadata"].get("labels") or {}).get(ROLE) == "canary"


def carry_out(cluster: Cluster, pruning: Pruning, *, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Remove what goes; returns it in words. What stays is told."""
    for words in pruning.stays:
        tell(words)
    removed = []
    for obj in pruning.goes:
        ref = ref_of(obj)
        if removal.delete(cluster, ref, obj["metadata"]["uid"]):
            removed.append(str(ref))
            tell(f"removed {ref}, which this release does not have any more")
    return tuple(removed)
