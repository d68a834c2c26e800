"""What the records say of canaries: which one waits, and what that means for others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ml_deploy.errors import Conflict, NoRelease
from ml_deploy.releases.history import (
    DEPLOYED,
    DEPLOYING,
    FAILED,
    JUDGED_GOOD,
    ROLLED_BACK,
    WAITING,
    Release,
    current_of,
)

_DONE = {"promote": (DEPLOYED, JUDGED_GOOD), "reject": (FAILED, ROLLED_BACK)}


def any_of(history: Iterable[Release]) -> bool:
    """Whether there ever was a canary: only then the cluster is searched for what one may have left."""
    return any(release.strategy == "canary" for release in history)


def waiting(history: Iterable[Release]) -> Release | None:
    """The release whose canary waits to be promoted or rejected."""
    return next((release for release in history if release.state == WAITING), None)


def undecided(history: Sequence[Release]) -> Release | None:
    """The release whose canary waits, or was left half-way by a run that ended. Call it with the lock held."""
    left = (release for release in history if release.state == DEPLOYING and release.strategy == "canary")
    return waiting(history) or next(left, None)


def refuse_waiting(history: Iterable[Release]) -> None:
    """Raises Conflict when a canary waits: a deployment would take the decision away from whoever is to make it."""
    release = waiting(history)
    if release:
        run = f" (deployed by {release.run_url})" if release.run_url else ""
        raise Conflict(
            f"Revision {release.revision} of {release.app} waits as a canary since {release.created}{run}: "
            "nothing else is deployed until it is promoted or rejected.",
            hint="Run deploy-aks with `action: promote` or `action: reject` (on a terminal: scripts/run.sh deploy-aks "
            f"--app {release.app} --action reject).",
            title="A canary waits",
        )


def is_promoted(release: Release | None) -> bool:
    """Whether a release was a canary and serves all users by now."""
    return release is not None and release.strategy == "canary" and release.state in _DONE["promote"]


def meant(history: Sequence[Release], app: str, action: str, revision: int | None) -> tuple[Release, bool]:
    """The release to promote or reject, and whether that was done already (a job that is run again).

    Raises NoRelease when none waits, or Conflict when it is another one than `revision`.
    """
    release = waiting(history) if action == "promote" else undecided(history)
    if release and revision in (None, release.revision):
        return release, False
    named = next((one for one in history if one.revision == revision), None)
    if named and named.state in _DONE[action]:
        return named, True
    if release:
        raise Conflict(
            f"Revision {release.revision} of {app} waits, not revision {revision}.",
            hint="Somebody deployed meanwhile: decide on that one, or leave `revision` out.",
        )
    rows = "\n".join(f"- {one.row()}" for one in history)
    promoted = named if revision is not None else current_of(history)
    if action == "reject" and promoted and is_promoted(promoted):
        raise NoRelease(
            f"Revision {promoted.revision} of {app} is promoted already: no canary is left to reject.",
            hint="Run `rollback` to go back to the version before it.",
            title="Already promoted",
            details=f"Recorded revisions:\n\n{rows}",
        )
    raise NoRelease(
        f"No canary of {app} waits" + (f"; revision {named.revision} is {named.state}" if named else "") + ".",
        hint="Check `app` and `namespace`; it may have been promoted, rejected or rolled back meanwhile.",
        title="No canary waits",
        details=f"Recorded revisions:\n\n{rows or 'none'}",
    )
