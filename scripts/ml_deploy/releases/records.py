"""Release records: one Secret `<app>.r<N>` per revision, so that `rollback` knows what was there and what was good.

    kubectl get secrets -l ml-deploy/app=APP -L ml-deploy/revision,ml-deploy/state,ml-deploy/good

A record holds the rendered objects (compressed, in further Secrets `<app>.r<N>.p<M>` when they are large) and is
written before the first object is applied:

    adoption.first_meeting(cluster, records, objects)       # revision 0, if something is live
    release = records.begin(objects, images=..., ...)       # deploying
    ...                                                     # cases before traffic; records.mark(release, FAILED) if wrong
    release = records.activate(release)                     # from here on it is the current one
    release = records.applied(release, [applier.apply(obj).object for obj in objects])
    release = records.mark(release, DEPLOYED)               # rolled out; the one before becomes superseded
    release = records.mark(release, JUDGED_GOOD, records.verdict("deploy-aks", True, "5 golden predictions ..."))
    records.trim(history_limit)

Which revision is current is decided by one number in one Secret, `activated`, so that a run that is killed at any
moment never leaves two of them. Revision 0 is what was live when ml-deploy met the app. No value of a Secret is ever
shown: `objects` is left out of every `repr`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Protocol

from ml_deploy.errors import Conflict, NoRelease
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.history import (
    DEPLOYED,
    DEPLOYING,
    FAILED,
    JUDGED_GOOD,
    SUPERSEDED,
    Release,
    Verdict,
    current_of,
    evictable,
    key,
    ref_of,
)
from ml_deploy.releases.record_secrets import (
    APP,
    RECORD,
    changed,
    data_of,
    decode,
    encode,
    is_head,
    is_of,
    notes_of,
    patch_of,
    unpack,
)

_TRIES = 5


class Time(Protocol):
    """The part of a clock that records need."""

    def time(self) -> float:
        """Seconds since the epoch."""


class Records:
    """The history of one app in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, app: str, *, clock: Time) -> None:
        self._cluster, self._clock = cluster, clock
        self.namespace, self.app = namespace, app

    def all(self) -> list[Release]:
        """Every recorded revision, newest first, without their objects."""
        selector = f"{APP}={self.app},{RECORD}=release"
        found = self._cluster.list("v1", "Secret", self.namespace, selector=selector)
        return sorted(map(decode, found), key=lambda release: -release.revision)

    def apps(self) -> list[str]:
        """The apps that have records in the namespace."""
        heads = self._cluster.list("v1", "Secret", self.namespace, selector=f"{RECORD}=release")
        return sorted({str(head["metadata"]["labels"].get(APP)) for head in heads})

    def find(self, revision: int) -> Release | None:
        """One revision without its objects, or None."""
        secret = self._cluster.get(self._ref(f"{self.app}.r{revision}"))
        return decode(secret) if secret and is_head(secret, self.app) else None

    def current(self) -> Release | None:
        """The revision that went live last, or None before the first."""
        return current_of(self.all())

    def load(self, release: Release) -> Release:
        """The release with its objects and UIDs. Raises NoRelease when the record is gone or incomplete."""
        head = self._cluster.get(self._ref(release.name))
        if not head:
            raise NoRelease(f"The record Secret {release.name} in namespace {self.namespace} is gone.")
        packed = data_of(head, "objects")
        for number in range(1, int(notes_of(head).get("ml-deploy/parts", "0")) + 1):
            part = self._cluster.get(self._ref(f"{release.name}.p{number}"))
            if not part:
                raise NoRelease(
                    f"The record of revision {release.revision} is incomplete: Secret {release.name}.p{number}"
                    f" in namespace {self.namespace} is gone.",
                    hint="Choose another revision with `to-revision`.",
                )
            packed += data_of(part, "objects")
        return replace(decode(head), objects=tuple(unpack(packed)))

    def begin(
        self, objects: Sequence[Object], *, strategy: str = "", images: Sequence[str] = (), model_digest: str = "",
        commit: str = "", run_url: str = "", state: str = DEPLOYING, revision: int | None = None,
    ) -> Release:  # fmt: skip
        """Write the record of a new revision, before its first object is applied. Call with the lock held.

        Revisions that a killed run left in `deploying` become `failed`.
        """
        history = self.all()
        for left in history:
            if left.state == DEPLOYING:
                self.mark(left, FAILED, self.verdict("deploy-aks", False, "interrupted: its run ended half-way"))
        if revision is None:
            revision = max((release.revision for release in history), default=0) + 1
        release = Release(
            app=self.app, namespace=self.namespace, revision=revision, state=state, strategy=strategy,
            images=tuple(images), model_digest=model_digest, commit=commit, run_url=run_url, created=self._now(),
            objects=tuple(objects),
        )  # fmt: skip
        for secret in encode(release):
            self._create(secret)
        return release

    def adopt(
        self, objects: Sequence[Object], *, uids: Mapping[Ref, str], images: Sequence[str], served: bool | None
    ) -> Release:
        """Keep what was live at the first meeting as revision 0 (see `adoption.first_meeting`).

        served: whether its workloads had ready pods; then it counts as good. None: some had; that is better than nothing.
        """
        release = self.begin(objects, strategy="adopted", images=images, state=SUPERSEDED, revision=0)
        text = "served before ml-deploy met it" if served else "was not ready when ml-deploy met it"
        verdict = None if served is None else self.verdict("deploy-aks", served, text)
        release = self.update(release, uids={key(ref): uid for ref, uid in uids.items()}, verdict=verdict)
        return self.activate(release)

    def activate(self, release: Release) -> Release:
        """Make this revision the current one: right before the first write that users may notice."""
        highest = max((other.activated for other in self.all()), default=0)
        return self.update(release, activated=highest + 1)

    def applied(self, release: Release, objects: Iterable[Object]) -> Release:
        """Record the UIDs of objects as the server has them; adds to those recorded before."""
        found = {key(ref_of(obj, self.namespace)): str(obj["metadata"]["uid"]) for obj in objects}
        return self.update(release, uids={**release.uids, **found})

    def mark(self, release: Release, state: str, verdict: Verdict | None = None) -> Release:
        """Move a release to another state; becoming `deployed` or `good` supersedes the one before."""
        release = self.update(release, state=state, verdict=verdict)
        if state in (DEPLOYED, JUDGED_GOOD):
            self._supersede_others(release)
        return release

    def reinstate(self, release: Release) -> Release:
        """Make a restored release the current one again, in one write, after all else is done."""
        highest = max((other.activated for other in self.all()), default=0)
        state = JUDGED_GOOD if release.good else DEPLOYED
        activated = release.activated if release.activated == highest and highest else highest + 1
        release = self.update(release, state=state, activated=activated)
        self._supersede_others(release)
        return release

    def judge(self, revision: int, *, by: str, good: bool, text: str) -> Release:
        """Write a verdict; a live release becomes `good` or `failed`, another keeps its state. Needs no lock.

        Raises NoRelease when there is no such revision.
        """
        release = self.find(revision)
        if release is None:
            raise NoRelease(
                f"There is no record of revision {revision} of {self.app} in namespace {self.namespace}.",
                hint="`app`, `revision` and `namespace` must be those of deploy-aks.",
            )
        return self.update(release, verdict=self.verdict(by, good, text), judged=True)

    def verdict(self, by: str, good: bool, text: str) -> Verdict:
        """A verdict of now."""
        return Verdict(by, self._now(), good, text[:500])

    def update(
        self, release: Release, *, state: str | None = None, verdict: Verdict | None = None, activated: int | None = None,
        uids: Mapping[str, str] | None = None, why: str | None = None, judged: bool = False,
    ) -> Release:  # fmt: skip
        """Change a record, reading it again when somebody else changed it meanwhile (smoke-test holds no lock)."""
        for attempt in range(_TRIES):
            secret = self._cluster.get(self._ref(release.name))
            if not secret:
                raise NoRelease(f"The record Secret {release.name} in namespace {self.namespace} is gone.")
            new = changed(decode(secret), state, verdict, activated, uids, why)
            if judged and new.activated and new.state in (DEPLOYED, JUDGED_GOOD, FAILED):
                new = replace(new, state=JUDGED_GOOD if new.good else FAILED)
            try:
                self._cluster.patch(self._ref(release.name), patch_of(new, secret, with_uids=uids is not None))
                return replace(new, objects=release.objects)
            except ApiError as error:
                if error.code != 409 or attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def trim(self, limit: int) -> list[Release]:
        """Drop old revisions over `limit`, never the current or the last good one, and parts without a head."""
        history = self.all()
        dropped = evictable(history, limit)
        for release in dropped:
            self._delete(release.name)
        kept = {release.name for release in history} - {release.name for release in dropped}
        parts = self._cluster.list("v1", "Secret", self.namespace, selector=f"{APP}={self.app},{RECORD}=part")
        for part in parts:
            if part["metadata"]["name"].rpartition(".p")[0] not in kept:
                self._delete(part["metadata"]["name"])
        return dropped

    def remove_all(self) -> int:
        """Remove the whole history; returns the number of revisions. Heads go last: while one is left, the app is known."""
        found = self._cluster.list("v1", "Secret", self.namespace, selector=f"{APP}={self.app},{RECORD}")
        heads = [secret for secret in found if is_head(secret, self.app)]
        for secret in [*(one for one in found if one not in heads), *heads]:
            self._delete(secret["metadata"]["name"])
        return len(heads)

    def _supersede_others(self, release: Release) -> None:
        for other in self.all():
            if other.revision != release.revision and other.state in (DEPLOYED, JUDGED_GOOD):
                self.update(other, state=SUPERSEDED)

    def _create(self, secret: Object) -> None:
        """Create a Secret; one that a killed run left half-written under the same name is replaced."""
        try:
            self._cluster.create(secret)
        except ApiError as error:
            if error.code != 409 or error.reason != "AlreadyExists":
                raise
            there = self._cluster.get(self._ref(secret["metadata"]["name"]))
            if there and there.get("data") == secret["data"]:
                return  # our own, read back after a lost answer
            if there and not is_of(there, self.app):
                raise _taken(self._ref(secret["metadata"]["name"])) from error
            self._delete(secret["metadata"]["name"])
            self._cluster.create(secret)

    def _delete(self, name: str) -> None:
        self._cluster.delete(self._ref(name))

    def _ref(self, name: str) -> Ref:
        return Ref("v1", "Secret", self.namespace, name)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _taken(ref: Ref) -> Conflict:
    return Conflict(
        f"{ref} exists and is no record of ml-deploy, which would bear its name.",
        hint="Rename or remove it, or give the app another name.",
        title="Name taken",
    )
