"""One deployment at a time, on a real API server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.cluster.apps import config
from tests.cluster.deploying import deploy, states
from tests.steps import step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.errors import Cancelled, Conflict
from ml_deploy.releases.cluster import ApiError, Ref
from ml_deploy.releases.lease import Lock, identity

ROOT = Path(__file__).resolve().parents[2]


def lock(
    cluster: ApiServer, namespace: str, *, holder: str = "", seconds: float = 3, said: list[str] | None = None
) -> Lock:
    tell = (said if said is not None else []).append
    return Lock(cluster, namespace, "wine", holder=holder or identity(), clock=time, seconds=seconds, tell=tell)


def lease(cluster: ApiServer, namespace: str) -> dict[str, object]:
    found = cluster.get(Ref("coordination.k8s.io/v1", "Lease", namespace, "ml-deploy.wine"))
    assert found
    return dict(found["spec"])


def test_the_second_stops_clearly_or_waits(cluster: ApiServer, namespace: str) -> None:
    said: list[str] = []
    with lock(cluster, namespace, holder="https://ci/run/1 a").held(wait=0):
        with pytest.raises(Conflict, match="https://ci/run/1"), lock(cluster, namespace).held(wait=0):
            pytest.fail("two deployments at once")
        waiting = threading.Thread(target=lambda: _take_and_release(lock(cluster, namespace, said=said)))
        waiting.start()
        time.sleep(1.5)
    waiting.join(10)
    assert not waiting.is_alive()
    assert said and said[0].startswith("waiting: another deployment of wine is running (https://ci/run/1)")
    assert "holderIdentity" not in lease(cluster, namespace)


def _take_and_release(one: Lock) -> None:
    with one.held(wait=20):
        one.guard()


def test_it_is_renewed_while_it_is_held(cluster: ApiServer, namespace: str) -> None:
    with lock(cluster, namespace, seconds=2).held(wait=0) as held:
        time.sleep(4)
        held.guard()
        with pytest.raises(Conflict):
            lock(cluster, namespace).acquire(wait=0)


def test_it_is_released_when_the_job_is_cancelled(cluster: ApiServer, namespace: str) -> None:
    with pytest.raises(Cancelled), lock(cluster, namespace).held(wait=0):
        raise Cancelled("The job was cancelled (SIGINT).")
    lock(cluster, namespace).acquire(wait=0)


def test_a_holder_that_was_overtaken_writes_nothing_more(cluster: ApiServer, namespace: str) -> None:
    paused = lock(cluster, namespace, holder="first a", seconds=2)
    paused.acquire(wait=0)  # without a thread that renews: as if its machine stood still
    paused.guard()
    next_one = lock(cluster, namespace, holder="second b", seconds=2)
    next_one.acquire(wait=10)
    with pytest.raises(Conflict, match="lost its lock"):
        paused.guard()
    paused.renew()
    with pytest.raises(Conflict, match="taken over: second"):
        paused.guard()
    paused.release()
    assert lease(cluster, namespace)["holderIdentity"] == "second b", "only the holder releases"


def test_of_two_that_take_over_only_one_gets_it(cluster: ApiServer, namespace: str) -> None:
    lock(cluster, namespace, holder="gone x", seconds=1).acquire(wait=0)
    got: list[str] = []

    def take(name: str) -> None:
        try:
            lock(cluster, namespace, holder=f"{name} y", seconds=60).acquire(wait=3)
            got.append(name)
        except Conflict:
            pass

    threads = [threading.Thread(target=take, args=(f"n{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 1


def test_a_namespace_that_does_not_exist_is_an_error_at_once(cluster: ApiServer) -> None:
    with pytest.raises(ApiError, match="not found"):
        lock(cluster, "no-such-namespace").acquire(wait=5)


HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from ml_deploy.adapters.cluster import connect
from ml_deploy.errors import Conflict
from ml_deploy.releases.cluster import ClusterAccess
from ml_deploy.releases.lease import Lock, identity
cluster = connect(ClusterAccess(kubeconfig=sys.argv[2], namespace=sys.argv[3]), None, lambda _: None)
with Lock(cluster, sys.argv[3], "wine", holder=identity(), clock=time, seconds=float(sys.argv[4])).held(wait=0) as lock:
    print("held", flush=True)
    while True:
        time.sleep(0.05)
        try:
            lock.guard()
        except Conflict as error:
            print("stopped:", error.message, flush=True)
            break
"""


def _holder(kubeconfig: str, namespace: str, seconds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(ROOT / "scripts"), kubeconfig, namespace, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_killed_holder_on_this_machine_holds_nobody_up(cluster: ApiServer, kubeconfig: str, namespace: str) -> None:
    process = _holder(kubeconfig, namespace, 60)
    with pytest.raises(Conflict):
        lock(cluster, namespace).acquire(wait=0)
    process.kill()
    process.communicate(timeout=20)
    said: list[str] = []
    lock(cluster, namespace, said=said).acquire(wait=0)
    assert said and "ended without releasing it" in said[0]


def test_a_stopped_and_continued_holder_stops_writing(cluster: ApiServer, kubeconfig: str, namespace: str) -> None:
    process = _holder(kubeconfig, namespace, 3)
    os.kill(process.pid, signal.SIGSTOP)
    lock(cluster, namespace, holder="second b", seconds=60).acquire(wait=20)
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=20)
    assert out.startswith("stopped: This deployment of wine lost its lock")
    assert lease(cluster, namespace)["holderIdentity"] == "second b"


def test_who_lost_the_lock_writes_nothing_whatever_calls_the_server(cluster: ApiServer, namespace: str) -> None:
    paused = lock(cluster, namespace, holder="first a", seconds=1)
    with pytest.raises(Conflict, match="lost its lock"), paused.held(wait=0):
        paused._stop.set()  # its thread renews no more, as when the process is stopped
        time.sleep(1)
        assert cluster.get(Ref("v1", "ConfigMap", namespace, "late")) is None, "reading is free"
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}})
    assert cluster.get(Ref("v1", "ConfigMap", namespace, "late")) is None
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}})


@pytest.mark.parametrize("action", ["deploy", "promote", "reject", "teardown", "rollback"])
def test_each_action_waits_for_another_deployment_or_stops(
    cluster: ApiServer, kubeconfig: str, tmp_path: Path, action: str
) -> None:
    deploy(cluster, config("settings", a="1"))
    (tmp_path / "app.json").write_text(json.dumps(config("settings", a="2")))
    inputs = {"kubeconfig": kubeconfig, "namespace": cluster.namespace, "app": "web"}
    if action != "rollback":
        inputs |= {"action": action, **({"manifests": "app.json"} if action == "deploy" else {})}
    command = "rollback" if action == "rollback" else "deploy-aks"
    ways: list[tuple[dict[str, str], bool]] = [({"on_conflict": "fail"}, False), ({"timeout": "2s"}, True)]
    with Lock(cluster, cluster.namespace, "web", holder="https://ci/run/7 a", clock=time).held(wait=0):
        for given, waits in ways:
            done = step(tmp_path, command, **inputs, **given)
            assert (done.code, done.outputs["reason"]) == (16, "conflict"), done.log
            assert "Another deployment of web" in done.log and "https://ci/run/7" in done.log
            assert ("waiting: another deployment" in done.log) is waits
    live = cluster.get(Ref("v1", "ConfigMap", cluster.namespace, "settings"))
    assert live and live["data"] == {"a": "1"} and states(cluster) == {1: "deployed"}
