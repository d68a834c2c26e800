"""Users notice nothing: requests at a steady rate through good and bad deployments, and not one of them fails."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.canaries import clients
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object

RATE = 100


def serving(image: str, **how: Any) -> Object:
    """An app whose pods go only after load balancers have noticed."""
    obj = web(image, replicas=2, **how)
    spec = obj["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 10
    spec["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": 3}}}
    obj["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return obj


def deploy(folder: Path, kubeconfig: str, namespace: str, *objects: Object, **inputs: str) -> Step:
    for name in ("output", "summary"):
        (folder / name).unlink(missing_ok=True)
    (folder / "app.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    how = {"kubeconfig": kubeconfig, "namespace": namespace, "app": "web", "manifests": "app.json", "timeout": "50s",
           "on_failure": "keep"}  # fmt: skip
    return step(folder, "deploy-aks", **{**how, **inputs})


def test_no_request_fails(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    public = service()
    public["spec"]["type"] = "LoadBalancer"
    first = deploy(tmp_path, kubeconfig, cluster.namespace, serving(busybox), public, stable_for="2s")
    assert first.code == 0, first.log
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps({"path": PREDICT, "method": "GET", "expect": {"prediction": "v1"}}) + "\n")
    url = first.outputs["endpoint"] + PREDICT
    if ".svc." in url:
        pytest.skip("this cluster gives no address to a LoadBalancer")

    with clients(url, RATE) as users:
        steps = [
            deploy(tmp_path, kubeconfig, cluster.namespace, serving(busybox, answer="bad"), public, cases=str(cases)),
            deploy(tmp_path, kubeconfig, cluster.namespace, serving(busybox, crash=True), public,
                   on_failure="rollback", timeout="6s"),
            deploy(tmp_path, kubeconfig, cluster.namespace, serving(busybox, answer="v2"), public),
        ]  # fmt: skip
        time.sleep(4)  # the last old pods go
    assert [one.code for one in steps] == [12, 11, 0], "\n".join(one.log for one in steps)
    assert set(users.total) == {"v1", "v2"}, users.failures()
    assert sum(users.total.values()) > RATE * 5
