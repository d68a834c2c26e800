"""A canary, its promotion or rejection killed at any write: something serves, and the next run converges."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.apps import service
from tests.cluster.canaries import Runner, app
from tests.cluster.deploying import deploy, states
from tests.cluster.test_killed import answers, dying

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object

pytestmark = pytest.mark.real_kubernetes
DONE = 1000  # more writes than there are

SAMPLE = {
    "canary": (7, 13), "over it": (9,), "promote": (3, 7), "reject": (2,),
}  # fmt: skip
ALL = {"canary": range(1, 26), "over it": range(3, 26, 3), "promote": range(1, 14), "reject": range(1, 8)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of the writes; `--every-write` takes them all, before and after."""
    every = metafunc.config.getoption("--every-write")
    what = metafunc.function.__doc__.split(":")[0]
    metafunc.parametrize("at", (ALL if every else SAMPLE)[what])
    metafunc.parametrize("when", ("before", "after") if every else ("after",))


@pytest.fixture
def runner(tmp_path: Path, kubeconfig: str, cluster: ApiServer) -> Runner:
    return Runner(tmp_path, kubeconfig, cluster)


def release(busybox: str, answer: str) -> list[Object]:
    return [service(), app(busybox, answer)]


def test_a_killed_canary(runner: Runner, busybox: str, when: str, at: int) -> None:
    """canary: run again, it converges."""
    deploy(runner.cluster, *release(busybox, "v1"))
    space = runner.cluster.namespace
    dying(runner.kubeconfig, space, "canary", when, at, release(busybox, "v2"))
    assert answers(runner.cluster) in ("v1", "v2")
    assert dying(runner.kubeconfig, space, "canary", "after", DONE, release(busybox, "v2")) == 0
    assert answers(runner.cluster) == "v2"
    runner.plain("v2", 2)


def test_a_deployment_over_a_killed_canary(runner: Runner, busybox: str, when: str, at: int) -> None:
    """over it: another release by another strategy."""
    deploy(runner.cluster, *release(busybox, "v1"))
    space = runner.cluster.namespace
    dying(runner.kubeconfig, space, "canary", when, at, release(busybox, "v2"))
    assert answers(runner.cluster) in ("v1", "v2")
    assert dying(runner.kubeconfig, space, "rolling", "after", DONE, release(busybox, "v3")) == 0
    assert answers(runner.cluster) == "v3"
    runner.plain("v3", 2)


def test_a_killed_promotion(runner: Runner, busybox: str, when: str, at: int) -> None:
    """promote: run again, it is finished."""
    deploy(runner.cluster, *release(busybox, "v1"))
    assert runner.canary(*release(busybox, "v2"), steps="50", pause="0s").code == 0
    space = runner.cluster.namespace
    killed = dying(runner.kubeconfig, space, "promote", when, at)
    assert answers(runner.cluster) in ("v1", "v2")
    if killed:
        assert dying(runner.kubeconfig, space, "promote", "after", DONE) == 0
    assert answers(runner.cluster) == "v2"
    runner.plain("v2", 2)
    assert states(runner.cluster)[2] in ("deployed", "good")


def test_a_killed_rejection(runner: Runner, busybox: str, when: str, at: int) -> None:
    """reject: run again, it is finished."""
    deploy(runner.cluster, *release(busybox, "v1"))
    assert runner.canary(*release(busybox, "v2"), steps="50", pause="0s").code == 0
    space = runner.cluster.namespace
    killed = dying(runner.kubeconfig, space, "reject", when, at)
    assert answers(runner.cluster) in ("v1", "v2")
    if killed:
        assert dying(runner.kubeconfig, space, "reject", "after", DONE) == 0
    assert answers(runner.cluster) == "v1"
    runner.plain("v1", 2)
    assert states(runner.cluster) == {2: "rolled-back", 1: "deployed"}
