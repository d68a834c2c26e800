"""deploy-aks through a proxy that breaks every few requests: it converges, or stops with a clear word."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.deploying import states
from tests.steps import step

from ml_deploy.adapters.cluster import ApiServer

FAULTS = Path(__file__).resolve().parents[2] / "scripts/local/faults.py"
EVERY = 4


@dataclass
class Proxy:
    """A fault proxy before the cluster."""

    kubeconfig: str
    control: str

    def ask(self, method: str, content: Any = None) -> Any:
        data = json.dumps(content).encode() if content is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.control, method=method, data=data, headers=headers)
        trusting = ssl._create_unverified_context()
        with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:
            return json.loads(answer.read() or b"null")

    def break_every(self, nth: int, **rule: Any) -> None:
        """Every n-th request meets the fault, a hundred requests long."""
        for number in range(nth, 100, nth):
            self.ask("POST", {**rule, "after": number - 1, "times": 1})

    def hits(self) -> int:
        return sum(rule["hits"] for rule in self.ask("GET"))


@pytest.fixture
def proxy(kubeconfig: str, tmp_path: Path) -> Iterator[Proxy]:
    state = tmp_path / "proxy"
    command = [sys.executable, "-E", "-s", str(FAULTS), "--kubeconfig", kubeconfig, "--state", str(state)]
    with (tmp_path / "proxy.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 20
        while not (state / "kubeconfig").exists():
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "proxy.log").read_text()
            time.sleep(0.05)
        server = yaml.safe_load((state / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"]
        yield Proxy(str(state / "kubeconfig"), f"{server}/-/faults")
    finally:
        process.terminate()
        process.wait(10)


def answer(cluster: ApiServer) -> str:
    """What a user of the Service gets."""
    return str(json.loads(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)["prediction"])


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "refuse"}, {"fault": "throttle"}, {"fault": "error", "status": 503}, {"fault": "cut", "bytes": 20},
    ],
    ids=lambda rule: "-".join(map(str, rule.values())),
)  # fmt: skip
def test_every_fourth_request_breaks(
    cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path, rule: dict[str, Any]
) -> None:
    proxy.break_every(EVERY, **rule)
    for number in (1, 2):
        items = {"apiVersion": "v1", "kind": "List", "items": [service(), web(busybox, answer=f"v{number}")]}
        (tmp_path / "app.json").write_text(json.dumps(items))
        done = step(tmp_path, "deploy-aks", kubeconfig=proxy.kubeconfig, namespace=cluster.namespace, app="web",
                    manifests="app.json", stable_for="1s", timeout="50s")  # fmt: skip
        assert done.code == 0, done.log
    assert proxy.hits() > 10, "the faults did happen"
    assert answer(cluster) == "v2" and states(cluster) == {1: "superseded", 2: "good"}


def test_a_cluster_that_goes_away_in_the_middle(cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": [service(), web(busybox)]}
    (tmp_path / "app.json").write_text(json.dumps(items))
    proxy.ask("POST", {"fault": "refuse", "times": 0, "after": 25})
    done = step(tmp_path, "deploy-aks", kubeconfig=proxy.kubeconfig, namespace=cluster.namespace, app="web",
                manifests="app.json", timeout="6s", on_failure="keep")  # fmt: skip
    assert (done.code, done.outputs["reason"]) == (9, "unreachable"), done.log
    assert "does not answer" in done.log
    proxy.ask("DELETE")
    again = step(tmp_path, "deploy-aks", kubeconfig=proxy.kubeconfig, namespace=cluster.namespace, app="web",
                 manifests="app.json", timeout="50s")  # fmt: skip
    assert again.code == 0, again.log
    assert answer(cluster) == "v1"
