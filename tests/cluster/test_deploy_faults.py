"""deploy-aks and rollback through a proxy that breaks requests: they converge, or stop with a clear word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.deploying import deploy, good, states
from tests.cluster.proxy import Proxy
from tests.steps import step

from ml_deploy.adapters.cluster import ApiServer

EVERY = 4
FAULTS: list[dict[str, Any]] = [
    {"fault": "refuse"}, {"fault": "error", "status": 503}, {"fault": "cut", "bytes": 20},
    {"fault": "conflict", "method": "PATCH"}, {"fault": "throttle", "retry_after": 1}, {"fault": "error", "status": 500},
    {"fault": "delay", "seconds": 0.5},
]  # fmt: skip
WATCHES: list[dict[str, Any]] = [
    {"fault": "cut", "path": "watch=true", "seconds": 0.2, "times": 5},
    {"fault": "error", "status": 410, "path": "watch=true", "times": 3},
    {"fault": "error", "status": 500, "path": "watch=true", "times": 3},
    {"fault": "throttle", "path": "watch=true", "times": 2, "retry_after": 1},
    {"fault": "refuse", "path": "watch=true", "times": 3},
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each fault by one of the two commands; `--every-fault` takes all by both."""
    if "rule" in metafunc.fixturenames:
        sample = {"test_every_fourth_request_breaks": FAULTS[:4], "test_watches_that_break": WATCHES[:2]}
        rules = sample.get(metafunc.function.__name__, FAULTS[4:])
        if metafunc.config.getoption("--every-fault"):
            rules = WATCHES if metafunc.function.__name__ == "test_watches_that_break" else FAULTS
        metafunc.parametrize("rule", rules, ids=lambda rule: "-".join(map(str, rule.values())))


def answer(cluster: ApiServer) -> str:
    """What a user of the Service gets."""
    return str(json.loads(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)["prediction"])


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
    assert proxy.hits() > (1 if "method" in rule else 10), "the faults did happen"
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


def test_a_rollback_when_every_fourth_request_breaks(
    cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path, rule: dict[str, Any]
) -> None:
    good(cluster, deploy(cluster, service(), web(busybox, answer="v1")))
    deploy(cluster, service(), web(busybox, answer="v2"))
    proxy.break_every(EVERY, **rule)
    done = step(
        tmp_path, "rollback", kubeconfig=proxy.kubeconfig, namespace=cluster.namespace, app="web", timeout="50s"
    )
    assert done.code == 0, done.log
    assert proxy.hits() > (0 if "method" in rule else 3), "the faults did happen"
    assert answer(cluster) == "v1" and states(cluster) == {1: "good", 2: "rolled-back"}


def test_watches_that_break(
    cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path, rule: dict[str, Any]
) -> None:
    deploy(cluster, service(), web(busybox, answer="v1"))
    proxy.ask("POST", rule)
    (tmp_path / "app.json").write_text(json.dumps(web(busybox, answer="v2")))
    done = step(tmp_path, "deploy-aks", kubeconfig=proxy.kubeconfig, namespace=cluster.namespace, app="web",
                manifests="app.json", stable_for="3s", timeout="50s")  # fmt: skip
    assert done.code == 0, done.log
    assert proxy.hits() >= min(rule["times"], 2), "the faults did happen"
    assert answer(cluster) == "v2"


@pytest.mark.parametrize("command", ["deploy-aks", "rollback"])
def test_a_401_is_cured_by_a_fresh_token(
    cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path, command: str
) -> None:
    good(cluster, deploy(cluster, service(), web(busybox, answer="v1")))
    deploy(cluster, service(), web(busybox, answer="v2"))
    for after in (3, 9, 15):
        proxy.ask("POST", {"fault": "error", "status": 401, "after": after})
    given = {"app": "web", "namespace": cluster.namespace, "kubeconfig": with_plugin(proxy, tmp_path), "timeout": "50s"}
    if command == "deploy-aks":
        (tmp_path / "app.json").write_text(json.dumps(web(busybox, answer="v1")))
        given["manifests"] = "app.json"
    done = step(tmp_path, command, **given)
    assert done.code == 0, done.log
    assert proxy.hits() == 3, "the faults did happen"
    assert len((tmp_path / "asked").read_text().splitlines()) >= 4, "a token at first, and one after each 401"
    assert answer(cluster) == "v1"


def test_a_401_that_no_token_cures_stops_it(cluster: ApiServer, proxy: Proxy, busybox: str, tmp_path: Path) -> None:
    proxy.ask("POST", {"fault": "error", "status": 401, "times": 0})
    (tmp_path / "app.json").write_text(json.dumps(web(busybox)))
    done = step(tmp_path, "deploy-aks", kubeconfig=with_plugin(proxy, tmp_path), namespace=cluster.namespace, app="web",
                manifests="app.json", timeout="50s")  # fmt: skip
    assert (done.code, done.outputs["reason"]) == (6, "auth"), done.log
    assert proxy.hits() == 2, "once more with a fresh token, and no more"


def with_plugin(proxy: Proxy, folder: Path) -> str:
    """A kubeconfig that signs in with a plugin, which writes down each time that it is asked."""
    plugin = folder / "plugin"
    status = json.dumps({"token": "a-token-of-the-plugin"})
    plugin.write_text(
        f"#!/bin/sh\necho asked >> {folder}/asked\n"
        f'echo \'{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {status}}}\'\n'
    )
    plugin.chmod(0o755)
    config = yaml.safe_load(Path(proxy.kubeconfig).read_text())
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    config["users"] = [{"name": one["name"], "user": {"exec": run}} for one in config["users"]]
    path = folder / "with-plugin"
    path.write_text(yaml.safe_dump(config))
    return str(path)
