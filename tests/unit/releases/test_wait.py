"""Waiting: what is told, when it ends, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from ml_deploy.errors import RolloutFailed
from ml_deploy.releases.cluster import Cluster, Event, Kind, Object, WatchOf
from ml_deploy.releases.wait import Until, wait_ready


def deployment(available: int = 1, generation: int = 1, name: str = "web", replicas: int = 1) -> Object:
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "ml", "uid": f"d-{name}", "generation": generation,
                     "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
        "status": {"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                   "availableReplicas": available},
    }  # fmt: skip


def crashed(restarts: int) -> Object:
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    container = {"name": "web", "restartCount": restarts, "state": state, "lastState": last}
    return {"kind": "Pod", "metadata": {"name": "web-1", "namespace": "ml", "uid": "p", "ownerReferences": [{"uid": "new", "controller": True}]},
            "spec": {"containers": [{"name": "web"}]}, "status": {"containerStatuses": [container]}}  # fmt: skip


SETS = [
    {"metadata": {"uid": uid, "annotations": {"deployment.kubernetes.io/revision": revision},
                  "ownerReferences": [{"uid": "d-web", "controller": True}]}}
    for uid, revision in (("old", "1"), ("new", "2"))
]  # fmt: skip


class Clock:
    """A clock that only the fake cluster moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Fake:
    """Gives events at their times; lists pods as of a time; anything else is a surprise."""

    namespace = "ml"
    patience = 600.0

    def __init__(self, clock: Clock, events: Sequence[tuple[float, Object | str]], pods: Any = None) -> None:
        self._clock, self._events = clock, [*events]
        self._pods: Any = pods or (lambda _after: [])
        self.watched: list[WatchOf] = []

    def watch_all(self, of: Sequence[WatchOf], *, seconds: float) -> Iterator[Event | None]:
        self.watched, start = list(of), self._clock.now
        while self._clock.now < start + seconds:
            if self._events and self._events[0][0] <= self._clock.now - start:
                given = self._events.pop(0)[1]
                yield Event("DELETED", deployment()) if given == "deleted" else Event("MODIFIED", cast(Object, given))
                continue
            self._clock.now += 1.0
            yield None

    def list(
        self, api_version: str, kind: str, namespace: str, *, selector: str = "", fields: str = "", most: int = 0
    ) -> list[Object]:
        assert namespace == "ml"
        if kind == "ReplicaSet":
            return SETS
        if kind == "Pod":
            assert selector in ("app=web", "app=a", "app=b", "app=c")
            found: list[Object] = self._pods(self._clock.now - 100.0)
            return found
        assert kind == "Event"
        return []

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool = False, tail: int = 20) -> str:
        assert (namespace, pod, container, previous) == ("ml", "web-1", "web", True)
        return "ValueError: no such model\n"


LOG: list[str] = []  # of the last wait, for those that raise
SECONDS = [0.0]


def wait(
    events: Sequence[tuple[float, Object | str]], *, pods: Any = None, seconds: float = 60, stable_for: float = 0
) -> tuple[dict[str, str], list[str], float]:
    clock, told = Clock(), LOG
    told.clear()
    fake = Fake(clock, events, pods)
    try:
        done = wait_ready(cast(Cluster, fake), [deployment()], seconds=seconds, clock=clock, tell=told.append,
                          stable_for=stable_for)  # fmt: skip
    finally:
        SECONDS[0] = clock.now - 100.0
    return done, told, clock.now - 100.0


def test_it_ends_when_all_is_ready() -> None:
    done, told, seconds = wait([(0, deployment(0)), (3, deployment(1))])
    assert done == {"Deployment web": "1 of 1 ready"} and seconds == 3
    assert told == ["Deployment web: 0 of 1 new pods available", "Deployment web: 1 of 1 ready"]


def test_what_is_ready_already_is_not_told() -> None:
    assert wait([(0, deployment(1))])[1] == []


def test_the_reason_is_told_only_when_it_changes() -> None:
    told = wait([(0, deployment(0)), (1, deployment(0)), (2, deployment(0)), (3, deployment(1))])[1]
    assert len(told) == 2


def test_nothing_to_wait_for_asks_nothing() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ml"}}
    assert wait_ready(cast(Cluster, object()), [config], seconds=1, clock=Clock(), tell=print) == {}


def test_the_deadline() -> None:
    with pytest.raises(RolloutFailed, match=r"Deployment web: not ready within 5 s\.") as caught:
        wait([(0, deployment(0))], seconds=5)
    assert "0 of 1 new pods available" in caught.value.details


def test_a_crash_loop_ends_it_after_three_crashes_with_log() -> None:
    with pytest.raises(RolloutFailed, match="ended with exit code 1") as caught:
        wait([(0, deployment(0))], pods=lambda after: [crashed(max(1, int(after // 10)))])
    assert "ValueError: no such model" in caught.value.details
    assert 30 <= SECONDS[0] <= 33
    log = "\n".join(LOG)
    assert log.count("no such model") == 1 and log.count("(restarted 1 time)") == 1


def test_a_crash_is_told_within_seconds() -> None:
    told = wait([(0, deployment(0)), (9, deployment(1))], pods=lambda _: [crashed(1)])[1]
    assert any("exit code 1" in line for line in told) and any("no such model" in line for line in told)


def test_pods_of_the_version_before_do_not_count() -> None:
    old = crashed(9)
    old["metadata"]["ownerReferences"] = [{"uid": "old", "controller": True}]
    assert wait([(0, deployment(0)), (9, deployment(1))], pods=lambda _: [old])[1][-1].endswith("1 of 1 ready")


def test_pods_are_looked_at_when_the_controller_has_seen_the_new_version() -> None:
    unseen = deployment(0, generation=2)
    unseen["status"]["observedGeneration"] = 1  # what it calls its newest pods are those of the version before
    crashing: list[Object] = [crashed(9)]
    told = wait(
        [(0, unseen), (12, deployment(0, 2)), (14, deployment(1, 2))], pods=lambda after: crashing if after < 12 else []
    )
    assert "exit code" not in "".join(told[1])
    with pytest.raises(RolloutFailed, match="exit code 1"):
        wait([(0, unseen), (12, deployment(0, 2))], pods=lambda _: crashing)


def test_no_progress_for_long_may_heal() -> None:
    late = deployment(0)
    late["status"]["conditions"] = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    assert "no progress within" in wait([(1, late), (30, deployment(1))])[1][0]
    with pytest.raises(RolloutFailed) as caught:
        wait([(1, late)])
    assert "progressDeadlineSeconds (600 s)" in caught.value.details


def pulled(workload: str, image: str, said: str) -> Object:
    """A pod of one of two workloads, whose image cannot be had."""
    state = {"waiting": {"reason": "ErrImagePull", "message": said}}
    return {"kind": "Pod", "metadata": {"name": f"{workload}-1", "namespace": "ml", "uid": workload, "ownerReferences": [
        {"uid": f"d-{workload}", "controller": True}]}, "spec": {"containers": [{"name": "web", "image": image}]},
        "status": {"containerStatuses": [{"name": "web", "image": image, "state": state}]}}  # fmt: skip


def test_of_several_workloads_each_trouble_is_told_and_the_hopeless_one_comes_first() -> None:
    clock, told = Clock(), list[str]()
    two = [{**deployment(0, name=name), "kind": "StatefulSet"} for name in ("a", "b")]
    refused, gone = pulled("a", "r/a:1", "401 Unauthorized"), pulled("b", "r/b:1", "not found")
    fake = Fake(clock, [(0, one) for one in two], lambda after: [refused, gone] if after > 20 else [refused])
    with pytest.raises(RolloutFailed, match=r"^StatefulSet a, StatefulSet b: the image r/b:1 does not exist") as caught:
        wait_ready(cast(Cluster, fake), two, seconds=60, clock=clock, tell=told.append)
    assert "refuses the nodes the image r/a:1" in caught.value.details
    lines = [line for line in told if "image" in line]
    assert len(lines) == 2 and "r/a:1" in lines[0] and "r/b:1" in lines[1]


def test_the_same_trouble_of_several_workloads_is_told_once() -> None:
    clock, told = Clock(), list[str]()
    two = [{**deployment(0, name=name), "kind": "StatefulSet"} for name in ("a", "b")]
    both = [pulled(name, "r/a:1", "401 Unauthorized") for name in ("a", "b")]
    fake = Fake(clock, [(0, one) for one in two], lambda _: both)
    with pytest.raises(RolloutFailed, match="within 20 s"):
        wait_ready(cast(Cluster, fake), two, seconds=20, clock=clock, tell=told.append)
    assert sum("image" in line for line in told) == 1


def test_an_object_that_somebody_deletes_ends_it() -> None:
    with pytest.raises(RolloutFailed, match="deleted by somebody else"):
        wait([(0, deployment(0)), (2, "deleted")])


def test_it_must_stay_ready() -> None:
    done, _, seconds = wait([(0, deployment(1)), (3, deployment(0)), (5, deployment(1))], stable_for=4)
    assert done and 9 <= seconds <= 10
    with pytest.raises(RolloutFailed, match="not ready within 20 s"):
        wait([(0, deployment(2, replicas=2)), (3, deployment(1, replicas=2))], stable_for=4, seconds=20)


def test_what_was_ready_and_has_no_pod_left_is_not_waited_for() -> None:
    with pytest.raises(RolloutFailed, match="was ready, and then had no pod that is for 3 s"):
        wait([(0, deployment(1)), (3, deployment(0))], stable_for=60, seconds=600)
    assert 6 <= SECONDS[0] <= 7


def test_one_watch_for_each_kind() -> None:
    clock = Clock()
    several = [deployment(name="a"), deployment(name="b"), {**deployment(name="c"), "kind": "StatefulSet"}]
    fake = Fake(clock, [(0, one) for one in several[:2]])
    with pytest.raises(RolloutFailed):
        wait_ready(cast(Cluster, fake), several, seconds=2, clock=clock, tell=lambda _: None)
    assert fake.watched == [WatchOf("apps/v1", "Deployment", "ml"), WatchOf("apps/v1", "StatefulSet", "ml", "c")]


def balanced(address: str = "") -> Object:
    ingress = [{"ip": address}] if address else []
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ml", "uid": "s"},
            "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}}  # fmt: skip


def wait_for_both(*events: tuple[float, Object]) -> tuple[dict[str, str], float]:
    clock = Clock()
    fake = Fake(clock, events)
    both = [balanced(), deployment()]
    done = wait_ready(cast(Cluster, fake), both, seconds=300, clock=clock, tell=LOG.append)
    return done, clock.now - 100.0


def test_an_address_is_waited_for_but_not_for_ever() -> None:
    done, seconds = wait_for_both((0, deployment(1)), (0, balanced()), (30, balanced("10.0.0.1")))
    assert (done["Service web"], seconds) == ("10.0.0.1", 30)
    done, seconds = wait_for_both((0, balanced()), (40, deployment(1)))
    assert done["Service web"] == "its load balancer has no address yet" and 130 <= seconds <= 131


def test_all_waits_of_one_rollback_end_at_one_moment() -> None:
    clock = Clock()
    fake = Fake(clock, [(0, deployment(0)), (8, deployment(1)), (8, deployment(0))])
    ready = Until(cast(Cluster, fake), clock.now + 10, clock=clock, tell=lambda _: None)
    ready([deployment()])
    assert (clock.now, fake.patience) == (108.0, 15.0)
    with pytest.raises(RolloutFailed, match="not ready within 2 s"):
        ready([deployment()])
    fake = Fake(clock, [(0, deployment(1))])
    Until(cast(Cluster, fake), clock.now - 1, clock=clock, tell=lambda _: None)([deployment()])
    assert clock.now == 110.0, "what is ready is seen to be so"


def test_ready_too_late_to_stay_so() -> None:
    with pytest.raises(RolloutFailed, match="ready, but not for 10 s within 20 s"):
        wait([(15, deployment(1))], stable_for=10, seconds=20)


def test_while_things_move_pods_are_looked_at_rarely() -> None:
    looks: list[float] = []

    def pods(after: float) -> list[Object]:
        looks.append(after)
        return []

    moving = [(float(second), deployment(0)) for second in range(60)]
    wait([*moving, (60, deployment(1))], pods=pods, seconds=90)
    assert 1 <= len(looks) <= 6


def resource(generation: int = 1) -> Object:
    status = {"observedGeneration": generation, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "status": status,
            "metadata": {"name": "web", "namespace": "ml", "uid": "isvc", "generation": generation}}  # fmt: skip


def owned(available: int) -> Object:
    made = deployment(available)
    made["metadata"]["ownerReferences"] = [{"uid": "isvc", "controller": True}]
    return made


class WithOwned(Fake):
    """A cluster with one Deployment of a custom resource, as it is when somebody lists it."""

    made: Object | None = None
    may = True
    has_status = True

    def kind(self, api_version: str, kind: str) -> Kind:
        assert kind == "InferenceService"
        return Kind(api_version, kind, "inferenceservices", True, has_status=self.has_status)

    def allowed(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> bool:
        assert (group, namespace) == ("apps", "ml") and verb in ("list", "watch")
        return self.may

    def list(self, api_version: str, kind: str, namespace: str, **given: Any) -> list[Object]:
        if kind in ("Deployment", "StatefulSet"):
            assert self.may
            return [deployment(0, name="other"), self.made] if self.made and kind == "Deployment" else []
        return super().list(api_version, kind, namespace, **given)


def test_a_custom_resource_is_ready_when_its_workloads_are() -> None:
    clock = Clock()
    fake = WithOwned(clock, [(0, resource()), (3, deployment(0, name="other")), (5, owned(1))])
    fake.made = owned(0)
    told: list[str] = []
    words = wait_ready(cast(Cluster, fake), [resource()], seconds=20, clock=clock, tell=told.append)
    assert clock.now == 105.0 and words == {"InferenceService web": "ready", "Deployment web": "1 of 1 ready"}
    assert WatchOf("apps/v1", "Deployment", "ml") in fake.watched
    assert "Deployment web: 0 of 1 new pods available" in told


def test_a_custom_resource_without_workloads_is_ready_by_its_word() -> None:
    clock = Clock()
    fake = WithOwned(clock, [(0, resource())])
    assert wait_ready(cast(Cluster, fake), [resource()], seconds=20, clock=clock, tell=lambda _: None) == {
        "InferenceService web": "ready"
    }


def test_workloads_that_we_may_not_see_are_not_waited_for() -> None:
    clock = Clock()
    fake = WithOwned(clock, [(0, resource())])
    fake.may = False
    assert wait_ready(cast(Cluster, fake), [resource()], seconds=20, clock=clock, tell=lambda _: None)
    assert [of.kind for of in fake.watched] == ["InferenceService"]


@pytest.mark.parametrize(("has_status", "says_at", "ends"), [(True, 3.0, 3.0), (True, None, 5.0), (False, None, 0.0)])
def test_a_new_custom_resource_is_given_time_for_its_first_status(
    has_status: bool, says_at: float | None, ends: float
) -> None:
    clock = Clock()
    silent = {**resource(), "status": {}}
    fake = WithOwned(clock, [(0, silent), *([(says_at, resource())] if says_at else [])])
    fake.has_status = has_status
    wait_ready(cast(Cluster, fake), [silent], seconds=20, clock=clock, tell=lambda _: None)
    assert clock.now == 100.0 + ends
