"""What is said before anything changes, in the words of a real API server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cluster.apps import config, service, web
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

pytestmark = pytest.mark.real_kubernetes


def deploy(folder: Path, kubeconfig: str, namespace: str, *objects: Object, **more: str) -> Step:
    (folder / "app.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return step(folder, "deploy-aks", kubeconfig=kubeconfig, namespace=namespace, app="web", manifests="app.json",
                timeout="40s", **more)  # fmt: skip


def test_the_servers_warnings_are_told(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    app = web(busybox)
    app["spec"]["template"]["spec"]["nodeSelector"] = {"beta.kubernetes.io/os": "linux"}
    done = deploy(tmp_path, kubeconfig, cluster.namespace, app, dry_run="server")
    assert done.code == 0 and "beta.kubernetes.io/os" in done.log and "deprecated" in done.log, done.log


def test_all_that_stands_in_the_way_is_told_at_once(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    theirs = config("theirs", a="1")
    theirs["metadata"] |= {"namespace": cluster.namespace, "annotations": {"meta.helm.sh/release-name": "shop"}}
    cluster.create(theirs)
    misspelt, wrong = web(busybox), service("other")
    misspelt["spec"]["replica"] = 2
    wrong["spec"]["ports"] = [{"port": 99999}]
    done = deploy(
        tmp_path, kubeconfig, cluster.namespace, config("theirs", a="2"), misspelt, wrong, config("fine", a="1")
    )
    assert done.code == 10, done.log
    assert "4 things stand in the way" in done.log and "Nothing was changed" in done.log
    for said in (
        "theirs",
        "belongs to Helm release shop",
        "replica: field not declared in schema",
        "spec.ports[0].port",
        "Service other (app.json:1) leads to no pod: none has app=other",
    ):
        assert said in done.log, done.log
    assert cluster.get(Ref("v1", "ConfigMap", cluster.namespace, "fine")) is None


def test_claims_of_a_stateful_set_are_known_to_its_pods(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    app = web(busybox)
    del app["spec"]["progressDeadlineSeconds"]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    app["spec"] |= {"serviceName": "web", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}
    mount = app["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    done = deploy(tmp_path, kubeconfig, cluster.namespace, {**app, "kind": "StatefulSet"}, dry_run="server")
    assert done.code == 0, done.log
    mount[0]["name"] = "date"
    done = deploy(tmp_path, kubeconfig, cluster.namespace, {**app, "kind": "StatefulSet"}, dry_run="server")
    assert done.code == 10 and "date" in done.log, done.log


def test_the_same_object_in_the_namespace_that_is_meant_and_in_one_that_is_named(
    cluster: ApiServer, kubeconfig: str, tmp_path: Path
) -> None:
    named = config("twin", a="2")
    named["metadata"]["namespace"] = cluster.namespace
    done = deploy(tmp_path, kubeconfig, cluster.namespace, config("twin", a="1"), named)
    assert done.code == 10 and "ConfigMap twin is there twice" in done.log, done.log
