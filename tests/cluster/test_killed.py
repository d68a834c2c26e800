"""A run that is killed at any write leaves the old or the new version serving, and the next run converges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cluster.apps import PREDICT, config, service, web
from tests.cluster.deploying import deploy, good

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases import records
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.records import Records

ROOT = Path(__file__).resolve().parents[2]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of the writes; `--every-write` takes them all."""
    if "at" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-write")
        metafunc.parametrize("at", range(1, 19) if every else (4, 8))
        metafunc.parametrize("when", ("before", "after") if every else ("after",))


def dying(kubeconfig: str, namespace: str, what: str, when: str, at: int, objects: list[Object] | None = None) -> int:
    """Run it, to be killed at a write; its exit code."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/cluster/dying.py"), str(ROOT / "scripts"), kubeconfig, namespace, when,
         str(at), what],
        input=json.dumps(objects or []), text=True, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode


def answers(cluster: ApiServer) -> str:
    """What a user of the Service gets now."""
    body = cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body
    return str(json.loads(body)["prediction"])


def consistent(cluster: ApiServer) -> tuple[int, str]:
    """The current revision and its state, when what is live is what it recorded."""
    history = Records(cluster, cluster.namespace, "web", clock=time)
    current = history.current()
    assert current
    (recorded,) = (o for o in history.load(current).objects if o["kind"] == "Deployment")
    live = cluster.get(Ref("apps/v1", "Deployment", cluster.namespace, "web"))
    assert live and env(live) == env(recorded)
    return current.revision, current.state


def env(deployment: Object) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])


@pytest.mark.real_kubernetes
def test_a_killed_rollback(cluster: ApiServer, kubeconfig: str, busybox: str, when: str, at: int) -> None:
    good(cluster, deploy(cluster, config("settings", mode="a"), service(), web(busybox, answer="v1")))
    deploy(cluster, config("settings", mode="b"), config("extra", x="1"), service(), web(busybox, answer="bad"))
    code = dying(kubeconfig, cluster.namespace, "rollback", when, at)
    assert answers(cluster) in ("v1", "bad")
    if code == 0 and at < 10:
        pytest.fail("it was to be killed")
    assert dying(kubeconfig, cluster.namespace, "rollback", "after", 1000) == 0 if code else True
    assert answers(cluster) == "v1"
    assert consistent(cluster) == (1, records.JUDGED_GOOD)
    assert cluster.get(Ref("v1", "ConfigMap", cluster.namespace, "extra")) is None


@pytest.mark.real_kubernetes
def test_a_killed_deployment(cluster: ApiServer, kubeconfig: str, busybox: str, when: str, at: int) -> None:
    good(cluster, deploy(cluster, config("settings", mode="a"), service(), web(busybox, answer="v1")))
    objects = [config("settings", mode="b"), config("extra", x="1"), service(), web(busybox, answer="v2")]
    dying(kubeconfig, cluster.namespace, "rolling", when, at, objects)
    assert answers(cluster) in ("v1", "v2")
    assert dying(kubeconfig, cluster.namespace, "rolling", "after", 1000, objects) == 0
    assert answers(cluster) == "v2"
    revision, state = consistent(cluster)
    assert revision >= 2 and state == records.JUDGED_GOOD
    left = cluster.list("v1", "Pod", cluster.namespace, selector="ml-deploy/role")
    assert all(pod["metadata"].get("deletionTimestamp") for pod in left)
