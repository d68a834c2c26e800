"""What a canary is made of, what its records mean to others, and how a gateway is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.clock import FakeClock

from ml_deploy.checks.cases import parse
from ml_deploy.checks.http import Answer, Endpoint, EndpointAccess, Request
from ml_deploy.checks.load import Load, Plan, Sample
from ml_deploy.errors import Conflict, EndpointDown, NoRelease, WrongAnswers
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.history import (
    DEPLOYED,
    DEPLOYING,
    FAILED,
    JUDGED_GOOD,
    ROLLED_BACK,
    SUPERSEDED,
    WAITING,
    Release,
)
from ml_deploy.releases.selectors import selects
from ml_deploy.releases.strategies import canary_objects, canary_records
from ml_deploy.releases.strategies.canary_edge import Edge
from ml_deploy.releases.strategies.routes import CANARY, EDIT, TRACK

LABELS = {"app": "web", "tier": "front"}


def workload() -> Object:
    template = {
        "metadata": {"labels": dict(LABELS), "annotations": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}]},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ml"},
            "spec": {"replicas": 9, "minReadySeconds": 2, "selector": {"matchLabels": {"app": "web"}},
                     "template": template}}  # fmt: skip


def service(**selector: str) -> Object:
    spec = {"selector": selector, "type": "NodePort", "clusterIP": "10.0.0.7",
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30000}]}  # fmt: skip
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ml"}, "spec": spec}


def made(*services: Object) -> Object:
    return canary_objects.deployment(
        workload(), "ml", app="churn", revision=7, pods=2, stable_pods=10, apart_from=services
    )


def test_a_canary_has_a_selector_of_its_own_and_the_labels_of_the_stable_pods() -> None:
    canary, before = made(), workload()
    assert canary["metadata"]["name"] == "web-canary" and canary["spec"]["replicas"] == 2
    assert canary["spec"]["selector"]["matchLabels"] == {"ml-deploy/app": "churn", "ml-deploy/track": "canary"}
    pods = canary["spec"]["template"]["metadata"]["labels"]
    assert selects(LABELS, pods) and selects(canary["spec"]["selector"]["matchLabels"], pods)
    assert not selects(canary["spec"]["selector"]["matchLabels"], LABELS)
    assert (
        canary["spec"]["minReadySeconds"] == 2
        and canary["spec"]["template"]["spec"] == before["spec"]["template"]["spec"]
    )
    assert canary["metadata"]["annotations"] == {
        "ml-deploy/canary-of": "web", "ml-deploy/share": "0", "ml-deploy/stable-replicas": "10"
    }  # fmt: skip
    assert canary_objects.is_ours(canary, "churn") and not canary_objects.is_ours(canary, "other")
    assert workload() == before


def test_services_that_must_not_lead_to_it_do_not() -> None:
    several = [service(app="web"), service(tier="front"), service(app="web", tier="front")]
    labels = made(*several)["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == "web-canary" and labels["tier"] == "front-canary"
    assert not any(selects(one["spec"]["selector"], labels) for one in several)
    assert len(made(service(app="web"))["spec"]["template"]["metadata"]["labels"]["app"]) <= 63


def test_its_service_is_one_inside_the_cluster() -> None:
    found = canary_objects.service(service(app="web"), app="churn", revision=7)
    assert found["metadata"]["name"] == "web-canary"
    assert found["spec"] == {"type": "ClusterIP", "selector": canary_objects.pod_labels("churn"),
                             "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}  # fmt: skip


# records


def recorded(revision: int, state: str, **more: Any) -> Release:
    return Release(app="churn", namespace="ml", revision=revision, state=state, created="2026-11-21T13:00:00Z", **more)


def test_one_that_waits_blocks_others_and_says_how_to_go_on() -> None:
    canary_records.refuse_waiting([recorded(1, DEPLOYED)])
    with pytest.raises(Conflict, match="Revision 2 of churn waits as a canary since 2026-11-21T13:00:00Z") as caught:
        canary_records.refuse_waiting([recorded(2, WAITING, run_url="https://github/run/1"), recorded(1, DEPLOYED)])
    assert "https://github/run/1" in caught.value.message and "action: promote" in caught.value.hint


@pytest.mark.parametrize("action", ["promote", "reject"])
def test_the_one_that_waits_is_meant(action: str) -> None:
    history = [recorded(2, WAITING), recorded(1, DEPLOYED)]
    for revision in (None, 2):
        assert canary_records.meant(history, "churn", action, revision) == (history[0], False)


def test_a_job_that_is_run_again_finds_its_work_done() -> None:
    history = [recorded(3, DEPLOYED), recorded(2, ROLLED_BACK), recorded(1, FAILED)]
    assert canary_records.meant(history, "churn", "promote", 3) == (history[0], True)
    assert canary_records.meant(history, "churn", "reject", 2) == (history[1], True)
    for action, revision in (("promote", 2), ("reject", 3), ("promote", None), ("reject", 9)):
        with pytest.raises(NoRelease, match="No canary of churn waits"):
            canary_records.meant(history, "churn", action, revision)


@pytest.mark.parametrize("revision", [None, 2])
def test_one_that_is_promoted_is_not_rejected_and_the_way_back_is_named(revision: int | None) -> None:
    history = [recorded(2, JUDGED_GOOD, strategy="canary", activated=2), recorded(1, SUPERSEDED, activated=1)]
    with pytest.raises(NoRelease, match="Revision 2 of churn is promoted already: no canary is left") as caught:
        canary_records.meant(history, "churn", "reject", revision)
    assert "`rollback`" in caught.value.hint
    rolled_out = [recorded(2, DEPLOYED, strategy="rolling", activated=2)]
    with pytest.raises(NoRelease, match="No canary of churn waits"):
        canary_records.meant(rolled_out, "churn", "reject", revision)


def test_what_a_cancelled_run_left_is_rejected_and_not_promoted() -> None:
    history = [recorded(2, DEPLOYING, strategy="canary"), recorded(1, DEPLOYED)]
    assert canary_records.meant(history, "churn", "reject", 2) == (history[0], False)
    with pytest.raises(NoRelease, match="revision 2 is deploying"):
        canary_records.meant(history, "churn", "promote", 2)
    assert canary_records.undecided([recorded(2, DEPLOYING, strategy="rolling")]) is None


def test_another_one_waits() -> None:
    with pytest.raises(Conflict, match="Revision 3 of churn waits, not revision 2"):
        canary_records.meant([recorded(3, WAITING), recorded(2, DEPLOYED)], "churn", "reject", 2)


# the gateway


class Gateway(Endpoint):
    """Answers as it was told to, one answer after the other; the last one stays."""

    def __init__(self, *answers: Answer | EndpointDown, load: Load | None = None) -> None:
        self.answers, self.asked, self.given = list(answers), list[Request](), load

    def ask(self, request: Request) -> Answer:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, EndpointDown):
            raise answer
        return answer

    def load(self, plan: Plan, requests: Sequence[Request]) -> Load:
        assert self.given
        self.asked = list(requests)
        return self.given

    def close(self) -> None:
        pass


class Routed:
    """A cluster that has one Gateway."""

    def get(self, ref: Ref) -> Object | None:
        assert ref.kind == "Gateway"
        return {
            "spec": {"listeners": [{"port": 80, "protocol": "HTTP"}]},
            "status": {"addresses": [{"value": "1.2.3.4"}]},
        }


ROUTE: Object = {
    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "ml"},
    "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["ml.example"],
             "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": "web"}]}]},
}  # fmt: skip
CASE = parse(json.dumps({"path": "/predict", "method": "GET", "expect": 1}), 1)


def at(gateway: Endpoint, clock: FakeClock, said: Callable[[str], None] = print) -> Edge:
    def opened(access: EndpointAccess) -> Endpoint:
        assert access.url == "http://1.2.3.4"
        return gateway

    cluster: Any = Routed()
    return Edge(cluster, ROUTE, "web", [CASE], open_endpoint=opened, clock=clock, tell=said)


def answer(status: int = 200, edit: str = "") -> Answer:
    return Answer(status, {EDIT: edit} if edit else {}, b"1")


def test_the_gateway_is_asked_until_it_works_with_the_edit() -> None:
    gateway = Gateway(answer(404), answer(503, "new"), answer(200, "old"), answer(200, "new"))
    clock = FakeClock()
    at(gateway, clock).wait("new", canary=True, seconds=30)
    assert len(gateway.asked) == 6 and len(clock.slept) == 3  # three times in a row
    assert gateway.asked[0].headers == {"Host": "ml.example", TRACK: CANARY}


def test_a_gateway_that_never_heeds_the_edit_is_an_error() -> None:
    with pytest.raises(EndpointDown, match="does not lead to the canary within 30 s: it answers 503"):
        at(Gateway(answer(503, "new")), FakeClock()).wait("new", canary=True, seconds=30)


def test_a_gateway_that_sets_no_headers_is_given_time() -> None:
    clock, said = FakeClock(), list[str]()
    at(Gateway(answer(200)), clock, said.append).wait("new", canary=True, seconds=60)
    assert clock.slept[-1] == 5.0 and "does not set headers" in said[-1]


def test_a_gateway_out_of_reach_is_given_time_and_not_asked_again() -> None:
    clock, said = FakeClock(), list[str]()
    gateway = Gateway(EndpointDown("no route to host."))
    edge = at(gateway, clock, said.append)
    edge.wait("new", canary=True, seconds=60)
    count = len(gateway.asked)
    assert clock.slept[-1] == 5.0 and "cannot be asked from here (no route to host)" in said[-1] and not edge.reached
    edge.wait("newer", canary=True, seconds=60)
    assert len(gateway.asked) == count and edge.compare(10, 10) is None


def loaded(body: bytes = b"1", count: int = 60, slow: float = 0.01) -> Load:
    samples = [Sample(which, slow if which == 0 else 0.01, 0.0, 200) for _ in range(count) for which in (0, 1)]
    load = Load(tuple(samples), 0, 1.0)
    load.answers[(0, 200, body)] += count
    return load


def test_both_versions_are_asked_in_turn_and_compared() -> None:
    gateway = Gateway(answer(), load=loaded(slow=0.02))
    found = at(gateway, FakeClock()).compare(10, 10)
    assert found and found.verdict == "slower"
    assert [one.headers[TRACK] for one in gateway.asked] == ["canary", "stable"]
    assert [one.path for one in gateway.asked] == ["/predict", "/predict"]


def test_a_wrong_answer_under_load_is_no_matter_of_speed() -> None:
    with pytest.raises(WrongAnswers, match="answers wrongly under load \\(60 times\\)"):
        at(Gateway(answer(), load=loaded(b"2")), FakeClock()).compare(10, 10)
