"""Which pods are those of the newest version."""

from __future__ import annotations

from typing import Any, cast

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
