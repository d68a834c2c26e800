"""action: teardown removes an app with all that is ours, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cluster.apps import config, secret, service, web
from tests.cluster.deploying import states
from tests.cluster.test_deploy import Deploy, answer, deploy, live
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

__all__ = ["deploy"]  # a fixture

KINDS = (
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("coordination.k8s.io/v1", "Lease"),
)


class TearDown:
    def __init__(self, folder: Path, kubeconfig: str, namespace: str) -> None:
        self.folder, self.kubeconfig, self.namespace = folder, kubeconfig, namespace

    def __call__(self, app: str = "web", **inputs: Any) -> Step:
        for name in ("output", "summary"):
            (self.folder / name).unlink(missing_ok=True)
        given = {"kubeconfig": self.kubeconfig, "namespace": self.namespace, "app": app, "timeout": "40s", **inputs}
        return step(self.folder, "deploy-aks", action="teardown", **given)


@pytest.fixture
def tear_down(tmp_path: Path, kubeconfig: str, namespace: str) -> TearDown:
    return TearDown(tmp_path, kubeconfig, namespace)


def ours(cluster: ApiServer, app: str = "web") -> set[str]:
    """What bears the app's mark."""
    found = [one for kind in KINDS for one in cluster.list(*kind, cluster.namespace, selector=f"ml-deploy/app={app}")]
    return {f"{one['kind']}/{one['metadata']['name']}" for one in found}


def test_an_app_goes_and_another_stays(cluster: ApiServer, busybox: str, deploy: Deploy, tear_down: TearDown) -> None:
    assert deploy(config("old", a="1"), secret("key", k="v"), web(busybox), service()).code == 0
    assert deploy(web(busybox, answer="v2"), service()).code == 0  # `old` is in an earlier release only
    assert deploy(web(busybox, "other"), service("other"), app="other").code == 0
    cluster.create(config("foreign", a="1"))

    listed = tear_down(dry_run="server")
    assert (listed.code, listed.outputs["status"]) == (0, "checked"), listed.log
    assert f"Deployment web in namespace {cluster.namespace} goes" in listed.log and answer(cluster) == "v2"

    done = tear_down()
    assert (done.code, done.outputs["status"], done.outputs.get("reason")) == (0, "torn-down", None), done.log
    order = [done.log.index(f"removing {one} in") for one in ("Service web", "Deployment web", "ConfigMap old")]
    assert order == sorted(order) < [done.log.index("records of 2 revisions")]
    assert ours(cluster) == set() and live(cluster) is None and states(cluster) == {}
    assert ours(cluster, "other") == {"Service/other", "Deployment/other", "Secret/other.r1", "Lease/ml-deploy.other"}
    assert live(cluster, "ConfigMap", "foreign") and "ConfigMap old" in done.summary

    again = tear_down()
    assert (again.code, again.outputs["status"]) == (0, "torn-down") and "was torn down at" in again.log, again.log
    assert deploy(web(busybox), service()).code == 0 and states(cluster) == {1: "deployed"}


def test_an_app_that_nobody_knows(busybox: str, deploy: Deploy, tear_down: TearDown) -> None:
    assert deploy(config("c", a="1")).code == 0
    unknown = tear_down(app="wbe")
    assert (unknown.code, unknown.outputs["reason"]) == (15, "no-release"), unknown.log
    assert unknown.outputs["status"] == "failed"
    assert "There is no app wbe" in unknown.log and "Apps there: web." in unknown.log


@pytest.mark.real_kubernetes
def test_what_holds_data_stays_and_is_told(cluster: ApiServer, deploy: Deploy, tear_down: TearDown) -> None:
    claim: Object = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                     "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}  # fmt: skip
    taken, kept = config("taken", a="1"), config("kept", a="1")
    kept["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    assert deploy(claim, taken, kept, config("mine", a="1")).code == 0
    cluster.patch(Ref("v1", "ConfigMap", cluster.namespace, "taken"), {"metadata": {"labels": {"ml-deploy/app": "x"}}})
    done = tear_down()
    assert done.code == 0, done.log
    for name, why in (("PersistentVolumeClaim data", "may hold data"), ("ConfigMap taken", "does not bear our mark"),
                      ("ConfigMap kept", "is to be kept")):  # fmt: skip
        assert f"{name} in namespace {cluster.namespace} stays: it {why}" in done.log and name in done.summary
        kind, _, what = name.partition(" ")
        assert live(cluster, kind, what)
    assert live(cluster, "ConfigMap", "mine") is None


@pytest.mark.real_kubernetes
def test_what_does_not_go_is_told_and_the_next_run_finishes(
    cluster: ApiServer, deploy: Deploy, tear_down: TearDown
) -> None:
    held = config("held", a="1")
    held["metadata"]["finalizers"] = ["example.com/wait"]
    assert deploy(held, config("free", a="1")).code == 0
    stuck = tear_down(timeout="3s")
    assert (stuck.code, stuck.outputs["reason"]) == (17, "timeout"), stuck.log
    assert "ConfigMap held" in stuck.log and "example.com/wait" in stuck.summary and states(cluster) == {1: "deployed"}
    cluster.patch(Ref("v1", "ConfigMap", cluster.namespace, "held"), {"metadata": {"finalizers": None}})
    assert tear_down().code == 0 and ours(cluster) == set()


def test_both_colours_and_a_canary_that_waits_go_too(
    cluster: ApiServer, busybox: str, deploy: Deploy, tear_down: TearDown
) -> None:
    for answer_of in ("v1", "v2"):
        done = deploy(config("settings", a=answer_of), web(busybox, answer=answer_of), service(), strategy="blue-green")
        assert done.code == 0, done.log
    assert {"Deployment/web-blue", "Deployment/web-green"} < ours(cluster)
    assert tear_down().code == 0 and ours(cluster) == set()

    assert deploy(web(busybox, replicas=2), service()).code == 0
    waits = deploy(web(busybox, answer="v2", replicas=2), service(), strategy="canary", steps="50", pause="1s")
    assert (waits.code, waits.outputs["status"]) == (0, "waiting"), waits.log
    assert "Deployment/web-canary" in ours(cluster)
    gone = tear_down()
    assert gone.code == 0 and ours(cluster) == set(), gone.log
