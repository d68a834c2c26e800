"""deploy-aks and rollback through a proxy that breaks requests: they converge, or stop with a clear word."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.canaries import Runner
from tests.cluster.deploying import deploy, good, states
from tests.cluster.proxy import Proxy

from ml_deploy.adapters.cluster import ApiServer

EVERY = 4
FAULTS: list[dict[str, Any]] = [
    {"fault": "refuse"}, {"fault": "error", "status": 503}, {"fault": "cut", "bytes": 20},
    {"fault": "conflict", "method": "PATCH"}, {"fault": "throttle", "retry_after": 1}, {"fault": "error", "status": 500},
    {"fault": "delay", "seconds": 0.3},
]  # fmt: skip
WATCHES: list[dict[str, Any]] = [
    {"fault": "cut", "path": "watch=true", "seconds": 0.2, "times": 5},
    {"fault": "error", "status": 410, "path": "watch=true", "times": 3},
    {"fault": "error", "status": 500, "path": "watch=true", "times": 3},
    {"fault": "throttle", "path": "watch=true", "times": 2, "retry_after": 1},
    {"fault": "refuse", "path": "watch=true", "times": 3},
]


STRATEGIES: dict[str, dict[str, str]] = {
    "canary": {"steps": "50, 100", "pause": "1s"}, "rolling": {}, "blue-green": {"keep_old": "1s"},
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of faults and strategies; `--every-fault` takes each fault under each strategy, and with a rollback."""
    every, names = metafunc.config.getoption("--every-fault"), metafunc.fixturenames
    rules = WATCHES if "watches" in metafunc.function.__name__ else FAULTS
    if {"rule", "strategy"} <= set(names):
        some = FAULTS if rules is FAULTS else WATCHES[:2]
        pairs = product(rules, STRATEGIES) if every else zip(some, cycle(STRATEGIES))
        metafunc.parametrize(("rule", "strategy"), list(pairs), ids=_name)
    elif "rule" in names:
        metafunc.parametrize("rule", rules if every else rules[4:], ids=_name)
    elif "strategy" in names:
        metafunc.parametrize("strategy", STRATEGIES if every else ["canary"])
    elif "what" in names:
        metafunc.parametrize("what", [*STRATEGIES, "rollback"] if every else ["blue-green", "rollback"])


def _name(value: dict[str, Any] | str) -> str:
    return "-".join(map(str, value.values() if isinstance(value, dict) else [value]))


def answer(cluster: ApiServer) -> str:
    """What a user of the Service gets."""
    return str(json.loads(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)["prediction"])


@pytest.fixture
def runner(tmp_path: Path, proxy: Proxy, cluster: ApiServer) -> Runner:
    """Runs commands through the proxy; what a test looks at itself it sees without."""
    return Runner(tmp_path, proxy.kubeconfig, cluster)


def test_every_fourth_request_breaks(
    runner: Runner, proxy: Proxy, busybox: str, rule: dict[str, Any], strategy: str
) -> None:
    for version in ("v1", "v2"):
        proxy.ask("DELETE")
        proxy.break_every(EVERY, **rule)
        app = web(busybox, answer=version, replicas=2)
        done = runner.deploy(service(), app, strategy=strategy, stable_for="1s", **STRATEGIES[strategy])
        assert done.code == 0, done.log
        assert proxy.hits() > (0 if "method" in rule else 5), "the faults did happen"
    assert answer(runner.cluster) == "v2" and states(runner.cluster) == {1: "superseded", 2: "good"}


def test_a_cluster_that_goes_away_in_the_middle(runner: Runner, proxy: Proxy, busybox: str, strategy: str) -> None:
    cluster, how = runner.cluster, {"strategy": strategy, **STRATEGIES[strategy]}
    deploy(cluster, service(), web(busybox, answer="v1", replicas=2))
    proxy.ask("POST", {"fault": "refuse", "times": 0, "after": 30})
    objects = [service(), web(busybox, answer="v2", replicas=2)]
    done = runner.deploy(*objects, timeout="6s", on_failure="keep", **how)
    assert (done.code, done.outputs["reason"]) == (9, "unreachable"), done.log
    assert "does not answer" in done.log and answer(cluster) == "v1"
    proxy.ask("DELETE")
    again = runner.deploy(*objects, **how)
    assert again.code == 0, again.log
    assert answer(cluster) == "v2"


def test_a_rollback_when_every_fourth_request_breaks(
    runner: Runner, proxy: Proxy, busybox: str, rule: dict[str, Any]
) -> None:
    good(runner.cluster, deploy(runner.cluster, service(), web(busybox, answer="v1")))
    deploy(runner.cluster, service(), web(busybox, answer="v2"))
    proxy.break_every(EVERY, **rule)
    done = runner.run("rollback")
    assert done.code == 0, done.log
    assert proxy.hits() > (0 if "method" in rule else 3), "the faults did happen"
    assert answer(runner.cluster) == "v1" and states(runner.cluster) == {1: "good", 2: "rolled-back"}


def test_watches_that_break(runner: Runner, proxy: Proxy, busybox: str, rule: dict[str, Any], strategy: str) -> None:
    deploy(runner.cluster, service(), web(busybox, answer="v1", replicas=2))
    proxy.ask("POST", rule)
    app = web(busybox, answer="v2", replicas=2)
    done = runner.deploy(service(), app, strategy=strategy, stable_for="3s", **STRATEGIES[strategy])
    assert done.code == 0, done.log
    assert proxy.hits() >= min(rule["times"], 2), "the faults did happen"
    assert answer(runner.cluster) == "v2"


def test_a_401_is_cured_by_a_fresh_token(runner: Runner, proxy: Proxy, busybox: str, what: str) -> None:
    good(runner.cluster, deploy(runner.cluster, service(), web(busybox, answer="v1", replicas=2)))
    deploy(runner.cluster, service(), web(busybox, answer="v2", replicas=2))
    for after in (3, 9, 15):
        proxy.ask("POST", {"fault": "error", "status": 401, "after": after})
    runner = replace(runner, kubeconfig=with_plugin(proxy, runner.folder))
    objects = [service(), web(busybox, answer="v1", replicas=2)]
    rollback = what == "rollback"
    done = runner.run(what) if rollback else runner.deploy(*objects, strategy=what, **STRATEGIES[what])
    assert done.code == 0, done.log
    assert proxy.hits() == 3, "the faults did happen"
    asked = (runner.folder / "asked").read_text().splitlines()
    assert len(asked) >= 4, "a token at first, and one after each 401"
    assert answer(runner.cluster) == "v1"


def test_a_401_that_no_token_cures_stops_it(runner: Runner, proxy: Proxy, busybox: str) -> None:
    proxy.ask("POST", {"fault": "error", "status": 401, "times": 0})
    done = replace(runner, kubeconfig=with_plugin(proxy, runner.folder)).deploy(web(busybox))
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
