"""smoke-test of a Service inside the cluster, through the API server, and its verdict in the release's record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.deploying import deploy, states
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Ref
from ml_deploy.releases.records import Records

Smoke = Callable[..., Step]


@pytest.fixture
def smoke(kubeconfig: str, namespace: str, tmp_path: Path) -> Smoke:
    """The command against the Service `web`, with further inputs as keyword arguments."""

    def run(answer: str = "v1", **inputs: Any) -> Step:
        case = {"name": "one", "path": PREDICT, "method": "GET", "expect": {"prediction": answer}}
        (tmp_path / "cases.jsonl").write_text(json.dumps(case) + "\n")
        how = {"kubeconfig": kubeconfig, "namespace": namespace, "cases": "cases.jsonl", "ready_timeout": "30s"}
        if "url" not in inputs:
            how |= {"service": "web", "port": "80"}
        (tmp_path / "output").unlink(missing_ok=True)
        return step(tmp_path, "smoke-test", **{**how, **inputs})

    return run


def test_right_and_wrong_predictions_and_their_verdicts(cluster: ApiServer, smoke: Smoke, busybox: str) -> None:
    release = deploy(cluster, web(busybox), service())
    right = smoke(app="web", revision=release.revision)
    assert right.code == 0, right.log
    assert "through the API server" in right.log
    assert (right.outputs["passed"], right.outputs["p95"]) == ("1", "")
    assert states(cluster) == {1: "good"}
    wrong = smoke("v2", app="web", revision=release.revision)
    assert (wrong.code, wrong.outputs["reason"], wrong.outputs["failed"]) == (12, "wrong-answers", "1")
    assert '$.prediction: expected "v2", got "v1"' in wrong.log
    assert "Recorded: revision 1 of web is failed." in wrong.log
    assert states(cluster) == {1: "failed"}
    masked = smoke("v2", app="web", revision=release.revision, headers='X-Key: expected "v2"')
    assert masked.code == 12
    (verdict, *_) = reversed(Records(cluster, cluster.namespace, "web", clock=time).all()[0].verdicts)
    assert 'expected "v2"' not in verdict.text, "other jobs that read the record mask nothing of this one"


def test_the_inside_address_that_deploy_aks_gives_needs_no_service(
    cluster: ApiServer, smoke: Smoke, busybox: str, namespace: str
) -> None:
    deploy(cluster, web(busybox), service())
    url = f"http://web.{namespace}.svc:80"
    assert smoke(url=url).code == 0
    loaded = smoke(url=url, max_p95="1s", ready_timeout="1s")
    assert (loaded.code, loaded.outputs["reason"]) == (14, "endpoint")
    assert "This name exists only inside the cluster" in loaded.log


def test_a_pass_without_predictions_makes_nothing_good(cluster: ApiServer, smoke: Smoke, busybox: str) -> None:
    release = deploy(cluster, web(busybox), service())
    done = smoke(cases="", url_path=PREDICT, app="web", revision=release.revision)
    assert done.code == 0, done.log
    assert "Revision 1 is not recorded as good" in done.log
    assert states(cluster) == {1: "deployed"}


def test_nothing_ready_behind_the_service(cluster: ApiServer, smoke: Smoke) -> None:
    cluster.create({**service(), "metadata": {"name": "web", "namespace": cluster.namespace}})
    done = smoke(ready_timeout="2s")
    assert (done.code, done.outputs["reason"]) == (14, "endpoint")
    assert 'does not answer: no endpoints available for service "web"' in done.log
    assert "No pod behind it is ready" in done.log


def test_what_is_not_there_is_named(cluster: ApiServer, smoke: Smoke, namespace: str) -> None:
    missing = smoke()
    assert (missing.code, missing.outputs["reason"]) == (2, "input")
    assert f"There is no Service web in namespace {namespace}." in missing.log
    cluster.create({**service(), "metadata": {"name": "web", "namespace": cluster.namespace}})
    assert f"Service web in namespace {namespace} has no port 8080 (it has: 80)." in smoke(port="8080").log
    unknown = smoke(app="web", revision=7)
    assert (unknown.code, unknown.outputs["reason"]) == (15, "no-release")
    assert "There is no record of revision 7 of web" in unknown.log
    assert cluster.get(Ref("v1", "Service", namespace, "web")) is not None
