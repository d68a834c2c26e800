"""When a Job is replaced, and when it is left to run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from ml_deploy.errors import TimedOut
from ml_deploy.releases import jobs
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Event, Object, Ref

REF = Ref("batch/v1", "Job", "ml", "migrate")
IMMUTABLE = ApiError(422, "Invalid", 'Job.batch "migrate" is invalid: spec.template: Invalid value: field is immutable')
UIDS = {"controller-uid": "u1", "job-name": "migrate"}


def job(*, finished: str = "", uid: str = "u1", labels: dict[str, str] | None = None) -> Object:
    conditions = [{"type": finished, "status": "True"}] if finished else []
    template = {"metadata": {"labels": labels or UIDS}, "spec": {}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "uid": uid, "labels": labels or UIDS},
            "spec": {"selector": {"matchLabels": UIDS}, "template": template}, "status": {"conditions": conditions}}  # fmt: skip


class FakeCluster:
    """Deletes, and tells what happens then; anything else is a surprise."""

    def __init__(self, *events: Event | None, then: Object | None = None) -> None:
        self.events, self.then = events, then
        self.calls: list[str] = []

    def delete(self, ref: Ref, *, uid: str, propagation: str) -> bool:
        self.calls.append(f"delete {ref.name} {uid} {propagation}")
        return True

    def watch(self, *where: str, name: str, seconds: float) -> Iterator[Event | None]:
        assert seconds == 25.0
        yield from self.events

    def get(self, ref: Ref) -> Object | None:
        return self.then

    def create(self, obj: Object, *, dry_run: bool) -> Applied:
        assert dry_run
        self.calls.append(f"try {obj['metadata']['name']}")
        labels = {"controller-uid": "u9", "job-name": "other", "app": "x"}
        return Applied({**job(labels=labels), "metadata": obj["metadata"]})


def put(cluster: FakeCluster, live: Object, *answers: Applied | ApiError) -> list[str]:
    """What was done, in order."""
    waiting = iter(answers)

    def apply() -> Applied:
        answer = next(waiting)
        cluster.calls.append("apply")
        if isinstance(answer, ApiError):
            raise answer
        return answer

    jobs.put(cast(Cluster, cluster), REF, live, apply, tell=lambda _: None, seconds=25.0)
    return cluster.calls


DONE = Applied({})
GONE = Event("DELETED", job())
REPLACED = ["delete migrate u1 Foreground", "apply"]


def test_one_that_runs_unchanged_is_left() -> None:
    assert put(FakeCluster(), job(), DONE) == ["apply"]


def test_one_that_runs_and_changed_is_replaced() -> None:
    assert put(FakeCluster(GONE), job(), IMMUTABLE, DONE) == ["apply", *REPLACED]


@pytest.mark.parametrize("how", ["Complete", "Failed"])
@pytest.mark.parametrize("events", [(GONE,), (None,), (Event("ADDED", job()), GONE)])
def test_a_finished_one_is_replaced_once_it_is_gone(how: str, events: tuple[Event | None, ...]) -> None:
    assert put(FakeCluster(*events), job(finished=how), DONE) == REPLACED


def test_one_that_does_not_go() -> None:
    with pytest.raises(TimedOut, match="its pods have not ended at the deadline, 25 s later"):
        put(FakeCluster(None, Event("MODIFIED", job()), then=job()), job(finished="Failed"))


def test_another_refusal_is_no_reason_to_replace() -> None:
    with pytest.raises(ApiError, match="quota"):
        put(FakeCluster(), job(), ApiError(403, "Forbidden", "exceeded quota"))


def test_a_rehearsal_tries_a_changed_one_under_another_name_and_shows_it_as_the_real_one() -> None:
    cluster = FakeCluster()

    def apply() -> Applied:
        raise IMMUTABLE

    wanted: dict[str, Any] = {**job(), "metadata": {"name": "migrate"}}
    after = jobs.rehearse(cast(Cluster, cluster), job(), wanted, apply).object
    assert cluster.calls == ["try migrate-ml-deploy-dry-run"]
    assert after["metadata"]["name"] == "migrate" and after["spec"]["selector"] == {"matchLabels": UIDS}
    assert after["spec"]["template"]["metadata"]["labels"] == {**UIDS, "app": "x"}
