"""Jobs cannot be changed once they exist, and a finished one does not run again: they are replaced.

A deployment replaces a Job whose template is another one by now or that has finished; one that still runs
unchanged is left to run. A rollback never touches Jobs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from ml_deploy.errors import TimedOut
from ml_deploy.releases import removal
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Object, Ref
from ml_deploy.releases.rollout import Waiting, verdict

Apply = Callable[[], Applied]
_OF_THE_SERVER = ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name")


def rehearse(cluster: Cluster, live: Object, wanted: Object, apply: Apply) -> Applied:
    """What replacing a Job would give; `apply` is the dry run of applying it.

    Raises ApiError when the server would refuse the new Job.
    """
    try:
        return apply()
    except ApiError as error:
        if not _immutable(error):
            raise
    name = wanted["metadata"]["name"]
    other = {**wanted, "metadata": {**wanted["metadata"], "name": f"{name[:50]}-ml-deploy-dry-run"}}
    made = cluster.create(other, dry_run=True)
    return replace(made, object=_as_in_place_of(live, made.object))


def put(
    cluster: Cluster, ref: Ref, live: Object, apply: Apply, *, tell: Callable[[str], None], seconds: float
) -> Applied:
    """Apply a Job that exists already, replacing it where it has to run again.

    seconds: for the old one's pods to end. Raises TimedOut when they do not, ApiError when the server refuses the new one.
    """
    if isinstance(verdict(live), Waiting):
        try:
            return apply()
        except ApiError as error:
            if not _immutable(error):
                raise
        tell(f"{ref} is another one by now: the one that runs is ended and replaced")
    else:
        tell(f"{ref} has finished: it is replaced, and runs again")
    _remove(cluster, ref, str(live["metadata"]["uid"]), seconds)
    return apply()


def _immutable(error: ApiError) -> bool:
    return error.code == 422 and "field is immutable" in error.message


def _remove(cluster: Cluster, ref: Ref, uid: str, seconds: float) -> None:
    """Delete a Job with its pods and wait until they are gone: two of a kind never run at once."""
    try:
        cluster.delete(ref, uid=uid, propagation="Foreground")
    except ApiError as error:
        if error.code == 409:  # somebody else made it anew
            return
        raise
    if not removal.wait_until_gone(cluster, ref, uid, seconds=seconds):
        raise TimedOut(
            f"{ref} was deleted to be replaced, and its pods have not ended at the deadline, {seconds:.0f} s later.",
            hint=f"Look at them (kubectl describe pod -l job-name={ref.name}); run this again once they are gone.",
        )


def _as_in_place_of(live: Object, made: Object) -> Object:
    """A Job that was made under another name for a try, as it would be in place of the live one."""
    obj = copy.deepcopy(made)
    obj["metadata"]["name"] = live["metadata"]["name"]
    obj["spec"]["selector"] = live["spec"].get("selector")
    template = obj["spec"]["template"].setdefault("metadata", {})
    before = live["spec"]["template"].get("metadata") or {}
    for part in (obj["metadata"], template):
        labels = part.get("labels") or {}
        of_live = (before if part is template else live["metadata"]).get("labels") or {}
        part["labels"] = {
            name: of_live.get(name, value) if name in _OF_THE_SERVER else value for name, value in labels.items()
        }
    return obj
