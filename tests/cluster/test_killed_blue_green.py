"""A blue-green deployment that is killed at any write: something serves, and the next run converges."""

from __future__ import annotations

import pytest
from tests.cluster.apps import config, service, web
from tests.cluster.releasing import names, release, serves
from tests.cluster.test_killed import dying

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

_WRITES = range(1, 25)
_FEW = (6, 11, 12)  # the new Deployment is made; of two Services one is switched; both are


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of the writes; `--every-write` takes them all."""
    if "at" in metafunc.fixturenames:
        metafunc.parametrize("at", _WRITES if metafunc.config.getoption("--every-write") else _FEW)


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
    """Everything leads to one colour, and that colour is this version."""
    assert serves(cluster) == serves(cluster, "peers") == version
    services = cluster.list("v1", "Service", cluster.namespace)
    (leads,) = {one["spec"]["selector"]["app"] for one in services}
    scaler = cluster.get(Ref("autoscaling/v2", "HorizontalPodAutoscaler", cluster.namespace, "web"))
    assert scaler and scaler["spec"]["scaleTargetRef"]["name"] == leads
    assert leads in names(cluster) and set(names(cluster)) <= {"web-blue", "web-green"}
    settings = cluster.get(Ref("v1", "ConfigMap", cluster.namespace, leads.replace("web", "settings")))
    assert settings and settings["data"] == {"mode": version}


@pytest.mark.real_kubernetes
def test_a_killed_deployment(cluster: ApiServer, kubeconfig: str, busybox: str, at: int) -> None:
    release(cluster, *objects(busybox, "v1"), answer="v1")
    code = dying(kubeconfig, cluster.namespace, "blue-green", "after", at, objects(busybox, "v2"))
    assert {serves(cluster), serves(cluster, "peers")} <= {"v1", "v2"}
    if code == 0 and at <= max(_FEW):
        pytest.fail("it was to be killed")
    release(cluster, *objects(busybox, "v3"), answer="v3")
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
