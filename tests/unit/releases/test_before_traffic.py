"""What is asked before traffic, and what its pod looks like: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.checks.http import Answer, Request
from ml_deploy.errors import EndpointDown, InputError
from ml_deploy.releases import before_traffic, selectors


def workload(
    name: str = "web", *, image: str = "r/web:1", kind: str = "Deployment", ports: Any = None
) -> dict[str, Any]:
    ports = (
        [{"name": "metrics", "containerPort": 9}, {"name": "api", "containerPort": 8000}] if ports is None else ports
    )
    template = {
        "metadata": {"labels": {"app": name, "tier": "x"}, "annotations": {"note": "kept"}},
        "spec": {"containers": [{"name": "c", "image": image, "ports": ports}], "serviceAccountName": "sa"},
    }
    return {"kind": kind, "metadata": {"name": name}, "spec": {"replicas": 3, "template": template}}


def service(name: str = "web", target: int | str = "api") -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": target}]}
    return {"kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("objects", "port"),
    [([workload(), service()], 8000), ([workload(), service(target=8000)], 8000), ([workload()], 9),
     ([workload(ports=[{"name": "http", "containerPort": 5}])], 5)],
)  # fmt: skip
def test_the_port_is_where_the_service_leads(objects: list[dict[str, Any]], port: int) -> None:
    assert before_traffic.target(objects).port == port


def test_of_several_it_is_the_one_with_a_service_and_the_deployed_image() -> None:
    worker, web = workload("worker", image="r/w:1"), workload("web")
    assert before_traffic.target([worker, web, service()]).workload is web
    both = [worker, service("worker"), web, service()]
    assert before_traffic.target(both, images=["r/w:1"]).workload is worker
    with pytest.raises(InputError, match="2 workloads could answer"):
        before_traffic.target(both)


def test_without_a_port_there_is_nothing_to_ask() -> None:
    with pytest.raises(InputError, match="has a port"):
        before_traffic.target([workload(ports=[]), {"kind": "ConfigMap", "metadata": {"name": "c"}}])


def test_its_pod_is_the_template_with_labels_that_nothing_selects() -> None:
    pod = before_traffic.pod_of(workload(), app="web", revision=7, namespace="ml", seconds=30)
    assert pod["metadata"]["name"] == "web-r7-before-traffic" and pod["metadata"]["namespace"] == "ml"
    assert not {"app", "tier"} & set(pod["metadata"]["labels"])
    assert pod["metadata"]["annotations"] == {"note": "kept"}
    assert pod["spec"]["serviceAccountName"] == "sa" and pod["spec"]["containers"][0]["image"] == "r/web:1"
    assert pod["spec"]["activeDeadlineSeconds"] == 90, "one that a killed run leaves dies by itself"


def test_what_admission_goes_by_stays_on_its_pod() -> None:
    one = workload()
    one["spec"]["template"]["metadata"]["labels"] |= {"azure.workload.identity/use": "true"}
    labels = before_traffic.pod_of(one, app="web", revision=7, namespace="ml")["metadata"]["labels"]
    assert labels["azure.workload.identity/use"] == "true", "without its token it could not fetch its model"


def test_a_stateful_sets_claims_are_left_to_its_own_pods() -> None:
    one = workload(kind="StatefulSet")
    one["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
    pod = before_traffic.pod_of(one, app="web", revision=1, namespace="ml")
    assert pod["spec"]["volumes"] == [{"name": "data", "emptyDir": {}}]
    assert "volumes" not in one["spec"]["template"]["spec"], "the template itself is untouched"


class Time:
    """Time that passes only by sleeping."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_server_may_take_a_moment_to_listen_but_not_to_come_back() -> None:
    down = EndpointDown("refused")
    told: list[Answer | EndpointDown] = [down, down, Answer(200, {}, b"1"), down]

    def ask(_request: Request) -> Answer:
        one = told.pop(0)
        if isinstance(one, EndpointDown):
            raise one
        return one

    patient = before_traffic.first_patiently(ask, Time(), 100.0)
    assert patient(Request()).body == b"1"
    with pytest.raises(EndpointDown):
        patient(Request())


def test_patience_ends_at_the_deadline() -> None:
    def ask(_request: Request) -> Answer:
        raise EndpointDown("refused")

    clock = Time()
    with pytest.raises(EndpointDown):
        before_traffic.first_patiently(ask, clock, 3.0)(Request())
    assert clock.now <= 3.0

    def slow(_request: Request) -> Answer:
        clock.now += 10.0
        return Answer(200, {}, b"1")

    clock = Time()
    patient = before_traffic.first_patiently(slow, clock, 25.0)
    for _ in range(3):
        patient(Request())
    with pytest.raises(EndpointDown, match="deadline"):
        patient(Request())
    assert clock.now == 30.0


@pytest.mark.parametrize(
    ("selector", "matches"), [({"app": "web"}, True), ({"app": "web", "x": "y"}, False), ({}, False), (None, False)]
)
def test_selectors(selector: dict[str, str] | None, matches: bool) -> None:
    assert selectors.selects(selector, {"app": "web", "tier": "x"}) is matches
