"""A live object as somebody might have written it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.releases import adoption
from ml_deploy.releases.cluster import Cluster, Object, Ref
from ml_deploy.releases.history import Release
from ml_deploy.releases.ownership import LAST_APPLIED
from ml_deploy.releases.records import Records


def test_what_the_server_keeps_for_itself_is_left_out() -> None:
    live: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "uid": "u", "resourceVersion": "1", "creationTimestamp": "t", "managedFields": [{}],
                     "labels": {"a": "b"}, "annotations": {LAST_APPLIED: "{}"}},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "type": "ClusterIP", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {}},
    }  # fmt: skip
    assert adoption.as_written(live) == {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"a": "b"}},
        "spec": {"type": "ClusterIP", "ports": [{"port": 80}]},
    }  # fmt: skip
    assert "status" in live, "the live object itself is untouched"


def test_a_headless_service_stays_headless() -> None:
    live = {"kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}
    assert adoption.as_written(live)["spec"] == {"clusterIP": "None"}


@pytest.mark.parametrize(
    ("kind", "status", "serves"),
    [("Deployment", {"readyReplicas": 1}, True), ("Deployment", {}, False), ("DaemonSet", {"numberReady": 2}, True),
     ("DaemonSet", {"readyReplicas": 2}, False)],
)  # fmt: skip
def test_it_served_when_a_pod_was_ready(kind: str, status: dict[str, int], serves: bool) -> None:
    assert adoption.serves({"kind": kind, "status": status}) is serves


class One:
    """A cluster in which all that is asked for by name is there, and nothing is listed."""

    namespace = "ml"

    def __init__(self, *objects: Object) -> None:
        self.objects = {one["metadata"]["name"]: one for one in objects}

    def get(self, ref: Ref) -> Object | None:
        return self.objects.get(ref.name)


class Kept:
    """Records without a history, which tell how what was met had served."""

    def all(self) -> list[Release]:
        return []

    def adopt(self, objects: list[Object], *, uids: object, images: object, served: bool | None) -> Any:
        return served


def met(name: str, ready: int, replicas: int = 1) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "uid": name},
            "spec": {"replicas": replicas, "template": {"spec": {}}}, "status": {"readyReplicas": ready}}  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "served"),
    [
        ((met("a", 1), met("b", 2)), True),
        ((met("a", 1), met("b", 0)), None),
        ((met("a", 0), met("b", 0)), False),
        ((met("a", 1), met("idle", 0, replicas=0)), True),
        ((met("idle", 0, replicas=0),), True),
    ],
)
def test_an_app_of_which_a_part_served_is_worth_going_back_to(objects: tuple[Object, ...], served: bool | None) -> None:
    found = adoption.first_meeting(cast(Cluster, One(*objects)), cast(Records, Kept()), objects)
    assert cast(object, found) is served
