"""Services that lead elsewhere: when that is so, in which order things are done, and how many pods are handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from ml_deploy.releases import switching
from ml_deploy.releases.cluster import Applied, Cluster, Object, Ref
from ml_deploy.releases.switching import Switch


def workload(name: str, *, labels: str = "", replicas: int | None = 2, ready: bool = True) -> Object:
    spec: Object = {"template": {"metadata": {"labels": {"app": labels or name}}, "spec": {"containers": []}}}
    if replicas is not None:
        spec["replicas"] = replicas
    count = replicas or 0
    status = {"observedGeneration": 1, "replicas": count, "updatedReplicas": count, "availableReplicas": count * ready}
    meta = {"name": name, "namespace": "ml", "generation": 1}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec, "status": status}


def service(app: str, name: str = "web") -> Object:
    meta = {"name": name, "namespace": "ml"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"app": app}}}


def scaler(target: str) -> Object:
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": target}}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec,
            "metadata": {"name": "web", "namespace": "ml"}}  # fmt: skip


class FakeCluster:
    """What is live, by kind and name; patches are noted."""

    namespace = "ml"

    def __init__(self, *live: Object) -> None:
        self.live = {(one["kind"], one["metadata"]["name"]): one for one in live}
        self.patched: list[tuple[str, Any]] = []

    def get(self, ref: Ref) -> Object | None:
        return self.live.get((ref.kind, ref.name))

    def list(self, api_version: str, kind: str, namespace: str) -> list[Object]:
        assert (api_version, kind, namespace) == ("apps/v1", "Deployment", "ml")
        return [one for (known, _), one in self.live.items() if known == kind]

    def patch(self, ref: Ref, patch: Any) -> Applied:
        self.patched.append((ref.name, patch))
        return Applied({})


def needed(live: FakeCluster, *objects: Object) -> Switch | None:
    return switching.needed(cast(Cluster, live), objects)


def test_nothing_to_switch() -> None:
    release = [service("web"), workload("web")]
    assert needed(FakeCluster(), *release) is None, "a new Service"
    assert needed(FakeCluster(service("web"), workload("web")), *release) is None, "the same selector"
    same = workload("web", labels="other")
    assert needed(FakeCluster(service("other"), same), *release) is None, "other labels of the same workload"
    assert needed(FakeCluster(service("old"), workload("old")), service("web")) is None, "no workload of its own"


@pytest.mark.parametrize("live", [[service("web-blue"), workload("web-blue", replicas=5)], [service("nobody")]])
def test_a_service_that_leads_elsewhere(live: list[Object]) -> None:
    found = needed(FakeCluster(*live), service("web"), workload("web"))
    assert found and [one["metadata"]["name"] for one in found.targets] == ["web"]
    assert found.replicas == (5 if len(live) > 1 else 0)


def test_workloads_are_ready_before_users_and_autoscalers_follow() -> None:
    live = FakeCluster(service("web-blue"), workload("web-blue", replicas=5), scaler("web-blue"))
    release = [service("web"), workload("web", replicas=None), scaler("web")]
    switch = needed(live, *release)
    assert switch
    done: list[str] = []

    def put(objects: Sequence[Object]) -> list[Object]:
        done.extend(f"{o['kind']} {o['spec'].get('replicas', '')}".strip() for o in objects)
        return list(objects)

    def ready(objects: Sequence[Object]) -> None:
        done.append(f"{len(objects)} ready")

    switching.carried_out(switch, cast(Cluster, live), release, put=put, ready=ready)
    assert done == ["Deployment 5", "1 ready", "Service", "HorizontalPodAutoscaler"]


@pytest.mark.parametrize("said, ruled, gets", [(2, True, 5), (9, True, 9), (2, False, 2), (None, False, 5)])
def test_the_number_of_pods(said: int | None, ruled: bool, gets: int) -> None:
    """An autoscaler's number is handed over; without one the manifest has the say."""
    target = workload("web", replicas=said)
    switch = Switch([service("web")], [scaler("web")] if ruled else [], [target], 5)
    assert switching.with_replicas(switch, target)["spec"]["replicas"] == gets


def test_an_idle_target_under_an_autoscaler_gets_as_many_pods() -> None:
    switch = Switch([service("web")], [scaler("web")], [workload("web")], 5)
    live = FakeCluster(workload("web", replicas=2))
    switching.raise_replicas(switch, cast(Cluster, live))
    assert live.patched == [("web", {"spec": {"replicas": 5}})]
    enough = FakeCluster(workload("web", replicas=6))
    switching.raise_replicas(switch, cast(Cluster, enough))
    assert enough.patched == []


@pytest.mark.parametrize(
    "live, unchanged, stands",
    [([workload("web")], True, True), ([workload("web")], False, False), ([], True, False),
     ([workload("web", ready=False)], True, False), ([workload("web", replicas=0)], True, False)],
)  # fmt: skip
def test_users_are_sent_at_once_only_to_what_stands_ready(live: list[Object], unchanged: bool, stands: bool) -> None:
    switch = Switch([service("web")], [], [workload("web")], 2)
    found = switching.standing(switch, cast(Cluster, FakeCluster(*live)), lambda _obj, _live: unchanged)
    assert found is stands


def test_what_leaves_is_not_stood_upon() -> None:
    leaving = workload("web")
    leaving["metadata"]["deletionTimestamp"] = "now"
    switch = Switch([service("web")], [], [workload("web")], 2)
    assert not switching.standing(switch, cast(Cluster, FakeCluster(leaving)), lambda _obj, _live: True)
