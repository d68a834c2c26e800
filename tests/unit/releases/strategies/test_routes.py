"""A canary's share as weights of an HTTPRoute, and the rules as they were before."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ml_deploy.checks.http import Request
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.strategies import edge, routes
from ml_deploy.releases.strategies.routes import EDIT, TRACK, Edit

PREDICT = Request("POST", "/predict")


def ref(name: str, weight: int | None = 1, **more: Any) -> Object:
    made = {"group": "", "kind": "Service", "name": name, "port": 80, **more}
    return made if weight is None else {**made, "weight": weight}


def rule(*refs: Object, path: str = "/", kind: str = "PathPrefix", **more: Any) -> Object:
    return {"matches": [{"path": {"type": kind, "value": path}}], "backendRefs": list(refs), **more}


def route(*rules: Object, **meta: Any) -> Object:
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "ml", "resourceVersion": "7", **meta},
            "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["ml.example"], "rules": list(rules)}}  # fmt: skip


def put(live: Object, patch: Object) -> Object:
    """What a merge patch makes of a route."""
    after = copy.deepcopy(live)
    notes = after["metadata"].setdefault("annotations", {})
    for name, value in patch["metadata"]["annotations"].items():
        notes.pop(name, None) if value is None else notes.update({name: value})
    after["spec"]["rules"] = copy.deepcopy(patch["spec"]["rules"])
    return after


def shared(live: Object, share: int, *, away: bool = False, request: Request = PREDICT) -> Object:
    return put(live, routes.edited(live, Edit("churn", "web", share, f"r7-{share}", request, away)))


def weights(live: Object, number: int = -1) -> dict[str, int]:
    return {one["name"]: one["weight"] for one in live["spec"]["rules"][number]["backendRefs"]}


def test_the_only_backend_is_shared_with_its_canary() -> None:
    live = route(rule(ref("web", None)))
    assert weights(shared(live, 10)) == {"web": 90, "web-canary": 10}
    assert weights(shared(shared(live, 10), 50)) == {"web": 50, "web-canary": 50}


@pytest.mark.parametrize("share", [1, 10, 33, 50, 99])
@pytest.mark.parametrize("weight", [1, 3, 100])
def test_the_proportions_of_other_backends_stay(share: int, weight: int) -> None:
    after = weights(shared(route(rule(ref("web", weight), ref("other", 7))), share))
    whole = after["web"] + after["web-canary"]
    assert after["web-canary"] * 100 == whole * share
    assert whole * 7 == after["other"] * weight


def test_other_rules_filters_matches_and_fields_stay() -> None:
    other = rule(ref("other"), path="/other", timeouts={"request": "3s"})
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}]
    mine = rule(ref("web", filters=filters), path="/predict", filters=filters, name="mine", timeouts={"request": "9s"})
    after = shared(route(other, mine), 10)
    canary, stable, same, weighed = after["spec"]["rules"]
    assert same == other
    assert {**weighed, "backendRefs": []} == {**mine, "backendRefs": []}
    assert [one["filters"] for one in weighed["backendRefs"]] == [filters, filters]
    assert [one["backendRefs"][0]["name"] for one in (canary, stable)] == ["web-canary", "web"]
    assert "name" not in canary and canary["timeouts"] == {"request": "9s"}
    assert canary["filters"][0] == filters[0]
    assert canary["matches"] == [{"path": {"type": "PathPrefix", "value": "/predict"},
                                  "headers": [{"type": "Exact", "name": TRACK, "value": "canary"}]}]  # fmt: skip
    assert canary["filters"][1]["responseHeaderModifier"]["set"] == [{"name": EDIT, "value": "r7-10"}]


def test_several_rules_are_weighed_and_one_is_asked() -> None:
    after = shared(route(rule(ref("web"), path="/a"), rule(ref("web"), path="/predict")), 50)
    assert [len(one["backendRefs"]) for one in after["spec"]["rules"]] == [1, 1, 2, 2]
    assert after["spec"]["rules"][0]["matches"][0]["path"]["value"] == "/predict"


def test_without_a_share_nobody_but_who_asks_for_it_gets_the_canary() -> None:
    live = route(rule(ref("web", None)))
    after = shared(live, 0)
    assert after["spec"]["rules"][2:] == live["spec"]["rules"]
    assert after["spec"]["rules"][0]["backendRefs"][0]["name"] == "web-canary"
    gone = shared(after, 0, away=True)
    assert [one["backendRefs"][0]["name"] for one in gone["spec"]["rules"]] == ["web", "web", "web"]


@pytest.mark.parametrize("weight", [None, 1, 30])
def test_undone_is_as_before(weight: int | None) -> None:
    live = route(rule(ref("other"), path="/o"), rule(ref("web", weight), ref("other", 2)), rule(ref("web"), path="/b"))
    after = live
    for share in (0, 10, 50, 0):
        after = shared(after, share)
        assert routes.original(after) == live["spec"]["rules"]
    assert (routes.edited_for(after), routes.edited_for(live)) == (("churn", "web"), ("", ""))
    patch = routes.undone(after)
    assert patch and put(after, patch)["spec"] == live["spec"] and patch["metadata"]["resourceVersion"] == "7"
    assert not routes.is_edited(put(after, patch))


def test_what_others_changed_meanwhile_stays() -> None:
    after = shared(route(rule(ref("web"))), 10)
    after["spec"]["rules"].append(rule(ref("new"), path="/new"))
    rules = routes.original(after)
    assert [[one["name"] for one in each["backendRefs"]] for each in rules] == [["web"], ["new"]]


def test_nothing_to_undo() -> None:
    assert routes.undone(route(rule(ref("web")))) is None


@pytest.mark.parametrize(
    "refs, led",
    [([ref("web")], True), ([ref("other"), ref("web")], True), ([ref("web", namespace="ml")], True), ([], False),
     ([ref("web", namespace="else")], False), ([ref("web", 0)], False), ([ref("web", kind="Bucket", group="x")], False)],
)  # fmt: skip
def test_which_routes_lead_to_the_service(refs: list[Object], led: bool) -> None:
    assert routes.leads_to(route(rule(*refs)), "web") is led


def way(path: str, *rules: Object, method: str = "POST") -> edge.Way | None:
    return edge.way(rules, Request(method, path), lambda one: bool(one["name"] == "web"))


def rewrite(**path: str) -> list[Object]:
    return [{"type": "URLRewrite", "urlRewrite": {"path": path}}]


def test_the_path_outside() -> None:
    strip = rewrite(type="ReplacePrefixMatch", replacePrefixMatch="/")
    deeper = rewrite(type="ReplacePrefixMatch", replacePrefixMatch="/v2")
    full = rewrite(type="ReplaceFullPath", replaceFullPath="/predict")
    assert way("/predict?a=b", rule(ref("web"))) == (0, "/predict?a=b")
    assert way("/predict", rule(ref("other")), rule(ref("web"), path="/predict")) == (1, "/predict")
    assert way("/predict", rule(ref("web"), path="/churn", filters=strip)) == (0, "/churn/predict")
    assert way("/v2/models/x", rule(ref("web"), path="/churn/", filters=deeper)) == (0, "/churn/models/x")
    assert way("/predict", rule(ref("web"), path="/p", filters=full)) == (0, "/p")
    assert way("/predict", rule(ref("web"), path="/predict", kind="Exact")) == (0, "/predict")
    assert way("/predict", {"backendRefs": [ref("web")]}) == (0, "/predict")


def test_what_cannot_be_asked_outside() -> None:
    redirect = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]
    assert way("/predict", rule(ref("web"), path="/pre")) is None
    assert way("/predict", rule(ref("web"), path="/.*", kind="RegularExpression")) is None
    assert way("/predict", rule(ref("web"), filters=redirect)) is None
    assert (
        way("/predict", {"matches": [{"headers": [{"name": "a", "value": "b"}]}], "backendRefs": [ref("web")]}) is None
    )
    assert way("/predict", {"matches": [{"method": "GET"}], "backendRefs": [ref("web")]}) is None


def gateway(*listeners: Object, value: str = "20.1.2.3") -> Object:
    return {"spec": {"listeners": list(listeners)}, "status": {"addresses": [{"type": "IPAddress", "value": value}]}}


def test_the_address_of_a_gateway() -> None:
    plain = {"name": "web", "port": 80, "protocol": "HTTP"}
    other = {"name": "alt", "port": 8081, "protocol": "HTTP"}
    safe = {"name": "tls", "port": 443, "protocol": "HTTPS"}
    live = route()
    assert edge.address(live, gateway(plain), {}) == ("http://20.1.2.3", "ml.example")
    assert edge.address(live, gateway(plain, other), {"sectionName": "alt"}) == ("http://20.1.2.3:8081", "ml.example")
    assert edge.address(live, gateway(plain, safe), {}) == ("https://ml.example", "ml.example")
    assert edge.address(live, gateway(plain, value="fd00::1"), {}) == ("http://[fd00::1]", "ml.example")
    live["spec"]["hostnames"] = ["*.example"]
    assert edge.address(live, gateway(plain), {}) == ("http://20.1.2.3", "canary.example")
    live["spec"]["hostnames"] = []
    assert edge.address(live, gateway(plain), {}) == ("http://20.1.2.3", "")
    assert edge.address(live, gateway(safe), {}) == ("", "")
    assert edge.address(live, {"spec": {"listeners": [plain]}}, {}) == ("", "")
    ((found, _),) = edge.parents(live)
    assert (found.kind, found.namespace, found.name) == ("Gateway", "ml", "gw")
