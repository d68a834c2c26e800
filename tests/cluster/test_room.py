"""Room on nodes and in quotas is looked at before anything changes: a warning, or an error where it can never fit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.apps import service, web
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.history import ref_of

pytestmark = pytest.mark.real_kubernetes


def asking(obj: Object, **requests: str) -> Object:
    obj["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": requests}
    return obj


def test_a_pod_that_no_node_could_take(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    done = check(tmp_path, kubeconfig, cluster.namespace, asking(web(busybox), cpu="900"))
    assert done.code == 0, done.log
    assert "no node could take one of its pods (900 CPU) if it were empty" in done.log
    assert "room on the nodes" in done.log


def test_a_gpu_where_there_is_none(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    app = web(busybox)
    app["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    done = check(tmp_path, kubeconfig, cluster.namespace, app)
    assert done.code == 0 and "no nvidia.com/gpu" in done.log, done.log


def test_what_fits_is_not_talked_about(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    done = check(tmp_path, kubeconfig, cluster.namespace, asking(web(busybox), cpu="1m"), service())
    assert done.code == 0 and "room" not in done.log and "quota" not in done.log.lower(), done.log


def test_a_quota_that_can_never_allow_it_is_an_error(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    limit(cluster, pods="2")
    done = check(tmp_path, kubeconfig, cluster.namespace, web(busybox, replicas=3), service())
    assert done.code == 10 and done.outputs["reason"] == "manifest", done.log
    assert "ResourceQuota few allows 2 pods in all, and the 3 pods of Deployment web need 3 pods" in done.log
    assert cluster.get(Ref("v1", "Service", cluster.namespace, "web")) is None


def test_defaults_of_a_limit_range_count(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    rule = {"type": "Container", "defaultRequest": {"cpu": "300m"}}
    cluster.create({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "d"}, "spec": {"limits": [rule]}})
    limit(cluster, **{"requests.cpu": "500m"})
    done = check(tmp_path, kubeconfig, cluster.namespace, web(busybox, replicas=2))
    assert done.code == 10, done.log
    assert "allows 0.5 requests.cpu in all, and the 2 pods of Deployment web need 0.6 requests.cpu" in done.log


def test_a_surge_beyond_the_quota_is_a_warning(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    limit(cluster, pods="1")
    first = deploy(tmp_path, kubeconfig, cluster.namespace, web(busybox))
    assert first.code == 0, first.log
    done = check(tmp_path, kubeconfig, cluster.namespace, web(busybox, answer="v2"))
    assert done.code == 0, done.log
    assert (
        "ResourceQuota few allows 1 pods, 1 pods are used, and one new pod of Deployment web beside the old ones"
        in done.log
    )


def limit(cluster: ApiServer, **hard: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}}
    cluster.create(quota)
    until = time.monotonic() + 10
    while not (cluster.get(ref_of(quota, cluster.namespace)) or {}).get("status") and time.monotonic() < until:
        time.sleep(0.05)  # a quota that its controller has not seen yet allows everything


def check(folder: Path, kubeconfig: str, namespace: str, *objects: Object) -> Step:
    return deploy(folder, kubeconfig, namespace, *objects, dry_run="server")


def deploy(folder: Path, kubeconfig: str, namespace: str, *objects: Object, **more: Any) -> Step:
    for name in ("output", "summary"):
        (folder / name).unlink(missing_ok=True)
    (folder / "app.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return step(folder, "deploy-aks", kubeconfig=kubeconfig, namespace=namespace, app="web", manifests="app.json",
                timeout="40s", **more)  # fmt: skip
