"""rollback on a cluster: whole releases back, nothing rerun, nothing lost, every end clear."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.cluster.apps import PREDICT, config, secret, service, web
from tests.cluster.deploying import deploy, good, states
from tests.cluster.releasing import Failed, release, serves

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.commands import rollback
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import NoRelease, RolloutFailed, WrongAnswers
from ml_deploy.images.registry import Registry, RegistryAccess
from ml_deploy.releases.cluster import Cluster, ClusterAccess, Object, Ref
from ml_deploy.releases.records import Records
from ml_deploy.runtime import fields
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job
from ml_deploy.wiring import Wiring

Rollback = Callable[..., rollback.Result]
ROOT = Path(__file__).resolve().parents[2]


class Emptied:
    """A registry from which everything was deleted."""

    def manifest(self, repository: str, reference: str) -> None:
        return None


class Closing(Wiring):
    """The real wiring; remembers its connection, for a test closes what a process would take with it."""

    connection: ApiServer
    emptied = False

    def registry(self, access: RegistryAccess) -> Registry:
        return cast(Registry, Emptied()) if self.emptied else super().registry(access)

    def cluster(self, access: ClusterAccess) -> Cluster:
        self.connection = super().cluster(access)  # type: ignore[assignment]
        return self.connection


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def roll_back(kubeconfig: str, namespace: str, tmp_path: Path, log: io.StringIO) -> Rollback:
    """The command, with its inputs as keyword arguments."""

    def run(*, emptied: bool = False, **inputs: str) -> rollback.Result:
        values = {"kubeconfig": kubeconfig, "namespace": namespace, "app": "web", "timeout": "60s",
                  **{name.replace("_", "-"): value for name, value in inputs.items()}}  # fmt: skip
        wiring = Closing(Console(log), Job({"RUNNER_TEMP": str(tmp_path)}))
        wiring.emptied = emptied
        try:
            return rollback.run(fields.read(rollback.Inputs, values), cast(Adapters, wiring))
        finally:
            wiring.connection.close()

    return run


def live(cluster: ApiServer, kind: str, name: str) -> Any:
    return cluster.get(Ref({"Deployment": "apps/v1", "Job": "batch/v1"}.get(kind, "v1"), kind, cluster.namespace, name))


def body(cluster: ApiServer) -> str:
    """What the live Deployment is told to answer."""
    env = live(cluster, "Deployment", "web")["spec"]["template"]["spec"]["containers"][0]["env"]
    return str(json.loads(env[0]["value"])["prediction"])


def test_from_bad_to_good_as_a_whole(
    cluster: ApiServer, busybox: str, roll_back: Rollback, cases: Callable[[str], str], log: io.StringIO
) -> None:
    first = deploy(cluster, config("settings", mode="a"), service(), web(busybox, answer="v1"))
    good(cluster, first)
    bad = deploy(cluster, config("settings", mode="b"), config("extra", x="1"), service(), web(busybox, answer="bad"))
    Records(cluster, cluster.namespace, "web", clock=time).judge(
        bad.revision, by="smoke-test", good=False, text="wrong"
    )

    result = roll_back(from_revision="2", cases=cases("v1"), why="the smoke test failed")

    assert (result.status, result.revision, result.from_revision) == ("rolled-back", 1, 2)
    assert result.image == busybox and result.endpoint == f"http://web.{cluster.namespace}.svc.cluster.local"
    assert body(cluster) == "v1"
    assert live(cluster, "ConfigMap", "settings")["data"] == {"mode": "a"}
    assert live(cluster, "ConfigMap", "extra") is None
    assert states(cluster) == {1: "good", 2: "rolled-back"}
    undone = Records(cluster, cluster.namespace, "web", clock=time).find(2)
    assert undone and undone.why == "the smoke test failed"
    assert "removed ConfigMap extra" in log.getvalue()
    assert json.loads(Path(result.report).read_text())["status"] == "rolled-back"


def test_it_does_nothing_when_another_revision_is_current(
    cluster: ApiServer, busybox: str, roll_back: Rollback
) -> None:
    for answer in ("v1", "v2"):
        good(cluster, deploy(cluster, web(busybox, answer=answer)))
    result = roll_back(from_revision="1")
    assert (result.status, result.revision) == ("not-current", 2)
    assert body(cluster) == "v2" and states(cluster) == {1: "superseded", 2: "good"}


def test_the_last_good_one_is_chosen_over_newer_bad_ones(cluster: ApiServer, busybox: str, roll_back: Rollback) -> None:
    good(cluster, deploy(cluster, web(busybox, answer="v1")))
    deploy(cluster, web(busybox, crash=True), seconds=2)
    deploy(cluster, web(busybox, pull="localhost:1/none:1"), seconds=2)
    assert states(cluster) == {1: "good", 2: "failed", 3: "failed"}
    assert roll_back().revision == 1
    assert states(cluster) == {1: "good", 2: "failed", 3: "rolled-back"}


def test_a_named_revision_and_back_again(cluster: ApiServer, busybox: str, roll_back: Rollback) -> None:
    for answer in ("v1", "v2", "v3"):
        good(cluster, deploy(cluster, web(busybox, answer=answer)))
    assert roll_back(to_revision="1").revision == 1
    assert body(cluster) == "v1" and states(cluster) == {1: "good", 2: "superseded", 3: "rolled-back"}
    assert roll_back(to_revision="3").revision == 3
    assert body(cluster) == "v3" and states(cluster) == {1: "superseded", 2: "superseded", 3: "good"}
    with pytest.raises(NoRelease, match="no revision 9") as caught:
        roll_back(to_revision="9")
    assert "3, 2, 1" in caught.value.hint


@pytest.mark.real_kubernetes
def test_jobs_are_never_rerun_and_claims_never_deleted(cluster: ApiServer, busybox: str, roll_back: Rollback) -> None:
    container = {"name": "m", "image": busybox, "command": ["/bin/sh", "-c", "exit 0"]}
    job: Object = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }  # fmt: skip
    claim: Object = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }  # fmt: skip
    good(cluster, deploy(cluster, job, web(busybox, answer="v1")))
    cluster.delete(Ref("batch/v1", "Job", cluster.namespace, "migrate"))
    deploy(cluster, claim, web(busybox, answer="v2"))
    result = roll_back()
    assert live(cluster, "Job", "migrate") is None
    assert live(cluster, "PersistentVolumeClaim", "data")
    assert any("data" in note and "may hold data" in note for note in result.notes)


def test_an_older_secret_is_not_written_over_a_rotated_one(
    cluster: ApiServer, busybox: str, roll_back: Rollback, log: io.StringIO
) -> None:
    good(cluster, deploy(cluster, secret("password", value="old-password"), web(busybox, answer="v1")))
    deploy(cluster, secret("password", value="new-password"), web(busybox, answer="v2"))
    result = roll_back()
    assert live(cluster, "Secret", "password")["data"] == {"value": "bmV3LXBhc3N3b3Jk"}
    assert any("Secret password" in note for note in result.notes)
    everything = log.getvalue() + result.summary() + Path(result.report).read_text()
    assert "old-password" not in everything and "new-password" not in everything


def test_what_others_made_anew_or_had_before_stays(cluster: ApiServer, busybox: str, roll_back: Rollback) -> None:
    cluster.create(config("before", x="0"))
    time.sleep(1.1)  # creation times have whole seconds
    good(cluster, deploy(cluster, web(busybox, answer="v1")))
    deploy(cluster, config("before", x="1"), config("anew", x="1"), web(busybox, answer="v2"))
    cluster.delete(Ref("v1", "ConfigMap", cluster.namespace, "anew"))
    theirs = config("anew", x="theirs")
    theirs["metadata"]["labels"] = {"ml-deploy/app": "web"}
    cluster.create(theirs)
    roll_back()
    assert live(cluster, "ConfigMap", "before") and live(cluster, "ConfigMap", "anew")


@pytest.mark.real_kubernetes
def test_what_was_there_at_the_first_meeting_comes_back(
    cluster: ApiServer, busybox: str, roll_back: Rollback, kubeconfig: str, kubectl_path: str
) -> None:
    by_hand = {"apiVersion": "v1", "kind": "List", "items": [service(), web(busybox, answer="by hand")]}
    subprocess.run([kubectl_path, "--kubeconfig", kubeconfig, "-n", cluster.namespace, "apply", "-f", "-"],
                   input=json.dumps(by_hand), text=True, check=True)  # fmt: skip
    until = time.monotonic() + 30
    while not (live(cluster, "Deployment", "web").get("status") or {}).get("readyReplicas"):
        assert time.monotonic() < until
        time.sleep(0.1)
    address = live(cluster, "Service", "web")["spec"]["clusterIP"]
    deploy(cluster, config("new", x="1"), service(), web(busybox, crash=True), seconds=2)
    result = roll_back()
    assert (result.revision, result.from_revision, body(cluster)) == (0, 1, "by hand")
    assert live(cluster, "ConfigMap", "new") is None
    assert live(cluster, "Service", "web")["spec"]["clusterIP"] == address


def test_a_failed_first_release_is_taken_out_of_traffic(cluster: ApiServer, busybox: str, roll_back: Rollback) -> None:
    deploy(cluster, service(), web(busybox, crash=True), seconds=2)
    with pytest.raises(NoRelease, match="taken out of traffic: Service web") as caught:
        roll_back()
    assert isinstance(caught.value.result, rollback.Result) and caught.value.result.status == "out-of-traffic"
    assert "ml-deploy/out-of-traffic" in live(cluster, "Service", "web")["spec"]["selector"]
    deploy(cluster, service(), web(busybox, answer="v2"))
    assert live(cluster, "Service", "web")["spec"]["selector"] == {"app": "web"}, "the next one serves again"


def test_a_first_release_that_is_good_is_left_alone(cluster: ApiServer, busybox: str, roll_back: Rollback) -> None:
    good(cluster, deploy(cluster, service(), web(busybox, answer="v1")))
    with pytest.raises(NoRelease, match="no older release"):
        roll_back()
    assert live(cluster, "Service", "web")["spec"]["selector"] == {"app": "web"}


def test_an_unknown_app_is_named_with_those_that_are_known(cluster: ApiServer, roll_back: Rollback) -> None:
    Records(cluster, cluster.namespace, "wine", clock=time).begin([config("a", x="1")])
    with pytest.raises(NoRelease, match="no release of web") as caught:
        roll_back()
    assert "wine" in caught.value.hint


def test_wrong_answers_after_a_rollback_are_an_error(
    cluster: ApiServer, busybox: str, roll_back: Rollback, cases: Callable[[str], str]
) -> None:
    for answer in ("v1", "v2"):
        good(cluster, deploy(cluster, service(), web(busybox, answer=answer)))
    with pytest.raises(WrongAnswers) as caught:
        roll_back(cases=cases("v0"))
    assert isinstance(caught.value.result, rollback.Result) and caught.value.result.revision == 1
    assert states(cluster) == {1: "failed", 2: "rolled-back"}


def test_a_rollback_that_does_not_get_ready_says_why_and_can_be_run_again(
    cluster: ApiServer, busybox: str, roll_back: Rollback
) -> None:
    first = web(busybox, answer="v1")
    first["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "needed"}}]
    cluster.create(config("needed", x="1"))
    good(cluster, deploy(cluster, first))
    deploy(cluster, web(busybox, answer="v2"))
    cluster.delete(Ref("v1", "ConfigMap", cluster.namespace, "needed"))
    with pytest.raises(RolloutFailed, match="needed"):
        roll_back(timeout="4s")
    assert states(cluster) == {1: "superseded", 2: "deployed"}
    cluster.create(config("needed", x="1"))
    assert roll_back().revision == 1
    assert body(cluster) == "v1"


def stateful(image: str, **how: Any) -> Object:
    obj = web(image, replicas=2, **how)
    del obj["spec"]["progressDeadlineSeconds"]
    return {**obj, "kind": "StatefulSet", "spec": {**obj["spec"], "serviceName": "web"}}


@pytest.mark.real_kubernetes
def test_a_stateful_set_comes_from_bad_to_good(cluster: ApiServer, busybox: str) -> None:
    with pytest.raises(Failed):
        release(cluster, service(), stateful(busybox, crash=True), strategy="rolling", seconds=8)
    found = release(cluster, service(), stateful(busybox, answer="v2"), strategy="rolling", seconds=40)
    assert found.release and found.release.state == "deployed" and serves(cluster) == "v2"


@pytest.mark.real_kubernetes
def test_a_stateful_set_that_is_stuck_on_a_bad_revision_comes_free(
    cluster: ApiServer, busybox: str, roll_back: Rollback
) -> None:
    good(cluster, deploy(cluster, service(), stateful(busybox, answer="v1")))
    deploy(cluster, service(), stateful(busybox, crash=True), seconds=8)
    assert roll_back().status == "rolled-back"
    held = cluster.get(Ref("apps/v1", "StatefulSet", cluster.namespace, "web"))
    assert held and held["status"]["readyReplicas"] == 2


@pytest.mark.real_kubernetes
def test_under_an_autoscaler_a_rollback_keeps_the_live_number_of_replicas(
    cluster: ApiServer, busybox: str, roll_back: Rollback
) -> None:
    hpa: Object = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }  # fmt: skip
    good(cluster, deploy(cluster, web(busybox, answer="v1"), hpa))
    deploy(cluster, web(busybox, answer="v2"), hpa)
    ref = Ref("apps/v1", "Deployment", cluster.namespace, "web")
    cluster.patch(ref, {"spec": {"replicas": 3}}, subresource="scale")  # as an autoscaler does
    roll_back()
    assert live(cluster, "Deployment", "web")["spec"]["replicas"] == 3 and body(cluster) == "v1"


def test_a_cancelled_rollback_lets_go_says_what_serves_and_can_be_finished(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    good(cluster, deploy(cluster, service(), web(busybox, answer="v1")))
    slow = web(busybox, answer="v2")
    deploy(cluster, service(), slow)
    command = [sys.executable, str(ROOT / "scripts/main.py"), "rollback", "--kubeconfig", kubeconfig, "--namespace",
               cluster.namespace, "--app", "web", "--from-revision", "2", "--timeout", "60s"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"RUNNER_TEMP": str(tmp_path)})
    assert process.stdout
    for line in process.stdout:
        if "Deployment web:" in line:
            process.send_signal(signal.SIGINT)
            break
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "Cancelled" in said and "Revision 2 is still recorded as the current one" in said
    lease = cluster.get(Ref("coordination.k8s.io/v1", "Lease", cluster.namespace, "ml-deploy.web"))
    assert lease and "holderIdentity" not in lease["spec"]
    assert json.loads(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)["prediction"] in (
        "v1",
        "v2",
    )
    assert subprocess.run(command, env={"RUNNER_TEMP": str(tmp_path)}, check=False).returncode == 0
    assert body(cluster) == "v1" and states(cluster) == {1: "good", 2: "rolled-back"}


def test_an_image_that_its_registry_no_longer_has_stops_it_before_anything_changes(
    cluster: ApiServer, busybox: str, roll_back: Rollback
) -> None:
    gone = "registry.example.com/ml/web:v1"
    good(cluster, deploy(cluster, web(busybox, pull=gone), seconds=1))
    good(cluster, deploy(cluster, web(busybox, answer="v2")))
    with pytest.raises(NoRelease, match=f"Revision 1 of web cannot be restored: .* {gone}") as caught:
        roll_back(emptied=True)
    assert "Nothing was changed. Revisions whose images are there: 2" in caught.value.hint
    live = cluster.get(Ref("apps/v1", "Deployment", cluster.namespace, "web"))
    assert live and live["spec"]["template"]["spec"]["containers"][0]["image"] == busybox
    assert states(cluster)[2] == "good"
