"""Canaries by the weights of an HTTPRoute, on the real controller of the cluster; what its clients see."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cluster.apps import service
from tests.cluster.canaries import Runner, app, clients, host, route, untouched
from tests.cluster.deploying import deploy, states

from ml_deploy.adapters.cluster import ApiServer

pytestmark = pytest.mark.real_kubernetes


@pytest.fixture
def runner(tmp_path: Path, kubeconfig: str, cluster: ApiServer) -> Runner:
    return Runner(tmp_path, kubeconfig, cluster)


def test_clients_see_the_weights_and_no_request_fails(runner: Runner, gateway: str, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), service(), route(runner, gateway))
    with clients(gateway, host=host(runner)) as users:
        done = runner.canary(app(busybox, "v2"), service(), route(runner, gateway), steps="10, 50, 100", pause="6s", rate="20",
                             cases=runner.cases("v2"))  # fmt: skip
        time.sleep(4)
    assert done.code == 0, done.log
    assert users.failures() == []
    assert [one["share"] for one in done.report["canary"]] == [10, 50]
    assert "no worse than the stable one" in done.log, done.log
    runner.plain("v2", 2)
    untouched(runner)


def test_wrong_predictions_never_get_a_weight(runner: Runner, gateway: str, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), service(), route(runner, gateway))
    with clients(gateway, host=host(runner)) as users:
        done = runner.canary(app(busybox, "bad"), service(), route(runner, gateway), cases=runner.cases("v2"))
    assert done.code == 12, done.log
    assert users.failures() == [] and users.total["bad"] == 0
    runner.plain("v1", 2)
    untouched(runner)


def test_a_slower_canary_is_aborted_with_figures(runner: Runner, gateway: str, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), service(), route(runner, gateway))
    with clients(gateway, host=host(runner)) as users:
        done = runner.canary(app(busybox, "v2", delay="0.08"), service(), route(runner, gateway), steps="50, 100", pause="6s",
                             rate="20", cases=runner.cases("v2"))  # fmt: skip
        time.sleep(4)
    assert (done.code, done.outputs["reason"]) == (13, "limits"), done.log
    assert "is worse than the stable version: the new version is slower than the stable one (new median" in done.log
    assert done.report["canary"][0]["compared"]["verdict"] == "slower"
    assert users.failures() == []
    runner.plain("v1", 2)
    untouched(runner)
    assert states(runner.cluster) == {2: "failed", 1: "deployed"}


def test_a_waiting_canary_is_rejected_without_a_failed_request(runner: Runner, gateway: str, busybox: str) -> None:
    deploy(runner.cluster, app(busybox), service(), route(runner, gateway))
    with clients(gateway, host=host(runner)) as users:
        waits = runner.canary(app(busybox, "v2"), service(), route(runner, gateway), steps="50", pause="1s")
        assert waits.outputs["status"] == "waiting", waits.log
        start = time.monotonic()
        time.sleep(4)
        end = time.monotonic()
        rejected = runner.decide("reject")
        after = time.monotonic()
        time.sleep(4)
    assert rejected.code == 0, rejected.log
    assert 40 <= users.between(start, end).share("v2") <= 60
    assert users.between(after, after + 4)["v2"] == 0
    assert users.failures() == []
    runner.plain("v1", 2)
    untouched(runner)
