"""A blue-green deployment that is killed at any write: something serves, and the next run converges."""

from __future__ import annotations

import pytest
from tests.cluster.apps import config, service, web
from tests.cluster.releasing import names, release, serves
from tests.cluster.test_killed import dying

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

_WRITES = range(1, 25)
_CHANGES = {  # from one strategy to the next, and a few writes: the new pods are made; of two Services one is switched
    ("blue-green", "blue-green"): (6, 8),
    ("rolling", "blue-green"): (8,),
    ("blue-green", "rolling"): (11,),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of the writes; `--every-write` takes them all."""
    every = metafunc.config.getoption("--every-write")
    if "change" in metafunc.fixturenames:
        some = [(change, at) for change, few in _CHANGES.items() for at in (_WRITES if every else few)]
        metafunc.parametrize(("change", "at"), some)
    elif "at" in metafunc.fixturenames:
        metafunc.parametrize("at", _WRITES if every else (6,))


def objects(image: str, version: str) -> list[Object]:
    """An app with two Services, a config map, a budget and an autoscaler."""
    peers = service("peers")
    peers["spec"]["selector"] = {"app": "web"}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
              "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
              "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3}}  # fmt: skip
    app = web(image, answer=version)
    app["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    return [config("settings", mode=version), service(), peers, app, budget, scaler]


def converged(cluster: ApiServer, version: str) -> None:
    """Everything leads to one set of pods, which is this version; at most the way back stands beside it."""
    assert serves(cluster) == serves(cluster, "peers") == version
    services = cluster.list("v1", "Service", cluster.namespace)
    (leads,) = {one["spec"]["selector"]["app"] for one in services}
    scaler = cluster.get(Ref("autoscaling/v2", "HorizontalPodAutoscaler", cluster.namespace, "web"))
    assert scaler and scaler["spec"]["scaleTargetRef"]["name"] == leads
    there = names(cluster)
    assert leads in there and set(there) <= {"web", "web-blue", "web-green"}
    assert len(there) <= 2 - (leads == "web")
    settings = cluster.get(Ref("v1", "ConfigMap", cluster.namespace, leads.replace("web", "settings")))
    assert settings and settings["data"] == {"mode": version}


@pytest.mark.real_kubernetes
def test_a_killed_deployment(
    cluster: ApiServer, kubeconfig: str, busybox: str, change: tuple[str, str], at: int
) -> None:  # fmt: skip
    before, after = change
    release(cluster, *objects(busybox, "v1"), answer="v1", strategy=before)
    code = dying(kubeconfig, cluster.namespace, after, "after", at, objects(busybox, "v2"))
    assert {serves(cluster), serves(cluster, "peers")} <= {"v1", "v2"}
    if code == 0 and at <= max(_CHANGES[change]):
        pytest.fail("it was to be killed")
    release(cluster, *objects(busybox, "v3"), answer="v3", strategy=after)
    converged(cluster, "v3")


@pytest.mark.real_kubernetes
def test_a_killed_way_back(cluster: ApiServer, kubeconfig: str, busybox: str, at: int) -> None:
    release(cluster, *objects(busybox, "v1"), answer="v1")
    release(cluster, *objects(busybox, "v2"), answer="v2")
    code = dying(kubeconfig, cluster.namespace, "rollback", "after", at)
    assert {serves(cluster), serves(cluster, "peers")} <= {"v1", "v2"}
    if code:
        dying(kubeconfig, cluster.namespace, "rollback", "after", 1000)
    converged(cluster, "v1")
    release(cluster, *objects(busybox, "v3"), answer="v3")
    converged(cluster, "v3")
