"""A new version is asked before a user reaches it, on a cluster."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from tests.cluster.apps import PREDICT, service, web
from tests.cluster.deploying import deploy

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.checks.cases import Case, parse
from ml_deploy.errors import Cancelled, EndpointDown, RolloutFailed, WrongAnswers
from ml_deploy.releases import before_traffic
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.wait import wait_ready


def case(answer: str) -> Case:
    return parse(json.dumps({"path": PREDICT, "method": "GET", "expect": {"prediction": answer}}), 1)


def ask(
    cluster: ApiServer, objects: list[Object], expected: str, *, seconds: float = 40, said: list[str] | None = None
) -> Any:
    def wait(obj: Object, left: float) -> None:
        wait_ready(cluster, [obj], seconds=left, clock=time, tell=print)

    return before_traffic.ask_before_traffic(
        cluster, before_traffic.target(objects), [case(expected)], app="web", revision=2, wait=wait, clock=time,
        seconds=seconds, tell=(said if said is not None else []).append,
    )  # fmt: skip


def pods(cluster: ApiServer) -> list[Object]:
    found = cluster.list("v1", "Pod", cluster.namespace, selector=before_traffic.ROLE)
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


@pytest.mark.real_kubernetes  # budgets need their controller
def test_one_pod_answers_outside_every_service_and_is_removed(cluster: ApiServer, busybox: str) -> None:
    deploy(cluster, service(), web(busybox, answer="v1"))
    budget: Object = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
                      "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
    cluster.create(budget)
    seen: dict[str, Any] = {}

    def wait(obj: Object, left: float) -> None:
        wait_ready(cluster, [obj], seconds=left, clock=time, tell=print)
        time.sleep(1.5)  # as long as controllers need to notice it
        (pod,) = pods(cluster)
        seen["owners"] = pod["metadata"].get("ownerReferences")
        slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", cluster.namespace)
        seen["served"] = [e["targetRef"]["name"] for s in slices for e in s.get("endpoints") or []]
        seen["name"] = pod["metadata"]["name"]
        held = cluster.get(Ref("policy/v1", "PodDisruptionBudget", cluster.namespace, "web"))
        seen["expected"] = held and held["status"]["expectedPods"]

    objects = [service(), web(busybox, answer="v2")]
    report = before_traffic.ask_before_traffic(
        cluster, before_traffic.target(objects), [case("v2")], app="web", revision=2, wait=wait, clock=time, seconds=40,
        tell=print,
    )  # fmt: skip
    assert report.passed == 1 and not report.failures
    assert seen["owners"] is None and seen["expected"] == 1
    assert seen["served"] and seen["name"] not in seen["served"]
    assert pods(cluster) == []


def test_wrong_answers_stop_it_and_leave_nothing(cluster: ApiServer, busybox: str) -> None:
    with pytest.raises(WrongAnswers, match="golden prediction") as caught:
        ask(cluster, [service(), web(busybox, answer="bad")], "v2")
    assert "bad" in caught.value.details
    assert pods(cluster) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"crash": True}, "no such model|exit code 3|exited"), ({"pull": "localhost:1/none:1"}, "cannot be pulled")],
)
def test_it_says_why_the_pod_does_not_start(
    cluster: ApiServer, busybox: str, fault: dict[str, Any], words: str
) -> None:
    with pytest.raises(RolloutFailed, match=words):
        ask(cluster, [service(), web(busybox, **fault)], "v2", seconds=8)
    assert pods(cluster) == []


def test_a_server_that_never_listens_is_no_wrong_answer(cluster: ApiServer, busybox: str) -> None:
    deaf = web(busybox, answer="v2")
    container = deaf["spec"]["template"]["spec"]["containers"][0]
    del container["readinessProbe"]
    container["command"] = ["/bin/busybox", "sleep", "600"]
    with pytest.raises(EndpointDown):
        ask(cluster, [service(), deaf], "v2", seconds=3)


def test_it_is_removed_when_the_job_is_cancelled_and_leftovers_by_the_next_run(
    cluster: ApiServer, busybox: str
) -> None:
    objects = [service(), web(busybox, answer="v2")]

    def cancelled(_obj: Object, _left: float) -> None:
        raise Cancelled("The job was cancelled (SIGINT).")

    with pytest.raises(Cancelled):
        before_traffic.ask_before_traffic(
            cluster, before_traffic.target(objects), [case("v2")], app="web", revision=2, wait=cancelled, clock=time,
            seconds=40, tell=print,
        )  # fmt: skip
    assert pods(cluster) == []

    left = before_traffic.pod_of(objects[1], app="web", revision=1, namespace=cluster.namespace)
    cluster.create(left)  # as a killed run leaves it
    assert ask(cluster, objects, "v2").passed == 1
    assert pods(cluster) == []


def test_the_old_version_answers_all_the_while(cluster: ApiServer, busybox: str) -> None:
    deploy(cluster, service(), web(busybox, answer="v1"))
    answers: list[bytes] = []
    done = threading.Event()

    def user() -> None:
        while not done.is_set():
            answers.append(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)
            time.sleep(0.02)

    thread = threading.Thread(target=user)
    thread.start()
    with pytest.raises(WrongAnswers):
        ask(cluster, [service(), web(busybox, answer="bad")], "v2")
    done.set()
    thread.join()
    assert len(answers) > 5 and {json.loads(body)["prediction"] for body in answers} == {"v1"}
