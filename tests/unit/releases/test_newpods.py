"""Which pods are those of the newest version."""

from __future__ import annotations

from typing import Any, cast

from tests.clock import FakeClock

from ml_deploy.releases import newpods
from ml_deploy.releases.cluster import Cluster, Object


def pod(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": [{"uid": "w", "controller": True}]}}


class Pods:
    """A cluster that lists some pods and nothing else."""

    def __init__(self, *pods: Object) -> None:
        self.pods = pods

    def list(self, api_version: str, kind: str, namespace: str, **_: Any) -> list[Object]:
        assert (api_version, kind, namespace) == ("v1", "Pod", "ml")
        return list(self.pods)


def names(workload: Object, *pods: Object) -> list[str]:
    return [one["metadata"]["name"] for one in newpods.of(cast(Cluster, Pods(*pods)), workload)]


def workload(kind: str, status: Object, **annotations: str) -> Object:
    return {"kind": kind, "spec": {"selector": {"matchLabels": {"app": "w"}}}, "status": status,
            "metadata": {"name": "w", "namespace": "ml", "uid": "w", "generation": 7, "annotations": annotations}}  # fmt: skip


def test_those_of_a_daemon_set_go_by_its_template() -> None:
    given = workload("DaemonSet", {}, **{"deprecated.daemonset.template.generation": "3"})
    old, new = pod("old", **{"pod-template-generation": "2"}), pod("new", **{"pod-template-generation": "3"})
    assert names(given, old, new) == ["new"]
    assert names(given, old) == [], "the trouble of the version before is not that of the new one"


def test_those_of_a_stateful_set_go_by_its_revision() -> None:
    given = workload("StatefulSet", {"updateRevision": "w-2"})
    assert names(given, *(pod(one, **{"controller-revision-hash": one}) for one in ("w-1", "w-2"))) == ["w-2"]


class Flapping(Pods):
    """Its one pod is ready from some look on."""

    def __init__(self, ready_from: int) -> None:
        super().__init__()
        self.looks, self.ready_from = 0, ready_from

    def get(self, _: Any) -> Object:
        return workload("StatefulSet", {"updateRevision": "w-1"})

    def list(self, api_version: str, kind: str, namespace: str, **_: Any) -> list[Object]:
        self.looks += 1
        status = {"conditions": [{"type": "Ready", "status": str(self.looks >= self.ready_from)}]}
        return [{**pod("w-0", **{"controller-revision-hash": "w-1"}), "status": status}]


def test_a_pod_that_is_not_ready_for_a_moment_is_waited_for() -> None:
    flapping, clock = Flapping(3), FakeClock()
    found = newpods.ready(cast(Cluster, flapping), flapping.get(None), clock=clock, seconds=5)
    assert [one["metadata"]["name"] for one in found] == ["w-0"] and flapping.looks == 3


def test_a_pod_that_does_not_get_ready_again_is_not_waited_for_in_vain() -> None:
    clock, started = FakeClock(), FakeClock().monotonic()
    gone = Flapping(1000)
    assert newpods.ready(cast(Cluster, gone), gone.get(None), clock=clock, seconds=5) == []
    assert 5 <= clock.monotonic() - started < 6
