"""Back to an earlier release, as a whole.

Every object of the recorded release is applied again; what only the bad release had is removed last, by its recorded
UID and our mark. Never rerun: Jobs. Never deleted: volumes, claims, namespaces, CRDs, anything cluster-scoped. Never
written back: a Secret whose values have changed since. The order of writes makes every one of them repeatable, so
that a run that is killed at any moment leaves the old or the new version serving and the next run finishes the work.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ml_deploy.errors import NoRelease, RolloutFailed
from ml_deploy.releases import removal, stuck_pods, switching
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.colours import base_of, same
from ml_deploy.releases.history import (
    DEPLOYING,
    FAILED,
    ROLLED_BACK,
    SUPERSEDED,
    Release,
    disqualified,
    fallback_of,
    key,
    last_good_of,
    ref_of,
)
from ml_deploy.releases.ownership import Applier, Tell, owner
from ml_deploy.releases.records import Records
from ml_deploy.releases.switching import Switch

#: A selector that no pod has: a Service with it leads nowhere.
OUT_OF_TRAFFIC = "ml-deploy/out-of-traffic"
_ONLY_WHEN_GONE = {"Namespace", "CustomResourceDefinition", "PersistentVolumeClaim", "PersistentVolume"}


class WaitAll(Protocol):
    """Waits until all of these objects, as the server has them, are ready. Raises RolloutFailed, which says why not."""

    def __call__(self, objects: Sequence[Object]) -> None:
        """See above."""

    def left(self) -> float:
        """Seconds until the deadline."""


@dataclass(frozen=True)
class Restored:
    """What a rollback did, in words for people."""

    release: Release
    undone: Release | None
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def choose(history: Sequence[Release], current: Release) -> Release:
    """The newest older release that was judged good; where nobody ever judged one, the newest that served.

    Raises NoRelease, listing what there is and why each does not qualify.
    """
    chosen = last_good_of(history, before=current.revision) or fallback_of(history, before=current.revision)
    if chosen:
        return chosen
    raise nothing(history, current)


def named(history: Sequence[Release], revision: int) -> Release:
    """The revision that was asked for by number. Raises NoRelease, listing what there is."""
    for release in history:
        if release.revision == revision and (release.activated or release.state != DEPLOYING):
            return release
    rows = "\n".join(f"- {release.row()}" for release in history)
    known = ", ".join(str(release.revision) for release in history)
    raise NoRelease(
        f"There is no revision {revision} to restore.",
        hint=f"Recorded revisions: {known or 'none'}. Older ones were dropped by `history-limit`.",
        details=rows,
    )


def nothing(history: Sequence[Release], current: Release) -> NoRelease:
    """The error for a current release without a good one before it."""
    rows = [f"- r{r.revision}: {disqualified(r, before=current.revision)}" for r in history]
    return NoRelease(
        f"There is no older release of {current.app} to go back to from revision {current.revision}.",
        hint="Name one with `to-revision` if you know that it is right, or deploy a version that is."
        if len(history) > 1 else "Deploy a version that is right.",
        details="Recorded revisions:\n\n" + "\n".join(rows),
    )  # fmt: skip


def restore(
    cluster: Cluster, records: Records, target: Release, current: Release | None, *, wait: WaitAll, tell: Tell,
    why: str = "", adopt: bool = False,
) -> Restored:  # fmt: skip
    """Bring `target` back and undo `current`. Call with the lock held; run again, it finishes what was begun.

    wait: waits for the rollout, with a deadline of its own.
    Raises RolloutFailed when the old release does not get ready, Conflict, or NoRelease when its record is incomplete.
    """
    target = target if target.objects else records.load(target)
    work = _Work(cluster, target, wait, tell, adopt)
    switch = switching.needed(cluster, target.objects)
    applied = work.switched_at_once(switch) if switch else []
    undone = records.load(current) if current and current.revision != target.revision else None
    if undone:
        undone = records.update(undone, why=why)
    applied += work.all_but(applied, switch)
    target = records.applied(target, applied)
    stuck_pods.free(cluster, applied, tell=tell)
    try:
        wait(applied)
    except RolloutFailed:
        records.update(target, why="a rollback to it did not get ready")
        raise
    removed, left = _remove_extra(cluster, target, undone, tell=tell) if undone else ((), ())
    if undone:
        undone = records.mark(undone, _undone_state(target, undone))
    target = records.reinstate(target)
    return Restored(target, undone, tuple(removed), (*work.kept, *left))


def _undone_state(target: Release, undone: Release) -> str:
    """Going back condemns what is left behind; going forward again (a rollback of a rollback) does not."""
    if target.revision < undone.revision:
        return ROLLED_BACK
    return undone.state if undone.state == FAILED else SUPERSEDED


def take_out_of_traffic(cluster: Cluster, records: Records, failed: Release, *, tell: Tell) -> list[str]:
    """A first release that failed: its Services lead nowhere from now on; its pods stay, to be looked at.

    Returns the Services' names; the next deployment puts them back into traffic. Only the selector changes, so this
    is one write per Service, and nothing is lost.
    """
    failed = records.load(failed)
    services = [
        obj for obj in failed.objects if obj.get("kind") == "Service" and (obj.get("spec") or {}).get("selector")
    ]
    applier = Applier(cluster, failed.app, failed.objects, tell=tell)
    done = []
    for service in services:
        live = cluster.get(ref_of(service, failed.namespace))
        if live and not live["metadata"].get("deletionTimestamp"):
            closed = copy.deepcopy(service)
            closed["spec"]["selector"][OUT_OF_TRAFFIC] = "true"
            applier.apply(closed)
            done.append(str(service["metadata"]["name"]))
    if failed.state != FAILED:
        records.mark(failed, FAILED, records.verdict("rollback", False, "taken out of traffic"))
    return done


@dataclass
class _Work:
    """Bringing a release's objects back; `kept` says in words what was left alone."""

    cluster: Cluster
    target: Release
    wait: WaitAll
    tell: Tell
    adopt: bool
    kept: list[str] = field(default_factory=list)

    def switched_at_once(self, switch: Switch) -> list[Object]:
        """Where the old version stands ready, users are sent there before anything else: a patch for each Service."""
        applier = self._applier()

        def unchanged(obj: Object, live: Object) -> bool:
            after = applier.apply(obj, dry_run=True).object["spec"]
            return {**after, "replicas": 0} == {**live["spec"], "replicas": 0}

        if not switching.standing(switch, self.cluster, unchanged):
            return []
        done = [applier.apply(obj).object for obj in switch.services]
        names = ", ".join(obj["metadata"]["name"] for obj in switch.services)
        self.tell(f"Service {names} leads to revision {self.target.revision} again")
        switching.raise_replicas(switch, self.cluster)
        return done

    def all_but(self, done: Sequence[Object], switch: Switch | None) -> list[Object]:
        """Apply every other object of the release; as the server has them."""
        left = [obj for obj in self.target.objects if not any(same(obj, one) for one in done)]
        if done or not switch:
            return self._apply(left)
        return switching.carried_out(switch, self.cluster, left, put=self._apply, ready=self.wait)

    def _applier(self) -> Applier:
        return Applier(self.cluster, self.target.app, self.target.objects, tell=self.tell, left=self.wait.left,
                       adopt=self.adopt)  # fmt: skip

    def _apply(self, objects: Sequence[Object]) -> list[Object]:
        applier, applied = self._applier(), []
        for obj in objects:
            ref = ref_of(obj, self.target.namespace)
            live = self.cluster.get(ref)
            if reason := left_alone(obj, live, self.target):
                self.kept.append(f"{ref} {reason}")
                self.tell(self.kept[-1])
            else:
                applied.append(applier.apply(obj).object)
        return applied


def left_alone(obj: Object, live: Object | None, target: Release) -> str:
    """Why a rollback does not touch an object, in words; empty when it does."""
    if target.revision == 0 and (theirs := owner(live, target.app)):  # it is as it was met: nobody took it over
        return f"belongs to {theirs} and is left as it is"
    if obj.get("kind") == "Job" or (live and obj.get("kind") in _ONLY_WHEN_GONE):
        return "is left as it is"
    if live and obj.get("kind") == "Secret" and rotated(obj, live):
        return "was changed since and is left as it is"
    return ""


def rotated(recorded: Object, live: Object) -> bool:
    """Whether a Secret holds other values now than when the release was recorded."""
    return secret_values(recorded) != secret_values(live)


def secret_values(secret: Object) -> dict[str, str]:
    """A Secret's values in base64, with `stringData` on top of `data` as the server would have it. Not for printing."""
    plain = {
        name: base64.b64encode(str(value).encode()).decode() for name, value in (secret.get("stringData") or {}).items()
    }
    return {**(secret.get("data") or {}), **plain}


def extra(target: Release, undone: Release) -> list[Object]:
    """What only the undone release had, in the reverse of the order in which it was applied."""
    kept = {key(ref_of(obj, target.namespace)) for obj in target.objects}
    return [obj for obj in reversed(undone.objects) if key(ref_of(obj, undone.namespace)) not in kept]


def untouchable(obj: Object, live: Object, target: Release, undone: Release, *, namespaced: bool) -> str:
    """Why an extra object may not be deleted, in words; empty when it may."""
    recorded = undone.uids.get(key(ref_of(obj, undone.namespace)), "")
    reason = removal.protected(live, undone.app, namespaced=namespaced, uid=recorded)
    before = live["metadata"]["creationTimestamp"] < target.born
    if not reason and before and not _another_colour(live, target.objects):
        return "was there before"
    return reason


def _another_colour(live: Object, objects: Sequence[Object]) -> bool:
    """Whether it belongs to a colour, or is what the target has in a colour: two of these are never wanted at once."""
    name = live["metadata"]["name"]
    return bool(base_of(live)) or any(base_of(obj) == name and obj["kind"] == live["kind"] for obj in objects)


def _remove_extra(cluster: Cluster, target: Release, undone: Release, *, tell: Tell) -> tuple[list[str], list[str]]:
    removed, left = [], []
    for obj in extra(target, undone):
        ref = ref_of(obj, undone.namespace)
        live = cluster.get(ref)
        if live is None:
            continue
        reason = untouchable(obj, live, target, undone, namespaced=removal.is_namespaced(cluster, ref))
        if reason:
            left.append(f"{ref} is left: it {reason}")
            tell(left[-1])
        elif removal.delete(cluster, ref, live["metadata"]["uid"]):
            removed.append(str(ref))
            tell(f"removed {ref}, which only revision {undone.revision} had")
    return removed, left
