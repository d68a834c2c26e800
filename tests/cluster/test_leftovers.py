"""What is in the way, and what is left behind: objects on their way out, accounts and claims made for nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.apps import config, service, web
from tests.cluster.test_deploy import Deploying, live

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

ACCOUNT: Object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "model"}}
CLAIM: Object = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cache"},
                 "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}  # fmt: skip


@pytest.fixture
def deploy(kubeconfig: str, cluster: ApiServer, tmp_path: Path) -> Deploying:
    return Deploying(tmp_path, kubeconfig, cluster)


def by_account(image: str, answer: str) -> Object:
    """The app under an account of its own."""
    app = web(image, answer=answer)
    app["spec"]["template"]["spec"]["serviceAccountName"] = "model"
    return app


@pytest.mark.real_kubernetes  # finalizers
def test_an_object_on_its_way_out_is_waited_for_until_the_deadline(cluster: ApiServer, deploy: Deploying) -> None:
    held = config("held", a="1")
    held["metadata"]["finalizers"] = ["example.com/wait"]
    cluster.create(held)
    ref = Ref("v1", "ConfigMap", cluster.namespace, "held")
    cluster.delete(ref)
    begun = time.monotonic()
    try:
        late = deploy(config("held", a="2"), timeout="8s")
        assert (late.code, late.outputs["reason"]) == (17, "timeout"), late.log
        assert time.monotonic() - begun < 20
        assert "is being deleted and waits for example.com/wait: it is made anew once it is gone" in late.log
        assert "is not gone at the deadline" in late.log and "it waits for example.com/wait" in late.summary
    finally:
        cluster.patch(ref, {"metadata": {"finalizers": None}})
    done = deploy(config("held", a="2"), timeout="20s")
    assert done.code == 0 and live(cluster, "ConfigMap", "held")["data"] == {"a": "2"}, done.log


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_an_account_that_was_made_for_nothing_goes(
    cluster: ApiServer, busybox: str, deploy: Deploying, cases: Callable[[str], str], strategy: str
) -> None:
    assert deploy(web(busybox), service(), strategy=strategy).code == 0
    bad = deploy(ACCOUNT, by_account(busybox, "bad"), service(), cases=cases("v2"), strategy=strategy,
                 on_failure="rollback")  # fmt: skip
    assert bad.code == 12 and "Revision 1 serves as before" in bad.log, bad.log
    assert f"removed ServiceAccount model in namespace {cluster.namespace}, which was made for revision 2" in bad.log
    assert live(cluster, "ServiceAccount", "model") is None
    kept = deploy(ACCOUNT, by_account(busybox, "bad"), service(), cases=cases("v2"), strategy=strategy)
    assert kept.code == 12 and "made for revision 3, stays: `on-failure: keep`" in kept.log, kept.log
    assert live(cluster, "ServiceAccount", "model")
    again = deploy(ACCOUNT, by_account(busybox, "bad"), service(), cases=cases("v2"), on_failure="rollback")
    assert again.code == 12 and live(cluster, "ServiceAccount", "model"), "this one had not made it"


@pytest.mark.real_kubernetes  # claims
def test_a_claim_that_was_made_for_nothing_stays_and_is_named(
    cluster: ApiServer, busybox: str, deploy: Deploying, cases: Callable[[str], str]
) -> None:
    assert deploy(web(busybox), service()).code == 0
    bad = deploy(CLAIM, web(busybox, answer="bad"), service(), cases=cases("v2"), on_failure="rollback")
    said = f"PersistentVolumeClaim cache in namespace {cluster.namespace}, made for revision 2, stays: it may hold data"
    assert bad.code == 12 and said in bad.log and said in bad.summary, bad.log
    assert live(cluster, "PersistentVolumeClaim", "cache")


def test_a_bare_pod_that_fails_as_soon_as_it_was_ready(cluster: ApiServer, busybox: str, deploy: Deploying) -> None:
    container = {"name": "c", "image": busybox, "command": ["/bin/sh", "-c", "/bin/busybox sleep 1; exit 3"]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    failed = deploy({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}, "spec": spec})
    assert failed.code == 11 and "Pod once: it failed" in failed.log, failed.log
