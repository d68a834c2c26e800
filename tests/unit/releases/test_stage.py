"""Applying what a definition of the same release defines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from ml_deploy.errors import RolloutFailed
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Event, Object, Ref
from ml_deploy.releases.history import Release
from ml_deploy.releases.records import Records
from ml_deploy.releases.stage import Plan, Progress, Stage

CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "models.example.com"},
       "spec": {"group": "example.com", "names": {"kind": "Model"}}}  # fmt: skip
MODEL = {"apiVersion": "example.com/v1", "kind": "Model", "metadata": {"name": "m", "namespace": "ml"}}
OTHER: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ml"}}
UNKNOWN = ApiError(404, "NotFound", "The cluster knows no kind Model")


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeCluster:
    """An empty cluster that refuses so many times, then applies."""

    namespace = "ml"

    def __init__(self, refusals: int, error: ApiError) -> None:
        self.refusals, self.error = refusals, error

    def list(self, *_: Any, **__: Any) -> list[Object]:
        return []

    def get(self, ref: Ref) -> Object | None:
        return None

    def apply(self, obj: Object, *, dry_run: bool = False, force: bool = False) -> Applied:
        self.refusals -= 1
        if self.refusals >= 0:
            raise self.error
        return Applied({**obj, "metadata": {**obj["metadata"], "uid": "u"}})


class FakeRecords:
    """Remembers whose UIDs are recorded."""

    def __init__(self) -> None:
        self.recorded: list[str] = []

    def applied(self, release: Release, objects: list[Object]) -> Release:
        self.recorded += [one["metadata"]["name"] for one in objects]
        return release


def staged(cluster: Any, clock: Clock, records: FakeRecords | None = None) -> Stage:
    return Stage(
        cast(Cluster, cluster), Plan(app="wine", objects=[]), clock, 100.0, lambda _: None,
        Progress(release=Release("wine", "ml", 1)), cast(Records, records or FakeRecords()), [CRD, MODEL, OTHER],
    )  # fmt: skip


def put(obj: Object, refusals: int, error: ApiError = UNKNOWN) -> Clock:
    clock = Clock()
    assert staged(FakeCluster(refusals, error), clock).put([obj])[0]["metadata"]["uid"] == "u"
    return clock


def test_a_definition_may_take_a_moment_to_be_known() -> None:
    assert put(MODEL, 3).now == 1.5


@pytest.mark.parametrize(
    ("obj", "refusals", "error"),
    [(MODEL, 99, UNKNOWN), (OTHER, 1, UNKNOWN), (MODEL, 1, ApiError(403, "Forbidden", "exceeded quota"))],
)
def test_a_refusal_that_lasts_or_has_another_cause_is_one(obj: Object, refusals: int, error: ApiError) -> None:
    with pytest.raises(ApiError):
        put(obj, refusals, error)


class Holding(FakeCluster):
    """A cluster that has OTHER already."""

    def get(self, ref: Ref) -> Object | None:
        return {**OTHER, "metadata": {**OTHER["metadata"], "uid": "u"}} if ref.name == "c" else None


def test_what_is_made_ahead_is_recorded_and_what_was_there_is_not() -> None:
    records, account = FakeRecords(), {**OTHER, "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "ml"}}
    staged(Holding(0, UNKNOWN), Clock(), records).put_ahead([OTHER, account])
    assert records.recorded == ["a"]


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ml", "uid": "u"}}
WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ml", "uid": "w"}, "spec": {},
       "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}  # fmt: skip


def running(ready: bool) -> Object:
    phase = {} if ready else {"message": "out of memory"}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {**POD, "status": {"phase": "Running" if ready else "Failed", "conditions": conditions, **phase}}


class Watched(FakeCluster):
    """Everything is ready at once; after a second a Pod has failed, where it is one that fails."""

    patience = 60.0

    def __init__(self, clock: Clock, *, fails: bool) -> None:
        super().__init__(0, UNKNOWN)
        self.clock, self.fails = clock, fails

    def watch_all(self, of: Any, *, seconds: float) -> Iterator[Event | None]:
        kinds = [one.kind for one in of]
        yield from (Event("ADDED", WEB if kind == "Deployment" else running(True)) for kind in kinds)
        for _ in range(int(seconds)):
            self.clock.sleep(1.0)
            yield Event("MODIFIED", running(False)) if self.fails and "Pod" in kinds else None


def wait_for_all(*objects: Object, fails: bool = False) -> float:
    clock = Clock()
    stage = staged(Watched(clock, fails=fails), clock)
    stage.progress.applied = list(objects)
    stage.wait_for_all()
    return clock.now


def test_a_bare_pod_that_fails_right_after_it_was_ready_is_a_failure() -> None:
    with pytest.raises(RolloutFailed, match="Pod p: it failed: out of memory"):
        wait_for_all(WEB, POD, fails=True)


def test_a_bare_pod_is_seen_to_stay_and_a_deployment_is_not_slowed() -> None:
    assert wait_for_all(WEB, POD) == 3.0
    assert wait_for_all(WEB) == 0.0
