"""What a runner does to a cancelled job: SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL. SIGINT has to be enough."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.deploying import deploy, good, states
from tests.cluster.proxy import Proxy
from tests.steps import MAIN, environment

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

SEQUENCE = ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5), (signal.SIGKILL, 5.0))


class Cancelled:
    """A step that is cancelled as soon as its log has some words."""

    def __init__(
        self, folder: Path, command: str, at: str, *, then: Callable[[], None] = lambda: None, **inputs: Any
    ) -> None:
        env = environment(folder, inputs)
        process = subprocess.Popen(
            [sys.executable, "-E", "-s", "-u", "-X", "utf8", str(MAIN), command],
            env=env,
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if at in line:
                break
        else:
            process.stdout.close()
            process.wait()
            pytest.fail("".join(lines))
        then()
        started = time.monotonic()
        self.sent = _end(process)
        self.seconds = time.monotonic() - started
        self.log = "".join(lines) + process.stdout.read()
        process.stdout.close()
        self.code = process.returncode


def _end(process: subprocess.Popen[str]) -> list[str]:
    sent = []
    for one, seconds in SEQUENCE:
        process.send_signal(one)
        sent.append(one.name)
        try:
            process.wait(seconds)
            break
        except subprocess.TimeoutExpired:
            continue
    return sent


def app(folder: Path, *objects: Object) -> str:
    path = folder / "app.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return str(path)


def let_go(cluster: ApiServer) -> bool:
    lease = cluster.get(Ref("coordination.k8s.io/v1", "Lease", cluster.namespace, "ml-deploy.web"))
    return bool(lease) and not (lease or {})["spec"].get("holderIdentity")


def answer(cluster: ApiServer) -> str:
    return str(json.loads(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)["prediction"])


def stopped(found: Cancelled) -> bool:
    """It ended by itself, soon, and said so."""
    return (
        found.sent == ["SIGINT"] and found.code == 130 and found.seconds < 5 and "was cancelled (SIGINT)" in found.log
    )


def test_while_the_new_version_is_asked_before_traffic(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path, cases: Callable[[str], str]
) -> None:
    good(cluster, deploy(cluster, service(), web(busybox)))
    never = web(busybox, answer="v2")
    never["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 1}}
    found = Cancelled(tmp_path, "deploy-aks", "before traffic: starting", kubeconfig=kubeconfig, namespace=cluster.namespace,
                      app="web", manifests=app(tmp_path, service(), never), cases=cases("v2"), timeout="60s")  # fmt: skip
    assert stopped(found), found.log
    assert "Revision 1 serves as before" in found.log and let_go(cluster) and answer(cluster) == "v1"
    pods = cluster.list("v1", "Pod", cluster.namespace, selector="ml-deploy/role=before-traffic")
    assert all(pod["metadata"].get("deletionTimestamp") for pod in pods)


def test_in_the_middle_of_the_rollout_nothing_is_rolled_back(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    good(cluster, deploy(cluster, service(), web(busybox)))
    found = Cancelled(tmp_path, "deploy-aks", "old pod", kubeconfig=kubeconfig, namespace=cluster.namespace, app="web",
                      manifests=app(tmp_path, service(), web(busybox, crash=True)), timeout="60s")  # fmt: skip
    assert stopped(found) and "rolling back" not in found.log, found.log
    assert "serve until new ones are ready" in found.log and let_go(cluster) and answer(cluster) == "v1"
    assert states(cluster)[2] == "deploying", "the next run says that it was interrupted"


def test_in_the_middle_of_the_way_back(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    slow = web(busybox)
    slow["spec"] |= {"minReadySeconds": 6, "strategy": {"type": "Recreate"}}
    good(cluster, deploy(cluster, service(), slow))
    bad = web(busybox, pull=busybox.replace("busybox:1", "none:1"))
    bad["spec"]["strategy"] = {"type": "Recreate"}
    found = Cancelled(tmp_path, "deploy-aks", "rolling back to revision 1", kubeconfig=kubeconfig, app="web",
                      namespace=cluster.namespace, manifests=app(tmp_path, service(), bad), timeout="60s")  # fmt: skip
    assert stopped(found), found.log
    assert let_go(cluster) and "serves again" not in found.log


def test_a_cluster_that_is_silent_then_holds_nobody_up(
    cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path, cases: Callable[[str], str]
) -> None:
    never = web(busybox)
    never["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 1}}

    def silence() -> None:
        time.sleep(1)
        proxy.ask("POST", {"fault": "refuse", "times": 0})

    found = Cancelled(tmp_path, "deploy-aks", "before traffic: starting", then=silence, kubeconfig=proxy.kubeconfig, app="web",
                      namespace=cluster.namespace, manifests=app(tmp_path, service(), never), cases=cases("v1"),
                      timeout="300s")  # fmt: skip
    assert proxy.hits() > 1, "it was silent"
    assert found.sent == ["SIGINT"] and found.code == 130, f"{found.sent} after {found.seconds:.1f} s\n{found.log}"
