"""What is said of a deployment that failed, and what its record says."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.clock import FakeClock
from tests.unit.releases.secrets_only import Secrets

from ml_deploy.errors import Conflict, MlDeployError, RolloutFailed
from ml_deploy.releases.cluster import Applied, Cluster, Object, Ref
from ml_deploy.releases.deployment import Deployment, Plan, Progress, serving
from ml_deploy.releases.history import DEPLOYED, FAILED, Release
from ml_deploy.releases.lease import LockLost
from ml_deploy.releases.records import Records


def release(revision: int, **more: Any) -> Release:
    return Release("wine", "ml", revision, **more)


NEW, OLD = release(2), release(1)


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(release=NEW, previous=OLD), "Revision 1 serves as before."),
        (Progress(release=NEW), "Nothing was deployed before"),
        (
            Progress(release=NEW, previous=OLD, changed=True),
            "Revision 2 is in place as far as it came; pods of the version before",
        ),
        (Progress(release=release(2, strategy="blue-green"), changed=True), "Services lead to revision 2"),
        (Progress(release=NEW, changed=True, going_back_to=OLD, rolled_back_to=OLD), "Revision 1 serves again."),
        (Progress(release=NEW, changed=True, going_back_to=OLD), "The way back to revision 1 is not finished"),
        (
            Progress(release=OLD, changed=True, out_of_traffic=("wine",)),
            "It was the first release, so there is nothing",
        ),
        (Progress(release=NEW, changed=True, out_of_traffic=("wine",)), "No release before it is known to be good, so"),
        (Progress(release=OLD, previous=release(0), changed=True, out_of_traffic=("a", "b")), "No release before it"),
        (Progress(release=OLD, changed=True, out_of_traffic=("wine",)), "taken out of traffic (Service wine)"),
        (
            Progress(release=NEW, previous=release(1, state=FAILED)),
            "Revision 1, which failed, is still the current one.",
        ),
        (Progress(release=NEW, changed=True), "in place as far as it came; there was none before it"),
        (Progress(release=NEW, previous=OLD, share=10), "Its canary still has 10 % of the traffic"),
    ],
)
def test_what_serves_is_said_as_it_is(progress: Progress, said: str) -> None:
    assert said in serving(progress)


CONFIG: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ml"}, "data": {}}


class Refusing(Secrets):
    """Applies nothing: each attempt ends in the next of some errors."""

    namespace, patience = "ml", 60.0

    def __init__(self, *errors: MlDeployError) -> None:
        super().__init__()
        self.errors = [*errors]

    def list(self, api_version: str, kind: str, namespace: str, *, selector: str = "") -> list[Object]:
        return super().list(api_version, kind, namespace, selector=selector) if kind == "Secret" else []

    def get(self, ref: Ref) -> Object | None:
        return super().get(ref) if ref.kind == "Secret" else None

    def apply(self, obj: Object, *, dry_run: bool) -> Applied:
        raise self.errors.pop(0)


def failed(*errors: MlDeployError, incomplete: bool = False) -> tuple[Progress, Records]:
    """How far a deployment comes that meets these errors, where one release served before (whose record lost a part)."""
    cluster, clock = Refusing(*errors), FakeClock(1e9)
    records = Records(cast(Cluster, cluster), "ml", "wine", clock=clock)
    records.mark(records.activate(records.begin([CONFIG])), DEPLOYED)
    cluster.there["wine.r1"]["metadata"]["annotations"]["ml-deploy/parts"] = "1" if incomplete else "0"
    plan = Plan(app="wine", objects=[CONFIG], rollback_timeout=30.0)
    deployment = Deployment(cast(Cluster, cluster), plan, clock=clock, until=1e9 + 60, tell=lambda _: None)
    with pytest.raises(type(errors[0]), match=errors[0].message):
        deployment.run()
    assert cluster.errors == []
    return deployment.progress, records


def test_what_goes_wrong_on_the_way_back_is_told_beside_the_first_cause() -> None:
    progress, records = failed(RolloutFailed("the new one fails"), RolloutFailed("the old one fails"))
    assert "the old one fails" in progress.problem and "way back to revision 1 is not finished" in serving(progress)
    assert [one.state for one in records.all()] == [FAILED, DEPLOYED]


def test_a_lost_lock_is_told_once() -> None:
    assert failed(LockLost("somebody else is at work"), LockLost("somebody else is at work"))[0].problem == ""


def test_a_conflict_is_a_failure_that_is_recorded() -> None:
    progress, records = failed(Conflict("ConfigMap c belongs to somebody"), Conflict("ConfigMap c belongs to somebody"))
    assert [one.state for one in records.all()] == [FAILED, DEPLOYED] and "belongs to somebody" in progress.problem


def test_without_the_record_of_the_one_before_traffic_stays_where_it_is() -> None:
    progress, _ = failed(RolloutFailed("the new one fails"), incomplete=True)
    assert "The record of revision 1 is incomplete" in progress.problem and not progress.out_of_traffic
