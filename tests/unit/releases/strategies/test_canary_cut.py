"""When a canary is taken out of its Service by one patch, and when that would take users away from pods that serve."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.releases.cluster import Cluster, Object, Ref
from ml_deploy.releases.strategies import canary_cut

SERVICE: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ml"},
                   "spec": {"selector": {"app": "web"}}}  # fmt: skip
CANARY: Object = {"spec": {"template": {"metadata": {"labels": {"app": "web", "ml-deploy/track": "canary"}}}}}


def stable(generation: int = 2, **status: int) -> Object:
    meta = {"name": "web", "namespace": "ml", "uid": "u1", "generation": generation,
            "annotations": {"deployment.kubernetes.io/revision": "2"}}  # fmt: skip
    whole = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
    return {"metadata": meta, "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": {**whole, **status}}


class FakeCluster:
    """A Service and the stable version's replica set; patches are kept."""

    namespace = "ml"

    def __init__(self) -> None:
        self.patches: list[Any] = []

    def list(self, api_version: str, kind: str, namespace: str, *, selector: str) -> list[Object]:
        owner = {"controller": True, "uid": "u1"}
        meta = {"labels": {"pod-template-hash": "abc"}, "annotations": {"deployment.kubernetes.io/revision": "2"},
                "ownerReferences": [owner]}  # fmt: skip
        return {"Service": [SERVICE], "ReplicaSet": [{"metadata": meta}]}[kind]

    def patch(self, ref: Ref, patch: Any) -> None:
        self.patches.append(patch["spec"]["selector"])


def closed(deployment: Object) -> list[Any]:
    cluster = FakeCluster()
    canary_cut.close(cast(Cluster, cluster), "wine", deployment, CANARY, tell=lambda _: None)
    return cluster.patches


def test_the_service_asks_for_the_stable_pods_alone() -> None:
    assert closed(stable()) == [{"pod-template-hash": "abc"}]
    assert closed(stable(readyReplicas=1)) == [{"pod-template-hash": "abc"}]


@pytest.mark.parametrize(
    "half_rolled",
    [stable(generation=3), stable(updatedReplicas=1), stable(replicas=3), stable(readyReplicas=0)],
)  # fmt: skip
def test_a_killed_promotion_left_two_templates_that_serve(half_rolled: Object) -> None:
    assert closed(half_rolled) == []
