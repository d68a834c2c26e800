"""Do the pods of a rollout fit? Right on small cases, and `may` where nobody can know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from ml_deploy.releases.capacity.demand import Demand, demand
from ml_deploy.releases.capacity.packing import Fit
from ml_deploy.releases.capacity.verdict import Opinion, Seen, judge
from ml_deploy.releases.cluster import Object

FIVE = ((2, 4), (1, 2), (3, 6), (2, 4), (1, 2))  # CPU and GiB of five apps


def node(name: str = "n1", cpu: object = 4, memory: str = "8Gi", pods: int = 110, **more: Any) -> Object:
    labels = {"kubernetes.io/hostname": name} | more.pop("labels", {})
    allocatable = {"cpu": str(cpu), "memory": memory, "pods": str(pods)} | more.pop("allocatable", {})
    return {"metadata": {"name": name, "labels": labels}, "spec": more, "status": {"allocatable": allocatable}}


def nodes(count: int) -> list[Object]:
    return [node(f"n{number}") for number in range(1, count + 1)]


def spec(cpu: object = 1, memory: object = "1Gi", **more: Any) -> Object:
    asked = {"cpu": str(cpu), "memory": str(memory)} | more.pop("extra", {})
    return {"containers": [{"name": "c", "resources": {"requests": asked}}], **more}


def deployment(name: str = "web", replicas: int = 1, surge: object = "25%", missing: object = "25%", version: int = 1,
               **more: Any) -> Object:  # fmt: skip
    bounds = {"maxSurge": surge, "maxUnavailable": missing}
    template = {"metadata": {"labels": {"app": name}, "annotations": {"version": str(version)}}, "spec": spec(**more)}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "ml"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template,
                 "strategy": {"type": "RollingUpdate", "rollingUpdate": bounds}},
    }  # fmt: skip


def running(where: str, app: str = "web", **more: Any) -> Object:
    meta = {"name": "p", "namespace": "ml", "labels": {"app": app}} | more.pop("meta", {})
    return {"metadata": meta, "spec": {**spec(**more), "nodeName": where}, "status": {"phase": "Running"}}


def rollout(**more: Any) -> Demand:
    """From version 1 to version 2 of a Deployment."""
    found = demand(deployment(version=2, **more), deployment(version=1, **more), None)
    assert found
    return found


def fresh(*apps: Object) -> list[Demand]:
    found = [demand(app, None, None) for app in apps]
    return [one for one in found if one]


def verdicts(seen: Sequence[Object], pods: Sequence[Object] | None, *demands: Demand, **more: Any) -> list[Opinion]:
    return judge(Seen(seen, pods, **{"sure": True, **more}), demands)


def worst(found: Sequence[Opinion]) -> Fit:
    return max((one.fit for one in found), key=[Fit.YES, Fit.MAYBE, Fit.NO].index, default=Fit.YES)


@pytest.mark.parametrize("each, wanted", [(1, Fit.YES), (4, Fit.YES), (5, Fit.NO)])
def test_ten_nodes_and_five_apps(each: int, wanted: Fit) -> None:
    apps = [deployment(f"app{n}", each, cpu=cpu, memory=f"{gib}Gi") for n, (cpu, gib) in enumerate(FIVE)]
    found = verdicts(nodes(10), [], *fresh(*apps))
    assert worst(found) is wanted
    if wanted is Fit.NO:
        assert "45 CPU, 90Gi memory in all, and 40 CPU, 80Gi memory free on 10 of 10 nodes" in found[0].text


def test_room_that_only_a_lucky_placing_finds() -> None:
    apps = [deployment("small", 10, cpu=1), deployment("big", 10, cpu=3)]
    assert worst(verdicts(nodes(10), [], *fresh(*apps))) is Fit.MAYBE
    apps = [deployment("middle", 1, cpu=2), deployment("big", 10, cpu=3)]
    assert worst(verdicts(nodes(10), [], *fresh(*apps))) is Fit.NO, "the sums would fit"


def test_a_surge_that_does_not_fit_stands_still_only_where_nothing_may_be_missing() -> None:
    full = [running("n1", cpu=2), running("n1", cpu=2)]
    stuck = verdicts([node()], full, rollout(replicas=2, cpu=2, memory="1Gi"))
    assert [one.fit for one in stuck] == [Fit.NO]
    assert stuck[0].text == (
        "Deployment web needs 1 new pod of 2 CPU, 1Gi memory beside the old ones, and there is room for 0: "
        "1 node; the closest has no cpu, 6Gi memory free (n1)."
    )
    slow = verdicts([node()], full, rollout(replicas=2, cpu=2, missing=1))
    assert [one.fit for one in slow] == [Fit.YES] and "takes longer" in slow[0].text
    recreate = deployment(version=2, replicas=2, cpu=2)
    recreate["spec"]["strategy"] = {"type": "Recreate"}
    replaced = demand(recreate, deployment(replicas=2, cpu=2), None)
    assert replaced and verdicts([node()], full, replaced) == []


def test_part_of_the_surge_is_enough_to_move() -> None:
    found = verdicts([node()], [running("n1", cpu=1)] * 3, rollout(replicas=3, surge=3, missing=0))
    assert [one.fit for one in found] == [Fit.YES] and "room for 1 of the 3 new pods" in found[0].text


def test_a_second_colour_wants_all_its_pods_beside_the_first() -> None:
    live = [running("n1", app="web-blue", cpu=1)] * 2
    for cpu, wanted in ((4, Fit.YES), (3, Fit.NO)):
        green = fresh(deployment("web-green", replicas=2))
        assert worst(verdicts([node(cpu=cpu)], live, *green)) is wanted


def test_a_pod_that_is_asked_ahead_needs_room_too() -> None:
    stateful = deployment(version=2, cpu=3) | {"kind": "StatefulSet"}
    before = deployment(cpu=3) | {"kind": "StatefulSet"}
    live = [running("n1", cpu=3)]
    for asked, wanted in ((False, Fit.YES), (True, Fit.NO)):
        found = demand(stateful, before, None, asked=asked)
        assert found and worst(verdicts([node()], live, found)) is wanted


def test_the_same_template_needs_nothing_and_more_replicas_need_room_for_the_new_ones() -> None:
    assert demand(deployment(replicas=2), deployment(replicas=2), None) is None
    grown = demand(deployment(replicas=5), deployment(replicas=2), None)
    assert grown and (grown.wanted, grown.beside, grown.least) == (3, 3, 3)


def test_a_pod_too_big_for_any_node_is_told_without_looking_at_pods() -> None:
    found = verdicts(nodes(3), None, *fresh(deployment(cpu=8)))
    assert [one.fit for one in found] == [Fit.NO]
    assert "no node could take one of its pods (8 CPU, 1Gi memory) if it were empty" in found[0].text
    assert verdicts(nodes(3), None, *fresh(deployment(cpu=2))) == []


def test_gpus() -> None:
    asks = deployment(extra={"nvidia.com/gpu": "1"})
    found = verdicts(nodes(2), [], *fresh(asks))
    assert worst(found) is Fit.NO and "1 nvidia.com/gpu" in found[0].text and "no nvidia.com/gpu" in found[0].text
    pool = node(
        "gpu", allocatable={"nvidia.com/gpu": "1"}, taints=[{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
    )
    refused = verdicts([*nodes(2), pool], [], *fresh(asks))
    assert worst(refused) is Fit.NO and "1 with taint sku=gpu" in refused[0].text
    asks["spec"]["template"]["spec"]["tolerations"] = [{"key": "sku", "operator": "Exists"}]
    assert verdicts([*nodes(2), pool], [], *fresh(asks)) == []


@pytest.mark.parametrize(
    "template, fits",
    [
        ({"nodeSelector": {"pool": "ml"}}, True),
        ({"nodeSelector": {"pool": "web"}}, False),
        ({"tolerations": [{"key": "other", "operator": "Exists"}]}, True),
        ({"nodeName": "n2"}, True),
        ({"nodeName": "n9"}, False),
    ],
    ids=str,
)
def test_selectors(template: Object, fits: bool) -> None:
    app = deployment()
    app["spec"]["template"]["spec"].update(template)
    found = verdicts([node(), node("n2", labels={"pool": "ml"})], [], *fresh(app))
    assert worst(found) is (Fit.YES if fits else Fit.NO)


@pytest.mark.parametrize(
    "operator, values, fits",
    [("In", ["ml", "web"], True), ("NotIn", ["ml"], False), ("Exists", [], True), ("DoesNotExist", [], False),
     ("Gt", ["3"], False), ("Lt", ["3"], False)],
)  # fmt: skip
def test_node_affinity(operator: str, values: list[str], fits: bool) -> None:
    term = {"matchExpressions": [{"key": "pool", "operator": operator, "values": values}]}
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    app = deployment()
    app["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": wanted}
    assert worst(verdicts([node(labels={"pool": "ml"})], [], *fresh(app))) is (Fit.YES if fits else Fit.NO)


def test_numbers_in_labels_are_compared() -> None:
    term = {"matchExpressions": [{"key": "gpus", "operator": "Gt", "values": ["3"]}]}
    app = deployment()
    app["spec"]["template"]["spec"]["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    assert worst(verdicts([node(labels={"gpus": "4"})], [], *fresh(app))) is Fit.YES
    assert worst(verdicts([node(labels={"gpus": "3"})], [], *fresh(app))) is Fit.NO


def test_cordoned_nodes_and_pods_per_node() -> None:
    assert worst(verdicts([node(unschedulable=True)], [], *fresh(deployment()))) is Fit.NO
    crowded = verdicts([node(pods=1)], [running("n1", app="other", cpu="100m")], *fresh(deployment()))
    assert worst(crowded) is Fit.NO and "no place for another pod" in crowded[0].text


def test_host_ports_clash() -> None:
    app = deployment(replicas=2)
    app["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    assert worst(verdicts(nodes(2), [], *fresh(app))) is Fit.YES
    assert worst(verdicts(nodes(1), [], *fresh(app))) is Fit.NO


def test_pods_that_are_over_take_no_room_and_those_on_their_way_out_may_still() -> None:
    over = running("n1", app="job", cpu=4) | {"status": {"phase": "Succeeded"}}
    assert verdicts([node()], [over], *fresh(deployment(cpu=4))) == []
    leaving = running("n1", app="other", cpu=4, meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert worst(verdicts([node()], [leaving], *fresh(deployment(cpu=4)))) is Fit.MAYBE


def test_init_containers_sidecars_and_overhead_count() -> None:
    app = deployment(cpu=1)
    pod = app["spec"]["template"]["spec"]
    pod["initContainers"] = [
        {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
        {"name": "fetch", "resources": {"requests": {"cpu": "3"}}},
    ]
    (only,) = fresh(app)
    assert only.size["cpu"] == 4000
    pod["overhead"] = {"cpu": "250m"}
    assert only.size["cpu"] == 4250


def test_higher_priority_may_drive_others_out() -> None:
    full = [running("n1", app="other", cpu=4)]
    assert worst(verdicts([node()], full, *fresh(deployment(cpu=4)))) is Fit.NO
    assert worst(verdicts([node()], full, *fresh(deployment(cpu=4, priority=100)))) is Fit.MAYBE


def test_an_autoscaler_may_help() -> None:
    known = verdicts([node()], [], *fresh(deployment(cpu=8)), autoscaler="Karpenter")
    assert [one.fit for one in known] == [Fit.MAYBE] and known[0].text.endswith("Karpenter may add nodes.")
    unknown = verdicts([node()], [], *fresh(deployment(cpu=8)), sure=False)
    assert [one.fit for one in unknown] == [Fit.MAYBE] and "An autoscaler, if there is one" in unknown[0].text


def test_what_only_the_scheduler_knows_is_a_word_and_no_warning() -> None:
    app = deployment()
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}
    app["spec"]["template"]["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    }
    found = verdicts([node()], [], *fresh(app))
    assert [one.fit for one in found] == [Fit.YES] and "whether podAntiAffinity" in found[0].text
    lonely = running("n1", app="db", cpu="1")
    lonely["spec"]["affinity"] = app["spec"]["template"]["spec"]["affinity"]
    found = verdicts([node()], [lonely], *fresh(deployment()))
    assert "podAntiAffinity of running pods" in found[0].text


def test_a_thousand_nodes_take_little_time() -> None:
    pods = [running(f"n{number % 1000 + 1}", app="other", cpu="250m") for number in range(6000)]
    started = time.process_time()
    found = verdicts(nodes(1000), pods, *fresh(deployment(replicas=500), deployment("b", 300, cpu=2)))
    assert worst(found) is Fit.YES
    assert time.process_time() - started < 1.5
