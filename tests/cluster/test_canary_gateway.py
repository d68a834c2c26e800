"""Canaries by the weights of an HTTPRoute, on the real controller of the cluster; what its clients see."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.apps import PREDICT, service
from tests.cluster.canaries import Runner, app, clients, wait_for
from tests.cluster.deploying import deploy, states
from tests.cluster.test_killed import dying

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.strategies import routes

pytestmark = pytest.mark.real_kubernetes

API = "gateway.networking.k8s.io/v1"


@pytest.fixture
def runner(tmp_path: Path, kubeconfig: str, cluster: ApiServer) -> Runner:
    return Runner(tmp_path, kubeconfig, cluster)


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, api: ApiServer) -> Iterator[str]:
    """One Gateway for the routes of all tests; the URL that it is asked at."""
    name, _, port = request.config.getoption("--gateway").partition(":")
    if not api.kind(API, "Gateway") or not api.get(Ref(API, "GatewayClass", "", name)):
        pytest.skip(f"NO GATEWAY: this cluster has no Gateway API with a class {name} (--gateway CLASS:PORT)")
    ref = Ref(API, "Gateway", "default", f"ml-deploy-test-{uuid.uuid4().hex[:8]}")
    routes_of_all = {"namespaces": {"from": "All"}}
    listener = {"name": "http", "port": int(port), "protocol": "HTTP", "allowedRoutes": routes_of_all}
    api.create({"apiVersion": API, "kind": "Gateway", "metadata": {"name": ref.name, "namespace": ref.namespace},
                "spec": {"gatewayClassName": name, "listeners": [listener]}})  # fmt: skip
    try:
        wait_for(lambda: ((api.get(ref) or {}).get("status") or {}).get("addresses"))
        found = api.get(ref)
        assert found
        yield f"http://{found['status']['addresses'][0]['value']}:{port}{PREDICT}#{ref.name}"
    finally:
        api.delete(ref)


def host(runner: Runner) -> str:
    """One controller serves the Gateways of all tests, also of those whose namespaces are on their way out."""
    return f"{runner.cluster.namespace}.example"


def route(runner: Runner, gateway: str) -> Object:
    refs = [{"name": "web", "port": 80}]
    rules = [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": refs}]
    return {"apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": "web"},
            "spec": {"parentRefs": [{"name": gateway.partition("#")[2], "namespace": "default"}], "hostnames": [host(runner)], "rules": rules}}  # fmt: skip


def untouched(runner: Runner) -> None:
    """The route leads to one Service again."""
    live = runner.live("HTTPRoute", "web")
    assert live and not routes.is_edited(live)
    assert [[ref["name"] for ref in rule["backendRefs"]] for rule in live["spec"]["rules"]] == [["web"]]


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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample of the writes; `--every-write` takes them all."""
    if "at" in metafunc.fixturenames:
        metafunc.parametrize("at", range(1, 22) if metafunc.config.getoption("--every-write") else (9,))


def test_killed_at_a_write_and_run_again(runner: Runner, gateway: str, busybox: str, at: int) -> None:
    def objects(answer: str) -> list[Object]:
        return [service(), app(busybox, answer), route(runner, gateway)]

    deploy(runner.cluster, *objects("v1"))
    space = runner.cluster.namespace
    with clients(gateway, host=host(runner)) as users:
        killed = dying(runner.kubeconfig, space, "canary", "after", at, objects("v2"))
        time.sleep(1)
        assert dying(runner.kubeconfig, space, "canary", "after", 1000, objects("v2")) == 0
        time.sleep(2)
    assert killed or at > 15
    assert users.failures() == []
    runner.plain("v2", 2)
    untouched(runner)
