"""Teardown: an app leaves, with everything that is ours; what may hold data stays and is named.

Services go first, so that nobody is sent to pods that are on their way out; then workloads, configuration, records
and the lock, the records last of what tells that the app exists. A run that is killed is finished by the next one. An
Event `TornDown` remains for as long as the cluster keeps events, so that a second teardown is told from a misspelt name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from ml_deploy.errors import Forbidden, NoRelease, TimedOut
from ml_deploy.releases import removal, snapshot
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.history import key, ref_of
from ml_deploy.releases.record_secrets import APP, RECORD
from ml_deploy.releases.records import Records
from ml_deploy.releases.sources.manifests import rank

_PAUSE = 0.5
_LEFTOVERS = (("v1", "Pod"), ("v1", "ConfigMap"), ("v1", "Secret"))  # of what was asked before traffic

Tell = Callable[[str], None]


class Clock(Protocol):
    """The part of a clock that is needed here."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True)
class Inventory:
    """What of an app is live: what goes, in the order in which it goes, and what stays, in words."""

    goes: tuple[Object, ...] = ()
    stays: tuple[str, ...] = ()


def inventory(cluster: Cluster, records: Records) -> Inventory:
    """Everything that the app's recorded releases have live, and what else bears our mark. Changes nothing.

    Raises NoRelease for an app that nobody knows.
    """
    recorded = _recorded(records)
    live = snapshot.listed(cluster, list(recorded.values()))
    found = {name: there for name, obj in recorded.items() if (there := live.get(ref_of(obj, records.namespace)))}
    found |= _marked(cluster, records, [ref_of(obj, records.namespace) for obj in recorded.values()])
    goes, stays = [], []
    for obj in found.values():
        ref = ref_of(obj)
        reason = removal.protected(obj, records.app, namespaced=removal.is_namespaced(cluster, ref))
        if reason:
            stays.append(f"{ref} stays: it {reason}")
        else:
            goes.append(obj)
            stays += _claims(cluster, obj)
    return Inventory(tuple(sorted(goes, key=_turn)), tuple(dict.fromkeys(stays)))


def unknown(records: Records) -> NoRelease:
    """The error for an app without any record: misspelt, or in another namespace."""
    return NoRelease(
        f"There is no app {records.app} in namespace {records.namespace}: no release of it is recorded.",
        hint=f"Apps there: {', '.join(records.apps()) or 'none'}. Check `app` and `namespace`; "
        "if it was torn down long ago, nothing is left to do.",
        title="No such app",
    )


def torn_down(cluster: Cluster, records: Records) -> str:
    """When the app was torn down, if that is not long ago: a sentence from the Event; else an empty string."""
    event = cluster.get(_event_ref(records))
    return str(event.get("message") or "") if event else ""


def tear_down(
    cluster: Cluster, records: Records, found: Inventory, *, by: str, until: float, clock: Clock, tell: Tell,
) -> list[str]:  # fmt: skip
    """Remove what goes, wait until it is gone, then the records and the lock. Call with the lock held.

    by: who does it, for the Event. until: the deadline on the clock's monotonic time.
    Returns what was removed, in words. Raises TimedOut for what does not go (its finalizers wait for somebody).
    """
    removed = []
    for obj in found.goes:
        ref = ref_of(obj)
        if removal.delete(cluster, ref, obj["metadata"]["uid"], propagation="Foreground"):
            removed.append(str(ref))
            tell(f"removing {ref}")
    _wait_until_gone(cluster, found.goes, until=until, clock=clock)
    _note(cluster, records, by, clock)
    revisions = records.remove_all()
    tell(f"removed the records of {revisions} revision{'s' if revisions != 1 else ''}")
    remove_lock(cluster, records)
    return removed


def remove_lock(cluster: Cluster, records: Records) -> None:
    """The very last of an app. Call with the lock held."""
    cluster.delete(_lease_ref(records))


def _recorded(records: Records) -> dict[str, Object]:
    """Each object of every recorded release, once, as the newest has it; incomplete records give what others have."""
    found: dict[str, Object] = {}
    for release in records.all():
        try:
            objects = records.load(release).objects
        except NoRelease:
            continue
        for obj in objects:
            found.setdefault(key(ref_of(obj, records.namespace)), obj)
    return found


def _marked(cluster: Cluster, records: Records, refs: Sequence[Ref]) -> dict[str, Object]:
    """What bears our mark and is in no record any more: of the recorded kinds, and pods and copies of configuration.

    What has an owner goes with its owner.
    """
    places = {ref[:3] for ref in refs if removal.is_namespaced(cluster, ref)}
    places |= {(*kind, records.namespace) for kind in _LEFTOVERS}
    found = {}
    for place in sorted(places):
        try:
            live = cluster.list(*place, selector=f"{APP}={records.app},!{RECORD}")
        except Forbidden:
            continue  # what is recorded is found by its name
        found.update({key(ref_of(one)): one for one in live if not one["metadata"].get("ownerReferences")})
    return found


def _claims(cluster: Cluster, obj: Object) -> list[str]:
    """The claims that a StatefulSet's pods made: Kubernetes keeps them, too."""
    if obj["kind"] != "StatefulSet":
        return []
    ref = ref_of(obj)
    names = [one["metadata"]["name"] for one in obj["spec"].get("volumeClaimTemplates") or []]
    try:
        claims = cluster.list("v1", "PersistentVolumeClaim", ref.namespace) if names else []
    except Forbidden:
        return [f"The claims of {ref} stay: they may hold data"]
    made = tuple(f"{name}-{ref.name}-" for name in names)
    return [f"{ref_of(one)} stays: it may hold data" for one in claims if one["metadata"]["name"].startswith(made)]


def _turn(obj: Object) -> tuple[bool, int]:
    """Services first, then in the reverse of the order of applying."""
    return obj["kind"] != "Service", -rank(obj["kind"])


def _wait_until_gone(cluster: Cluster, objects: Sequence[Object], *, until: float, clock: Clock) -> None:
    left = {ref_of(obj): obj for obj in objects}
    while True:
        live = {ref: there for ref in left if (there := cluster.get(ref))}
        left = {ref: one for ref, one in live.items() if one["metadata"]["uid"] == left[ref]["metadata"]["uid"]}
        if not left:
            return
        if clock.monotonic() + _PAUSE > until:
            raise _stuck(left)
        clock.sleep(_PAUSE)


def _stuck(left: dict[Ref, Object]) -> TimedOut:
    rows = [
        f"- {ref}" + (f": waits for {', '.join(found)}" if (found := one["metadata"].get("finalizers")) else "")
        for ref, one in left.items()
    ]
    return TimedOut(
        f"{len(left)} objects were deleted and are not gone yet: {', '.join(map(str, left))}.",
        hint="Run teardown again when they are; a finalizer is removed by the controller that set it.",
        details="\n".join(rows),
    )


def _event_ref(records: Records) -> Ref:
    return Ref("v1", "Event", records.namespace, f"ml-deploy.{records.app}.torn-down")


def _lease_ref(records: Records) -> Ref:
    return Ref("coordination.k8s.io/v1", "Lease", records.namespace, f"ml-deploy.{records.app}")


def _note(cluster: Cluster, records: Records, by: str, clock: Clock) -> None:
    """The Event; a courtesy, so that a missing right is no trouble."""
    now = datetime.fromtimestamp(clock.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    ref, lease = _event_ref(records), _lease_ref(records)
    event: Object = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": ref.name, "namespace": ref.namespace},
        "involvedObject": {"apiVersion": lease.api_version, "kind": lease.kind, "namespace": lease.namespace,
                           "name": lease.name}, "type": "Normal", "reason": "TornDown", "firstTimestamp": now, "lastTimestamp": now,
        "message": f"{records.app} was torn down at {now} by {by}", "source": {"component": "ml-deploy"},
    }  # fmt: skip
    try:
        cluster.apply(event, force=True)
    except (ApiError, Forbidden):
        return
