"""Applying what a definition of the same release defines."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Object, Ref
from ml_deploy.releases.history import Release
from ml_deploy.releases.records import Records
from ml_deploy.releases.stage import Plan, Progress, Stage

CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "models.example.com"},
       "spec": {"group": "example.com", "names": {"kind": "Model"}}}  # fmt: skip
MODEL = {"apiVersion": "example.com/v1", "kind": "Model", "metadata": {"name": "m", "namespace": "ml"}}
OTHER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ml"}}
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
    def applied(self, release: Release, objects: list[Object]) -> Release:
        return release


def put(obj: Object, refusals: int, error: ApiError = UNKNOWN) -> Clock:
    clock, progress = Clock(), Progress(release=Release("wine", "ml", 1))
    stage = Stage(
        cast(Cluster, FakeCluster(refusals, error)), Plan(app="wine", objects=[]), clock, 100.0, lambda _: None,
        progress, cast(Records, FakeRecords()), [CRD, MODEL, OTHER],
    )  # fmt: skip
    assert stage.put([obj])[0]["metadata"]["uid"] == "u"
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
