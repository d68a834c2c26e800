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

Which revision is current is decided by one number in one Secret,
`activated`, so that a run that is killed at any moment never leaves two of them. Revision 0 is what was live when
ml-deploy met the app. No value of a Secret is ever shown: `objects` is left out of every `repr`.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Protocol

from ml_deploy.errors import NoRelease
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref

APP = "ml-deploy/app"
REVISION = "ml-deploy/revision"
STATE = "ml-deploy/state"
GOOD = "ml-deploy/good"
RECORD = "ml-deploy/record"
SECRET_TYPE = "ml-deploy/release.v1"  # noqa: S105

DEPLOYING, DEPLOYED, JUDGED_GOOD = "deploying", "deployed", "good"
FAILED, SUPERSEDED, ROLLED_BACK = "failed", "superseded", "rolled-back"
STATES = (DEPLOYING, DEPLOYED, JUDGED_GOOD, FAILED, SUPERSEDED, ROLLED_BACK)

#: Compressed bytes of objects in one Secret; with all else it stays under 900 KiB.
CHUNK = 800 * 1024
_VERDICTS_KEPT = 20
_TRIES = 5


class Time(Protocol):
    """The part of a clock that records need."""

    def time(self) -> float:
        """Seconds since the epoch."""


@dataclass(frozen=True)
class Verdict:
    """One judgement of a release: by whom, when (UTC), whether good, and a sentence free of secrets."""

    by: str
    at: str
    good: bool
    text: str


@dataclass(frozen=True)
class Release:
    """One revision of an app. `objects` are as applied, in their order; empty until `Records.load`.

    activated: grows each time some revision becomes the live one; 0 for one that never went live.
    good:      whether the last judgement was good; None when nobody judged.
    uids:      UID of each applied object by `key(ref)`.
    born:      when the record was created, by the API server's clock.
    """

    app: str
    namespace: str
    revision: int
    state: str = DEPLOYING
    strategy: str = ""
    images: tuple[str, ...] = ()
    model_digest: str = ""
    commit: str = ""
    run_url: str = ""
    created: str = ""
    activated: int = 0
    good: bool | None = None
    why: str = ""
    verdicts: tuple[Verdict, ...] = ()
    objects: tuple[Object, ...] = field(default=(), repr=False)
    uids: Mapping[str, str] = field(default_factory=dict, repr=False)
    born: str = ""

    @property
    def name(self) -> str:
        """The name of its Secret."""
        return f"{self.app}.r{self.revision}"

    @property
    def image(self) -> str:
        """Its first image, or an empty string."""
        return self.images[0] if self.images else ""

    def row(self) -> str:
        """One line for people: `r4: good, registry/model@sha256:…, commit abc1234`."""
        commit = f"commit {self.commit[:7]}" if self.commit else ""
        return f"r{self.revision}: " + ", ".join(part for part in (self.state, self.image, commit) if part)


def key(ref: Ref) -> str:
    """An object's address without its version, as UIDs are recorded by: `apps/Deployment/ns/name`."""
    group = ref.api_version.rpartition("/")[0]
    return f"{group}/{ref.kind}/{ref.namespace}/{ref.name}"


def ref_of(obj: Object, namespace: str = "") -> Ref:
    """The address of an object; `namespace` is assumed when it names none."""
    meta = obj.get("metadata") or {}
    return Ref(obj.get("apiVersion", ""), obj.get("kind", ""), meta.get("namespace") or namespace, meta.get("name", ""))


def current_of(releases: Iterable[Release]) -> Release | None:
    """The revision that went live last."""
    live = [release for release in releases if release.activated]
    return max(live, key=lambda release: release.activated) if live else None


def last_good_of(releases: Iterable[Release], *, before: int | None = None) -> Release | None:
    """The newest revision that was judged good and not rolled back, older than `before` when given."""
    good = [r for r in releases if disqualified(r, before=before) == ""]
    return max(good, key=lambda release: release.revision) if good else None


def fallback_of(releases: Iterable[Release], *, before: int) -> Release | None:
    """Where nobody ever judged: the newest older revision that rolled out and served."""
    served = [r for r in releases if r.revision < before and r.good is None and r.state in (DEPLOYED, SUPERSEDED)]
    return max(served, key=lambda release: release.revision) if served else None


def disqualified(release: Release, *, before: int | None = None) -> str:
    """Why a rollback does not choose this release by itself; empty when it may."""
    if before is not None and release.revision >= before:
        return "is not older than the current one" if release.revision > before else "is the current one"
    if release.state == ROLLED_BACK:
        return "was itself rolled back"
    if release.state == FAILED or release.good is False:
        return "failed" + (f" ({release.verdicts[-1].text})" if release.verdicts else "")
    if release.state == DEPLOYING:
        return "never finished rolling out"
    return "" if release.good else "was never judged good"


def evictable(releases: Sequence[Release], limit: int) -> list[Release]:
    """What a history of `limit` revisions drops: oldest first, never the current nor the last good ones."""
    kept = {release.revision for release in sorted(releases, key=lambda r: r.revision)[-max(limit, 1) :]}
    current = current_of(releases)
    anchors = [current, last_good_of(releases)]
    if current:
        older = current.revision
        anchors.append(last_good_of(releases, before=older) or fallback_of(releases, before=older))
    kept |= {release.revision for release in anchors if release}
    return [release for release in releases if release.revision not in kept and release.state != DEPLOYING]


class Records:
    """The history of one app in one namespace. `guard` is called before each write (see `lease.Lock`)."""

    def __init__(
        self, cluster: Cluster, namespace: str, app: str, *, clock: Time, guard: Callable[[], None] = lambda: None
    ) -> None:
        self._cluster, self._clock, self._guard = cluster, clock, guard
        self.namespace, self.app = namespace, app

    def all(self) -> list[Release]:
        """Every recorded revision, newest first, without their objects."""
        selector = f"{APP}={self.app},{RECORD}=release"
        found = self._cluster.list("v1", "Secret", self.namespace, selector=selector)
        return sorted(map(_read, found), key=lambda release: -release.revision)

    def find(self, revision: int) -> Release | None:
        """One revision without its objects, or None."""
        secret = self._cluster.get(self._ref(f"{self.app}.r{revision}"))
        return _read(secret) if secret and _is_head(secret, self.app) else None

    def current(self) -> Release | None:
        """The revision that went live last, or None before the first."""
        return current_of(self.all())

    def last_good(self, *, before: int | None = None) -> Release | None:
        """The newest revision judged good and not rolled back, older than `before` when given."""
        return last_good_of(self.all(), before=before)

    def load(self, release: Release) -> Release:
        """The release with its objects and UIDs. Raises NoRelease when the record is gone or incomplete."""
        head = self._cluster.get(self._ref(release.name))
        if not head:
            raise NoRelease(f"The record Secret {release.name} in namespace {self.namespace} is gone.")
        packed = _bytes(head, "objects")
        for number in range(1, int(_annotations(head).get("ml-deploy/parts", "0")) + 1):
            part = self._cluster.get(self._ref(f"{release.name}.p{number}"))
            if not part:
                raise NoRelease(
                    f"The record of revision {release.revision} is incomplete: Secret {release.name}.p{number}"
                    f" in namespace {self.namespace} is gone.",
                    hint="Choose another revision with `to-revision`.",
                )
            packed += _bytes(part, "objects")
        return replace(_read(head), objects=tuple(unpack(packed)))

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
        for secret in _write(release):
            self._create(secret)
        return release

    def adopt(
        self, objects: Sequence[Object], *, uids: Mapping[Ref, str], images: Sequence[str], healthy: bool
    ) -> Release:
        """Keep what was live at the first meeting as revision 0 (see `adoption.first_meeting`).

        healthy: whether its workloads had ready pods; then it counts as good, for it has been serving.
        """
        release = self.begin(objects, strategy="adopted", images=images, state=SUPERSEDED, revision=0)
        text = "served before ml-deploy met it" if healthy else "was not ready when ml-deploy met it"
        release = self.update(
            release,
            uids={key(ref): uid for ref, uid in uids.items()},
            verdict=self.verdict("deploy-aks", healthy, text),
        )
        return self.activate(release)

    def activate(self, release: Release) -> Release:
        """Make this revision the current one: right before the first write that users may notice."""
        highest = max((other.activated for other in self.all()), default=0)
        return self.update(release, activated=highest + 1) if release.activated <= highest else release

    def applied(self, release: Release, objects: Iterable[Object]) -> Release:
        """Record the UIDs of objects as the server has them; adds to those recorded before."""
        found = {key(ref_of(obj, self.namespace)): str(obj["metadata"]["uid"]) for obj in objects}
        return self.update(release, uids={**release.uids, **found})

    def mark(self, release: Release, state: str, verdict: Verdict | None = None) -> Release:
        """Move a release to another state; becoming `deployed` or `good` supersedes the one before."""
        release = self.update(release, state=state, verdict=verdict)
        if state in (DEPLOYED, JUDGED_GOOD):
            for other in self.all():
                if other.revision != release.revision and other.state in (DEPLOYED, JUDGED_GOOD):
                    self.update(other, state=SUPERSEDED)
        return release

    def reinstate(self, release: Release) -> Release:
        """Make a restored release the current one again, in one write, after all else is done."""
        highest = max((other.activated for other in self.all()), default=0)
        state = JUDGED_GOOD if release.good else DEPLOYED
        activated = release.activated if release.activated == highest and highest else highest + 1
        return self.update(release, state=state, activated=activated)

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
            new = _changed(_read(secret), state, verdict, activated, uids, why)
            if judged and new.state in (DEPLOYED, JUDGED_GOOD, FAILED):
                new = replace(new, state=JUDGED_GOOD if new.good else FAILED)
            self._guard()
            try:
                self._cluster.patch(self._ref(release.name), _patch(new, secret, with_uids=uids is not None))
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

    def _create(self, secret: Object) -> None:
        """Create a Secret; one that a killed run left half-written under the same name is replaced."""
        self._guard()
        try:
            self._cluster.create(secret)
        except ApiError as error:
            if error.code != 409 or error.reason != "AlreadyExists":
                raise
            there = self._cluster.get(self._ref(secret["metadata"]["name"]))
            if there and there.get("data") == secret["data"]:
                return  # our own, read back after a lost answer
            self._delete(secret["metadata"]["name"])
            self._cluster.create(secret)

    def _delete(self, name: str) -> None:
        self._guard()
        self._cluster.delete(self._ref(name))

    def _ref(self, name: str) -> Ref:
        return Ref("v1", "Secret", self.namespace, name)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def pack(objects: Sequence[Object]) -> bytes:
    """Objects, compressed; the same bytes for the same objects."""
    return gzip.compress(json.dumps(list(objects), separators=(",", ":")).encode(), mtime=0)


def unpack(packed: bytes) -> list[Object]:
    """What `pack` packed."""
    objects: list[Object] = json.loads(gzip.decompress(packed))
    return objects


def _write(release: Release) -> list[Object]:
    """The Secrets of a release: parts first, so that a head is never without them."""
    packed = pack(release.objects)
    chunks = [packed[start : start + CHUNK] for start in range(0, len(packed), CHUNK)]
    parts = [
        _secret(release, f"{release.name}.p{number}", "part", {"objects": chunk}, {})
        for number, chunk in enumerate(chunks[1:], 1)
    ]
    head_data = {"objects": chunks[0], "uids": json.dumps(dict(release.uids)).encode()}
    head = _secret(release, release.name, "release", head_data, {**_notes(release), "ml-deploy/parts": str(len(parts))})
    return [*parts, head]


def _secret(release: Release, name: str, record: str, data: dict[str, bytes], notes: dict[str, str]) -> Object:
    labels = {
        APP: release.app,
        RECORD: record,
        REVISION: str(release.revision),
        "app.kubernetes.io/managed-by": "ml-deploy",
    }
    if record == "release":
        labels |= _labels(release)
    meta = {"name": name, "namespace": release.namespace, "labels": labels, "annotations": notes}
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": meta, "data": encoded}


def _labels(release: Release) -> dict[str, str]:
    good = "unknown" if release.good is None else "true" if release.good else "false"
    return {STATE: release.state, GOOD: good}


def _notes(release: Release) -> dict[str, str]:
    verdicts = [vars(verdict) for verdict in release.verdicts[-_VERDICTS_KEPT:]]
    return {
        "ml-deploy/activated": str(release.activated), "ml-deploy/strategy": release.strategy,
        "ml-deploy/images": "\n".join(release.images), "ml-deploy/model-digest": release.model_digest,
        "ml-deploy/commit": release.commit, "ml-deploy/run": release.run_url, "ml-deploy/created": release.created,
        "ml-deploy/why": release.why, "ml-deploy/verdicts": json.dumps(verdicts),
    }  # fmt: skip


def _patch(release: Release, secret: Object, *, with_uids: bool) -> dict[str, Any]:
    meta = {
        "resourceVersion": secret["metadata"]["resourceVersion"],
        "labels": _labels(release),
        "annotations": _notes(release),
    }
    patch: dict[str, Any] = {"metadata": meta}
    if with_uids:
        patch["data"] = {"uids": base64.b64encode(json.dumps(dict(release.uids)).encode()).decode()}
    return patch


def _changed(
    release: Release, state: str | None, verdict: Verdict | None, activated: int | None,
    uids: Mapping[str, str] | None, why: str | None,
) -> Release:  # fmt: skip
    if state is not None:
        release = replace(release, state=state)
    if verdict is not None and verdict not in release.verdicts:  # it may be there from an attempt whose answer was lost
        release = replace(release, verdicts=(*release.verdicts, verdict), good=verdict.good)
    if activated is not None:
        release = replace(release, activated=activated)
    if uids is not None:
        release = replace(release, uids=dict(uids))
    return replace(release, why=why) if why is not None else release


def _read(secret: Object) -> Release:
    meta, notes = secret["metadata"], _annotations(secret)
    labels = meta["labels"]
    return Release(
        app=labels[APP], namespace=meta["namespace"], revision=int(labels[REVISION]), state=labels[STATE],
        strategy=notes.get("ml-deploy/strategy", ""), images=tuple(notes.get("ml-deploy/images", "").split()),
        model_digest=notes.get("ml-deploy/model-digest", ""), commit=notes.get("ml-deploy/commit", ""),
        run_url=notes.get("ml-deploy/run", ""), created=notes.get("ml-deploy/created", ""),
        activated=int(notes.get("ml-deploy/activated", "0")), good={"true": True, "false": False}.get(labels[GOOD]),
        why=notes.get("ml-deploy/why", ""),
        verdicts=tuple(Verdict(**verdict) for verdict in json.loads(notes.get("ml-deploy/verdicts", "[]"))),
        uids=json.loads(_bytes(secret, "uids") or b"{}"), born=meta.get("creationTimestamp") or "",
    )  # fmt: skip


def _is_head(secret: Object, app: str) -> bool:
    labels = secret["metadata"].get("labels") or {}
    return bool(labels.get(APP) == app and labels.get(RECORD) == "release")


def _annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def _bytes(secret: Object, name: str) -> bytes:
    return base64.b64decode((secret.get("data") or {}).get(name, ""))
