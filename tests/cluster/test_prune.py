"""prune: what the release before had goes, once the new one is ready, and comes back with a rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster.apps import config, secret, service, web
from tests.cluster.test_deploy import Deploy, answer, deploy, live
from tests.steps import step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Ref

__all__ = ["deploy"]  # a fixture


def names(cluster: ApiServer, kind: str = "ConfigMap") -> set[str]:
    found = cluster.list("v1", kind, cluster.namespace, selector="ml-deploy/app=web,!ml-deploy/record")
    return {one["metadata"]["name"] for one in found}


def test_only_the_previous_releases_objects_go_and_they_come_back(
    cluster: ApiServer, kubeconfig: str, busybox: str, deploy: Deploy, tmp_path: Path
) -> None:
    foreign: dict[str, Any] = config("foreign", a="1")
    foreign["metadata"]["labels"] = {"ml-deploy/app": "web"}  # somebody copied our mark
    cluster.create(foreign)
    first = deploy(
        config("a", x="1"), config("b", x="1"), secret("s", k="hush"), web(busybox), service(), stable_for="1s"
    )
    assert first.code == 0, first.log
    cluster.delete(Ref("v1", "ConfigMap", cluster.namespace, "b"))
    cluster.create({**config("b", made="anew"), "metadata": {"name": "b", "labels": {"ml-deploy/app": "web"}}})

    checked = deploy(web(busybox, answer="v2"), service(), prune="true", dry_run="server")
    assert checked.code == 0 and "-kind: ConfigMap" in checked.outputs["diff"], checked.log
    assert "+++ /dev/null" in checked.outputs["diff"] and "aHVzaA" not in checked.outputs["diff"] + checked.log
    assert names(cluster) == {"a", "b", "foreign"}

    done = deploy(web(busybox, answer="v2"), service(), prune="true", stable_for="1s")
    assert done.code == 0, done.log
    assert f"prune: ConfigMap a in namespace {cluster.namespace} goes" in done.log
    assert "ConfigMap b" in done.log and "made anew by somebody else" in done.log
    assert names(cluster) == {"b", "foreign"} and names(cluster, "Secret") == set()
    assert "removed ConfigMap a" in done.summary and len(done.report["pruned"]) == 2

    back = step(tmp_path, "rollback", app="web", kubeconfig=kubeconfig, namespace=cluster.namespace)
    assert back.code == 0 and answer(cluster) == "v1", back.log
    assert names(cluster) == {"a", "b", "foreign"} and names(cluster, "Secret") == {"s"}


def test_a_release_that_fails_prunes_nothing(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    assert deploy(config("a", x="1"), web(busybox), service()).code == 0
    failed = deploy(web(busybox, crash=True), service(), prune="true", timeout="6s")
    assert failed.code == 11 and names(cluster) == {"a"}, failed.log
    mended = deploy(web(busybox, answer="v2"), service(), prune="true")
    assert mended.code == 0 and names(cluster) == set(), mended.log


def test_without_prune_everything_stays(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    assert deploy(config("a", x="1"), web(busybox), service()).code == 0
    assert deploy(web(busybox), service()).code == 0
    assert live(cluster, "ConfigMap", "a")


def test_two_apps_do_not_share_objects(busybox: str, deploy: Deploy) -> None:
    assert deploy(config("shared", x="1"), web(busybox), service()).code == 0
    other = deploy(config("shared", x="1"), app="other")
    assert (other.code, other.outputs["reason"]) == (16, "conflict")
    assert "ConfigMap shared" in other.log and "belongs to ml-deploy app web" in other.log, other.log
