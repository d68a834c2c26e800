"""Which release is current, which is good, which may go: pure functions of the history."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from tests.clock import FakeClock
from tests.unit.releases.secrets_only import Secrets

from ml_deploy.errors import Conflict, NoRelease
from ml_deploy.releases import history, record_secrets, restore
from ml_deploy.releases.cluster import Cluster
from ml_deploy.releases.history import DEPLOYED, FAILED, JUDGED_GOOD, SUPERSEDED, Release
from ml_deploy.releases.records import Records


def release(revision: int, state: str, *, good: bool | None = None, activated: int | None = None) -> Release:
    return Release(
        app="wine", namespace="ml", revision=revision, state=state, good=good,
        activated=revision if activated is None else activated,
    )  # fmt: skip


GOOD = release(1, "superseded", good=True)
UNJUDGED = release(2, "superseded")
BAD = release(3, "failed", good=False)
UNDONE = release(4, "rolled-back", good=True)
CURRENT = release(5, "good", good=True)
HISTORY = [CURRENT, UNDONE, BAD, UNJUDGED, GOOD]


def test_current_is_what_went_live_last_not_the_newest_number() -> None:
    assert history.current_of(HISTORY) == CURRENT
    restored = replace(GOOD, activated=6)
    assert history.current_of([CURRENT, restored]) == restored
    assert history.current_of([release(1, "failed", activated=0)]) is None


def test_only_what_was_judged_good_and_not_undone_is_gone_back_to() -> None:
    assert restore.choose(HISTORY, CURRENT) == GOOD
    reasons = {r.revision: history.disqualified(r, before=5) for r in HISTORY}
    assert reasons == {
        1: "", 2: "was never judged good", 3: "failed", 4: "was itself rolled back", 5: "is the current one",
    }  # fmt: skip


def test_where_nobody_judged_it_is_the_newest_that_served() -> None:
    assert restore.choose([CURRENT, BAD, UNJUDGED], CURRENT) == UNJUDGED


def test_when_nothing_qualifies_every_revision_is_listed_with_its_reason() -> None:
    interrupted = release(1, "deploying", activated=0)
    with pytest.raises(NoRelease) as caught:
        restore.choose([CURRENT, UNDONE, BAD, interrupted], CURRENT)
    for words in ("r5: is the current one", "r4: was itself rolled back", "r3: failed", "r1: never finished"):
        assert words in caught.value.details


def test_a_first_release_has_nothing_before_it() -> None:
    only = release(1, "failed", good=False)
    with pytest.raises(NoRelease, match="no older release of wine"):
        restore.choose([only], only)


def test_a_named_revision_must_exist_and_have_been_written_whole() -> None:
    assert restore.named(HISTORY, 3) == BAD
    for missing in (9, 6):
        with pytest.raises(NoRelease, match=f"no revision {missing}"):
            restore.named([release(6, "deploying", activated=0), *HISTORY], missing)


@pytest.mark.parametrize(("limit", "left"), [(1, {5, 1}), (2, {5, 4, 1}), (10, {5, 4, 3, 2, 1})])
def test_the_current_and_the_last_good_one_are_never_evicted(limit: int, left: set[int]) -> None:
    dropped = {r.revision for r in history.evictable(HISTORY, limit)}
    assert {r.revision for r in HISTORY} - dropped == left


def test_packing_is_exact_and_repeatable() -> None:
    objects = [{"kind": "ConfigMap", "data": {"ü": "\n"}}]
    assert record_secrets.unpack(record_secrets.pack(objects)) == objects
    assert record_secrets.pack(objects) == record_secrets.pack(objects)


def test_an_objects_key_leaves_its_version_out() -> None:
    one = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    other = {"apiVersion": "apps/v1beta2", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ml"}}
    assert history.key(history.ref_of(one, "ml")) == history.key(history.ref_of(other, "default"))


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def records(secrets: Secrets) -> Records:
    return Records(cast(Cluster, secrets), "ml", "wine", clock=FakeClock(1e9))


def states(records: Records) -> dict[int, str]:
    return {one.revision: one.state for one in records.all()}


def test_a_secret_of_somebody_else_that_bears_the_name_of_a_record_is_not_touched(
    secrets: Secrets, records: Records
) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wine.r1", "labels": {"app": "x"}}, "data": {}}
    secrets.create(theirs)
    with pytest.raises(Conflict, match=r"Secret wine\.r1 in namespace ml exists and is no record"):
        records.begin([])
    assert secrets.there["wine.r1"]["metadata"]["labels"] == {"app": "x"}


def test_parts_that_a_killed_run_left_are_replaced(secrets: Secrets, records: Records) -> None:
    records.begin([])
    left = secrets.there["wine.r1"]
    left["metadata"]["labels"]["ml-deploy/record"] = "part"  # as if its head had never been written
    left["data"] = {}
    assert records.begin([{"kind": "ConfigMap"}]).revision == 1 and secrets.there["wine.r1"]["data"]


def test_what_never_went_live_is_not_judged_good_for_what_serves(records: Records) -> None:
    serving = records.mark(records.activate(records.begin([])), DEPLOYED)
    failed = records.mark(records.begin([]), FAILED, records.verdict("deploy-aks", False, "it answers wrongly"))
    assert records.judge(failed.revision, by="smoke-test", good=True, text="all right").state == FAILED
    assert records.judge(serving.revision, by="smoke-test", good=True, text="all right").state == JUDGED_GOOD
    assert restore.choose(records.all(), replace(failed, activated=9)).revision == serving.revision


@pytest.mark.parametrize(("served", "target"), [(True, 0), (None, 0), (False, None)])
def test_what_served_in_part_is_gone_back_to(records: Records, served: bool | None, target: int | None) -> None:
    records.adopt([], uids={}, images=(), served=served)
    failed = records.mark(records.activate(records.begin([])), FAILED)
    if target is None:
        with pytest.raises(NoRelease):
            restore.choose(records.all(), failed)
    else:
        assert restore.choose(records.all(), failed).revision == target


def test_of_all_revisions_only_the_reinstated_one_is_live(records: Records) -> None:
    first, _ = [records.mark(records.activate(records.begin([])), DEPLOYED) for _ in range(2)]
    first = records.judge(first.revision, by="smoke-test", good=True, text="all right")
    records.mark(records.activate(records.begin([])), FAILED)  # it has superseded nobody
    assert states(records) == {3: FAILED, 2: DEPLOYED, 1: SUPERSEDED}
    records.reinstate(first)
    assert states(records) == {3: FAILED, 2: SUPERSEDED, 1: JUDGED_GOOD}
