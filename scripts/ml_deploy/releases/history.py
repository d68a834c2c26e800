"""Releases as data: their states, and which of them is current, good, or to be chosen. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ml_deploy.releases.cluster import Object, Ref

DEPLOYING, DEPLOYED, JUDGED_GOOD = "deploying", "deployed", "good"
FAILED, SUPERSEDED, ROLLED_BACK = "failed", "superseded", "rolled-back"
WAITING = "waiting"  # for promotion: it blocks other deployments


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
