"""Blue and green: what gets a colour, by which labels, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ml_deploy.errors import ManifestError
from ml_deploy.releases import colours, selectors
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.colouring import coloured
from ml_deploy.releases.colours import BASE, COLOUR, Colouring
from ml_deploy.releases.sources.manifests import Manifest


def obj(kind: str, name: str, **spec: Any) -> Object:
    return {"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name, "namespace": "ml"}, "spec": spec}


def workload(name: str = "web", kind: str = "Deployment", image: str = "web:1", **labels: str) -> Object:
    labels = labels or {"app": name}
    pod: Object = {"containers": [{"name": "c", "image": image}]}
    template = {"metadata": {"labels": dict(labels)}, "spec": pod}
    return obj(kind, name, selector={"matchLabels": dict(labels)}, template=template, replicas=2)


def service(name: str = "web", **selector: str) -> Object:
    return obj("Service", name, selector=selector or {"app": name}, ports=[{"port": 80}])


def paint(*objects: Object, colour: str = "blue", replicas: dict[str, int] | None = None) -> dict[str, Object]:
    ours = colours.chosen(objects)
    by = Colouring(colour, ours, colours.keys(ours, objects), replicas or {})
    found = coloured([Manifest(one, "app.yaml", n) for n, one in enumerate(objects)], by)
    return {f"{one.object['kind']}/{one.object['metadata']['name']}": one.object for one in found}


def names(found: Sequence[Object]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


# what gets a colour


def test_deployments_that_a_service_leads_to_get_a_colour() -> None:
    assert names(colours.chosen([service(), workload(), workload("worker")])) == ["web"]


def test_of_several_those_with_a_deployed_image() -> None:
    objects = [service(), service("cache"), workload(image="r/web@sha256:1"), workload("cache", image="redis:7")]
    assert names(colours.chosen(objects)) == ["web", "cache"]
    assert names(colours.chosen(objects, ["r/web@sha256:1"])) == ["web"]


def test_what_shares_a_service_gets_a_colour_too() -> None:
    one, other = workload("one", image="a", app="web", part="1"), workload("other", image="b", app="web", part="2")
    assert names(colours.chosen([service(), one, other], ["a"])) == ["one", "other"]


@pytest.mark.parametrize("kind, why", [("StatefulSet", "names and volumes"), ("DaemonSet", "one pod on each node")])
def test_what_cannot_exist_twice_is_refused(kind: str, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        colours.chosen([service(), workload(kind=kind)])
    with pytest.raises(ManifestError, match=why):  # it shares the Service
        colours.chosen([service(), workload(), workload("twin", kind, app="web")])


def test_a_set_beside_the_model_is_no_obstacle() -> None:
    objects = [service(), workload(image="m"), service("db"), workload("db", "StatefulSet")]
    assert names(colours.chosen(objects, ["m"])) == names(colours.chosen(objects)) == ["web"]


def test_no_service_to_switch() -> None:
    with pytest.raises(ManifestError, match="nothing to switch"):
        colours.chosen([workload()])


# by which labels


def test_one_label_that_all_selectors_use() -> None:
    web = workload(name="web", app="web", tier="model")
    budget = obj("PodDisruptionBudget", "web", selector={"matchLabels": {"app": "web"}})
    assert colours.keys([web], [service(app="web", tier="model"), budget]) == ("app",)


def test_all_labels_where_selectors_have_none_in_common() -> None:
    web = workload(name="web", app="web", tier="model")
    web["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    assert colours.keys([web], [service(tier="model")]) == ("app", "tier")


def test_a_long_value_stays_a_legal_one_of_its_kind() -> None:
    long = "m" * 63
    found = {paint(service(app=long), workload(app=long), colour=c)["Service/web"]["spec"]["selector"]["app"]
             for c in colours.COLOURS}  # fmt: skip
    assert len(found) == 2 and all(len(value) <= 63 and value.endswith(("-blue", "-green")) for value in found)


# what follows


def test_the_new_pods_match_nothing_that_is_live() -> None:
    budget = obj("PodDisruptionBudget", "web", selector={"matchLabels": {"app": "web"}}, maxUnavailable=1)
    policy = obj("NetworkPolicy", "web", podSelector={"matchLabels": {"app": "web"}})
    found = paint(service(), workload(), budget, policy)
    pods = found["Deployment/web-blue"]["spec"]["template"]["metadata"]["labels"]
    assert pods == {"app": "web-blue"}
    assert not selectors.matches({"matchLabels": {"app": "web"}}, pods)
    assert found["Service/web"]["spec"]["selector"] == pods
    assert found["Deployment/web-blue"]["spec"]["selector"] == {"matchLabels": pods}
    assert found["PodDisruptionBudget/web-blue"]["spec"] == {"selector": {"matchLabels": pods}, "maxUnavailable": 1}
    assert found["NetworkPolicy/web-blue"]["spec"]["podSelector"] == {"matchLabels": pods}
    assert len(found) == 4


def test_what_belongs_to_a_colour_says_so() -> None:
    meta = paint(service(), workload(), colour="green")["Deployment/web-green"]["metadata"]
    assert meta["labels"][COLOUR] == "green" and meta["annotations"][BASE] == "web"


def test_the_authors_objects_are_not_changed() -> None:
    objects = [service(), workload(), obj("ConfigMap", "settings")]
    before = str(objects)
    paint(*objects)
    assert str(objects) == before


def test_autoscalers_move() -> None:
    hpa = obj("HorizontalPodAutoscaler", "web", scaleTargetRef={"kind": "Deployment", "name": "web"}, maxReplicas=5)
    keda = obj("ScaledObject", "web", scaleTargetRef={"name": "web"})
    vpa = obj("VerticalPodAutoscaler", "web", targetRef={"kind": "Deployment", "name": "web"})
    other = obj("HorizontalPodAutoscaler", "worker", scaleTargetRef={"kind": "Deployment", "name": "worker"})
    found = paint(service(), workload(), hpa, keda, vpa, other, replicas={"web": 7})
    for kind, ref in (("HorizontalPodAutoscaler", "scaleTargetRef"), ("ScaledObject", "scaleTargetRef"),
                      ("VerticalPodAutoscaler", "targetRef")):  # fmt: skip
        assert found[f"{kind}/web"]["spec"][ref]["name"] == "web-blue"
    assert found["HorizontalPodAutoscaler/worker"] == other
    assert found["Deployment/web-blue"]["spec"]["replicas"] == 7


def test_each_colour_has_its_own_configuration() -> None:
    web = workload()
    web["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [
        {"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "not-of-this-release"}},
    ]  # fmt: skip
    web["spec"]["template"]["spec"]["volumes"] = [{"name": "k", "secret": {"secretName": "key"}}]
    found = paint(service(), web, obj("ConfigMap", "settings"), obj("Secret", "key"), obj("ConfigMap", "other"))
    pod = found["Deployment/web-blue"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"][0]["configMapRef"]["name"] == "settings-blue"
    assert pod["containers"][0]["envFrom"][1]["secretRef"]["name"] == "not-of-this-release"
    assert pod["volumes"][0]["secret"]["secretName"] == "key-blue"
    assert {"ConfigMap/settings-blue", "Secret/key-blue", "ConfigMap/other"} <= set(found)
    assert not {"ConfigMap/settings", "Secret/key"} & set(found)


def test_configuration_that_others_name_stays_under_its_name_too() -> None:
    web = workload()
    web["spec"]["template"]["spec"]["volumes"] = [{"name": "k", "secret": {"secretName": "tls"}}]
    ingress = obj("Ingress", "web", tls=[{"secretName": "tls"}])
    assert {"Secret/tls", "Secret/tls-blue"} <= set(paint(service(), web, obj("Secret", "tls"), ingress))


def test_policies_of_others_let_both_colours_in() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "web"}}}
    policy = obj("NetworkPolicy", "db", podSelector={"matchLabels": {"app": "db"}}, ingress=[{"from": [peer]}])
    found = paint(service(), workload(), policy)["NetworkPolicy/db"]["spec"]
    (wide,) = found["ingress"][0]["from"][0]["podSelector"]["matchExpressions"]
    assert wide == {"key": "app", "operator": "In", "values": ["web", "web-blue", "web-green"]}
    assert found["podSelector"] == {"matchLabels": {"app": "db"}}


def test_a_policy_for_all_pods_stays_one() -> None:
    policy = obj("NetworkPolicy", "deny", podSelector={})
    assert paint(service(), workload(), policy)["NetworkPolicy/deny"] == policy


@pytest.mark.parametrize("operator, values, parts", [("In", ["web", "worker"], 2), ("Exists", None, 1)])
def test_a_budget_of_several_workloads(operator: str, values: list[str] | None, parts: int) -> None:
    """No pod is without a budget, and none has two: it could not be evicted."""
    selector = {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}
    budget = obj("PodDisruptionBudget", "all", selector=selector)
    found = paint(service(), workload(), workload("worker"), budget)
    budgets = [one for name, one in found.items() if name.startswith("PodDisruptionBudget")]
    assert len(budgets) == parts
    for labels in ({"app": "web-blue"}, {"app": "worker"}):
        assert sum(selectors.matches(one["spec"]["selector"], labels) for one in budgets) == 1


def test_pods_spread_and_keep_apart_within_their_colour() -> None:
    web, worker = workload(), workload("worker")
    selector = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}
    web["spec"]["template"]["spec"]["topologySpreadConstraints"] = [dict(selector)]
    worker["spec"]["template"]["spec"]["affinity"] = {"podAffinity": {"required": [dict(selector)]}}
    found = paint(service(), web, worker)
    spread = found["Deployment/web-blue"]["spec"]["template"]["spec"]["topologySpreadConstraints"][0]
    assert spread["labelSelector"] == {"matchLabels": {"app": "web-blue"}}
    near = found["Deployment/worker"]["spec"]["template"]["spec"]["affinity"]["podAffinity"]["required"][0]
    assert near["labelSelector"]["matchExpressions"][0]["values"] == ["web", "web-blue", "web-green"]


def test_a_selector_by_expressions_follows() -> None:
    web = workload()
    web["spec"]["selector"] = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}
    assert paint(service(), web)["Deployment/web-blue"]["spec"]["selector"] == {"matchLabels": {"app": "web-blue"}}


# which colour


def live(name: str, colour: str = "", born: str = "1") -> Object:
    found = workload(name, app=name)
    found["metadata"] |= {"creationTimestamp": born}
    if colour:
        found["metadata"] |= {"labels": {COLOUR: colour}, "annotations": {BASE: name.removesuffix(f"-{colour}")}}
    return found


@pytest.mark.parametrize("leads, free", [([], "blue"), (["web"], "blue"), (["web-blue"], "green"), (["web-green"], "blue")])  # fmt: skip
def test_the_colour_that_no_user_reaches(leads: list[str], free: str) -> None:
    there = [live("web"), live("web-blue", "blue"), live("web-green", "green"), live("other-green", "green")]
    assert colours.free([workload()], [service(app=name) for name in leads], there) == free


def test_with_both_in_use_the_younger_was_on_its_way() -> None:
    there = [live("web-blue", "blue", "2"), live("web-green", "green", "1")]
    assert colours.free([workload()], [service(app="web-blue"), service("also", app="web-green")], there) == "blue"


# what would be left behind


def test_strangers_that_go_by_the_pods() -> None:
    web = workload()
    by = Colouring("blue", [web], ("app",))
    hpa = obj("HorizontalPodAutoscaler", "mine", scaleTargetRef={"kind": "Deployment", "name": "web"})
    made = obj("HorizontalPodAutoscaler", "keda-hpa-web", scaleTargetRef={"kind": "Deployment", "name": "web"})
    made["metadata"]["ownerReferences"] = [{"kind": "ScaledObject", "name": "web"}]
    policy = obj("NetworkPolicy", "web", podSelector={"matchLabels": {"app": "web"}})
    everyone = obj("NetworkPolicy", "deny", podSelector={})
    preview = service("preview", app="web-blue")
    there = [service("all", app="web"), service(), hpa, made, policy, everyone, preview]
    release = [web, service(), obj("ScaledObject", "web", scaleTargetRef={"name": "web"})]
    assert names(colours.strangers(by, release, there)) == ["all", "mine", "web"]
