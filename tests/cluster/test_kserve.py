"""An InferenceService of KServe, where its controller runs: deployed, waited for, its image put in, rolled back."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.apps import web
from tests.cluster.test_sources import Deploy, deploy

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

__all__ = ["deploy"]  # a fixture

API = "serving.kserve.io/v1beta1"
pytestmark = pytest.mark.real_kubernetes


@pytest.fixture(autouse=True)
def kserve(api: ApiServer) -> None:
    if not api.kind(API, "InferenceService"):
        pytest.skip("needs the controller of KServe in the cluster")


def model(image: str, answer: str, *, crash: bool = False) -> Object:
    container: dict[str, Any] = web(image, answer=answer, crash=crash)["spec"]["template"]["spec"]["containers"][0]
    container["name"] = "kserve-container"
    container["ports"] = [{"containerPort": 8080, "protocol": "TCP"}]
    predictor = {"containers": [container], "minReplicas": 1, "maxReplicas": 1, "terminationGracePeriodSeconds": 1}
    notes = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return {"apiVersion": API, "kind": "InferenceService", "metadata": {"name": "web", "annotations": notes},
            "spec": {"predictor": predictor}}  # fmt: skip


def answer(cluster: ApiServer) -> str:
    return cluster.ask(cluster.namespace, "services/web-predictor:80", "GET", "/cgi-bin/predict").body.decode()


def test_an_inference_service(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    first = deploy(model("kserve.example.com/" + busybox.partition("/")[2], "v1"), image=busybox, stable_for="1s")
    assert first.code == 0 and "| InferenceService | web | ready |" in first.summary, first.log
    assert f"container kserve-container gets {busybox}" in first.log and "Deployment web-predictor: " in first.log
    live = cluster.get(Ref(API, "InferenceService", cluster.namespace, "web"))
    assert live and live["spec"]["predictor"]["containers"][0]["image"] == busybox
    assert "v1" in answer(cluster)

    second = deploy(model(busybox, "v2"), image=busybox)  # its Ready stays true meanwhile
    assert second.code == 0 and "v2" in answer(cluster), second.log
    back = deploy.back()
    assert back.code == 0 and "v1" in answer(cluster), back.log


def test_one_that_crashes_is_explained_and_rolled_back(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    assert deploy(model(busybox, "v1"), stable_for="1s").code == 0
    bad = deploy(model(busybox, "v2", crash=True), on_failure="rollback", timeout="20s")
    assert (bad.code, bad.outputs["reason"], bad.outputs["rolled-back"]) == (11, "rollout", "true"), bad.log
    assert "Deployment web-predictor" in bad.log and "ValueError: no such model" in bad.log, bad.log
    assert "v1" in answer(cluster)
