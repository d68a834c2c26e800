"""Deploying with the parts that deploy-aks is made of, for tests of what comes after it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ml_deploy.errors import RolloutFailed
from ml_deploy.releases.adoption import first_meeting, images_of
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.history import DEPLOYED, FAILED, Release
from ml_deploy.releases.ownership import Applier
from ml_deploy.releases.records import Records
from ml_deploy.releases.wait import wait_ready


def deploy(cluster: Cluster, *objects: Object, app: str = "web", seconds: float = 60) -> Release:
    """One revision: recorded, applied, waited for; `failed` when it did not get ready (nothing is undone)."""
    records = Records(cluster, cluster.namespace, app, clock=time)
    first_meeting(cluster, records, objects)
    images = images_of([obj for obj in objects if obj["kind"] == "Deployment"])
    release = records.activate(records.begin(objects, strategy="rolling", images=images))
    applier = Applier(cluster, app, objects, tell=print)
    applied = [applier.apply(obj).object for obj in objects]
    release = records.applied(release, applied)
    try:
        wait_ready(cluster, applied, seconds=seconds, clock=time, tell=print)
    except RolloutFailed as error:
        return records.mark(release, FAILED, records.verdict("deploy-aks", False, error.message))
    return records.mark(release, DEPLOYED)


def good(cluster: Cluster, release: Release, *, app: str = "web") -> None:
    """Judge it good, as a smoke test would."""
    Records(cluster, cluster.namespace, app, clock=time).judge(release.revision, by="smoke-test", good=True, text="ok")


def states(cluster: Cluster, app: str = "web") -> dict[int, str]:
    """The state of each revision."""
    found: Sequence[Release] = Records(cluster, cluster.namespace, app, clock=time).all()
    return {release.revision: release.state for release in found}
