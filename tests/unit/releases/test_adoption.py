"""A live object as somebody might have written it."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases import adoption
from ml_deploy.releases.ownership import LAST_APPLIED


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
