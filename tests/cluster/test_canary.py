"""Canaries by the number of pods, named after the cases that projects of progressive delivery test."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from tests.cluster.canaries import Runner, app, clients, public
from tests.cluster.deploying import deploy, states

from ml_deploy.adapters.cluster import ApiServer


@pytest.fixture
def runner(tmp_path: Path, kubeconfig: str, cluster: ApiServer) -> Runner:
    return Runner(tmp_path, kubeconfig, cluster)


def test_a_good_canary_promotes(runner: Runner, busybox: str) -> None:
    first = runner.canary(app(busybox), public())
    assert first.code == 0, first.log
    assert "deployed without a canary: Deployment web in namespace" in first.log
    url = first.outputs["endpoint"] + "/cgi-bin/predict"
    if ".svc." in url:
        pytest.skip("this cluster gives no address to a LoadBalancer")
    with clients(url) as users:
        second = runner.canary(app(busybox, "v2"), public(), cases=runner.cases("v2"))
        time.sleep(4)  # the last old pods go
    assert second.code == 0, second.log
    assert (second.outputs["status"], second.outputs["previous-revision"]) == ("good", "1")
    assert second.report["canary"][0]["share"] == 50 and second.report["canary"][0]["pods"] == 1
    assert users.failures() == [] and users.total["v1"] and users.total["v2"]
    runner.plain("v2", 2)
    assert states(runner.cluster) == {2: "good", 1: "superseded"}


@pytest.mark.real_kubernetes
def test_wrong_predictions_never_reach_a_user(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    second = runner.canary(app(busybox, "bad"), public(), cases=runner.cases("v2"))
    assert second.code == 12, second.log
    assert "web-canary" not in second.log
    runner.plain("v1", 2)


@pytest.mark.real_kubernetes
def test_a_bad_canary_aborts(runner: Runner, busybox: str) -> None:
    """It is healthy until it has had users for a while."""
    deploy(runner.cluster, app(busybox), public())
    dying = app(busybox, "v2")
    command = dying["spec"]["template"]["spec"]["containers"][0]["command"]
    command[2] = command[2].replace("exec /bin/busybox httpd -f -p 8080 -h /www",
                                    "/bin/busybox httpd -p 8080 -h /www; /bin/busybox sleep 4; exit 3")  # fmt: skip
    second = runner.canary(dying, public(), pause="5s")
    assert second.code == 11, second.log
    assert "crashed while it served (web: Error, exit code 3)" in second.log
    assert "aborted at 50 % of the traffic" in second.log and "Revision 1 serves as before" in second.log
    assert (second.outputs["status"], second.outputs["rolled-back"]) == ("failed", "false")
    runner.plain("v1", 2)
    assert states(runner.cluster) == {2: "failed", 1: "deployed"}


def test_waiting_blocks_others_until_it_is_promoted(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    waits = runner.canary(app(busybox, "v2"), public(), steps="50", cases=runner.cases("v2"))
    assert (waits.code, waits.outputs["status"], waits.outputs["revision"]) == (0, "waiting", "2"), waits.log
    assert "revision 2 waits as a canary with 50 % of the traffic; revision 1 has the rest" in waits.log
    assert "action: promote" in waits.summary
    other = runner.deploy(app(busybox, "v3"), public())
    assert (other.code, other.outputs["reason"]) == (16, "conflict"), other.log
    assert "Revision 2 of web waits as a canary since" in other.log and "action: reject" in other.log
    wrong = runner.decide("promote", revision="7")
    assert wrong.code == 16 and "Revision 2 of web waits, not revision 7" in wrong.log
    done = runner.decide("promote", revision="2")
    assert (done.code, done.outputs["status"], done.outputs["revision"]) == (0, "good", "2"), done.log
    runner.plain("v2", 2)
    again = runner.decide("promote", revision="2")
    assert again.code == 0 and "nothing to do: revision 2 is good already" in again.log
    nothing = runner.decide("promote")
    assert (nothing.code, nothing.outputs["reason"]) == (15, "no-release"), nothing.log


@pytest.mark.real_kubernetes
def test_a_promotion_that_is_run_again_leaves_a_later_canary_alone(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    for number, decided in (("2", True), ("3", False)):
        waits = runner.canary(app(busybox, f"v{number}"), public(), steps="50")
        assert (waits.code, waits.outputs["status"]) == (0, "waiting"), waits.log
        assert not decided or runner.decide("promote", revision=number).code == 0
    again = runner.decide("promote", revision="2")
    assert again.code == 0 and "nothing to do: revision 2 is" in again.log, again.log
    assert "removed" not in again.log and states(runner.cluster)[3] == "waiting"
    done = runner.decide("promote", revision="3")
    assert done.code == 0, done.log
    runner.plain("v3", 2)


def test_rejected_then_retried_then_promoted(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    assert runner.canary(app(busybox, "v2"), public(), steps="50").code == 0
    rejected = runner.decide("reject", revision="2")
    assert (rejected.code, rejected.outputs["status"]) == (0, "rolled-back"), rejected.log
    assert "revision 2 is rejected and its canary removed; revision 1 has all of the traffic" in rejected.log
    runner.plain("v1", 2)
    assert runner.decide("reject", revision="2").code == 0
    assert runner.canary(app(busybox, "v3"), public(), steps="50").code == 0
    assert runner.decide("promote").code == 0
    runner.plain("v3", 2)
    assert states(runner.cluster) == {3: "deployed", 2: "rolled-back", 1: "superseded"}
    back = runner.run("rollback")
    assert (back.code, back.outputs["revision"]) == (0, "1"), back.log
    runner.plain("v1", 2)


@pytest.mark.real_kubernetes
def test_a_rejected_canary_leaves_before_the_stable_version_has_its_pods_again(runner: Runner, busybox: str) -> None:
    """New connections reach the stable version at once; its other pods take their time to start."""
    late = app(busybox)
    command = late["spec"]["template"]["spec"]["containers"][0]["command"]
    command[2] = command[2].replace("exec", "/bin/busybox sleep 8; exec")
    deploy(runner.cluster, late, public())
    waits = runner.canary(app(busybox, "v2"), public(), steps="50")
    assert waits.code == 0, waits.log
    with clients(waits.outputs["endpoint"] + "/cgi-bin/predict") as users:
        rejected = runner.decide("reject")
        ended = time.monotonic()
        time.sleep(1)
    assert rejected.code == 0, rejected.log
    assert "Service web leads to the stable version alone" in rejected.log
    assert users.failures() == [] and users.total["v2"] > 0
    assert not users.between(ended - 5, time.monotonic())["v2"]
    runner.plain("v1", 2)


@pytest.mark.real_kubernetes
def test_a_new_version_that_wants_fewer_pods(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox, replicas=4), public())
    done = runner.canary(app(busybox, "v2"), public())
    assert done.code == 0, done.log
    runner.plain("v2", 2)


@pytest.mark.real_kubernetes
def test_rollback_while_a_canary_waits_is_its_rejection(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    assert runner.canary(app(busybox, "v2"), public(), steps="50").code == 0
    back = runner.run("rollback", from_revision="2", why="the smoke test failed")
    assert (back.code, back.outputs["status"], back.outputs["revision"]) == (0, "rolled-back", "1"), back.log
    assert "revision 2 was a canary: it is rejected" in back.summary
    runner.plain("v1", 2)
    assert states(runner.cluster) == {2: "rolled-back", 1: "deployed"}


@pytest.mark.real_kubernetes
def test_the_deadline_aborts(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    late = app(busybox, "v2")
    late["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 9}, "periodSeconds": 1}
    second = runner.canary(late, public(), timeout="6s")
    assert second.code == 11, second.log
    assert "not ready within" in second.log
    runner.plain("v1", 2)


def test_a_share_that_the_pods_cannot_give_is_refused_before_anything_changes(runner: Runner, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), public())
    second = runner.canary(app(busybox, "v2"), public(), steps="10, 100")
    assert (second.code, second.outputs["reason"]) == (2, "input"), second.log
    assert (
        "2 pods cannot give a canary 10 %" in second.log and "Possible by the number of pods: 50, and 100" in second.log
    )
    assert list(states(runner.cluster)) == [1]


@pytest.mark.real_kubernetes
def test_a_promotion_that_fails_goes_back(runner: Runner, busybox: str) -> None:
    """The canary is ready in time; the stable version, rolled after it, is not."""
    deploy(runner.cluster, app(busybox), public())
    slow = app(busybox, "v2")
    slow["spec"]["minReadySeconds"] = 5
    second = runner.canary(slow, public(), pause="0s", timeout="11s", rollback_timeout="40s")
    assert (second.code, second.outputs["status"]) == (11, "rolled-back"), second.log
    assert "canary: promoted" in second.log and "Revision 1 serves again" in second.log
    runner.plain("v1", 2)
    assert states(runner.cluster) == {2: "rolled-back", 1: "deployed"}


def test_what_is_promoted_is_not_rejected_and_what_a_killed_promotion_left_goes(runner: Runner, busybox: str) -> None:
    """The new version wants fewer pods than the stable one had: nothing gives it those back."""
    deploy(runner.cluster, app(busybox, replicas=4), public())
    assert runner.canary(app(busybox, "v2"), public(), steps="50").code == 0
    killed = runner.dying("before", "DELETE /apis/apps/v1/").decide("promote")
    assert killed.code == -signal.SIGKILL and runner.live("Deployment", "web-canary"), killed.log
    assert states(runner.cluster)[2] == "deployed"
    rejected = runner.decide("reject", revision="2")
    assert (rejected.code, rejected.outputs["reason"]) == (15, "no-release"), rejected.log
    assert "Revision 2 of web is promoted already: no canary is left to reject" in rejected.log
    assert "what is left of a promoted canary is removed" in rejected.log and "`rollback`" in rejected.log
    runner.plain("v2", 2)
    assert states(runner.cluster)[2] == "deployed"
