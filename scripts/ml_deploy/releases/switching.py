"""Services that lead elsewhere: the workloads are ready before users are sent to them.

A release may have other workloads than those that its live Services lead to: after a change of strategy, of a name or
of labels, and on the way back from one. Applied in the usual order its Services would lead to pods that do not exist
yet. So what users and autoscalers go by is applied last, and the number of pods is handed over before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ml_deploy.errors import Forbidden
from ml_deploy.releases import rollout, snapshot
from ml_deploy.releases.before_traffic import WORKLOADS
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.colours import led_to, same, scaled, services_of
from ml_deploy.releases.history import ref_of

_SCALED = ("Deployment", "StatefulSet")
_AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject", "VerticalPodAutoscaler")

#: Applies objects in the order given and returns them as the server has them.
Put = Callable[[Sequence[Object]], list[Object]]


@dataclass(frozen=True)
class Switch:
    """What of a release is to be moved, and where to.

    services: those of the release whose live selves lead elsewhere; autoscalers likewise.
    targets:  the release's workloads that these Services are to lead to.
    replicas: how many pods serve there now; users need as many here.
    """

    services: Sequence[Object]
    autoscalers: Sequence[Object]
    targets: Sequence[Object]
    replicas: int

    def moves(self, obj: Object) -> bool:
        """Whether an object is one of those that are moved."""
        return any(same(obj, one) for one in (*self.services, *self.autoscalers))


def needed(cluster: Cluster, objects: Sequence[Object]) -> Switch | None:
    """What must be switched for this release; None when its Services lead to its workloads already, or are not there."""
    ours = services_of(objects)
    seen = snapshot.listed(cluster, ours)
    live = {id(one): found for one in ours if (found := seen.get(ref_of(one, cluster.namespace)))}
    changed = [one for one in ours if id(one) in live and _selector(live[id(one)]) != _selector(one)]
    if not changed:
        return None
    kinds = sorted({obj["kind"] for obj in objects if obj.get("kind") in WORKLOADS})
    places = dict.fromkeys(ref_of(one, cluster.namespace).namespace for one in changed)
    there = [one for place in places for kind in kinds for one in live_workloads(cluster, kind, place)]
    services = [one for one in changed if leads_elsewhere(one, live[id(one)], objects, there)]
    if not services:
        return None
    workloads = [obj for obj in objects if obj.get("kind") in WORKLOADS]
    targets = [w for w in workloads if any(same(w, t) for s in services for t in led_to(s, workloads))]
    serving = [w for s in services for w in led_to(live[id(s)], there)]
    replicas = max((int((w.get("spec") or {}).get("replicas", 1)) for w in serving), default=0)
    return Switch(services, _moved_autoscalers(cluster, objects), targets, replicas)


def leads_elsewhere(service: Object, live: Object, objects: Sequence[Object], workloads: Sequence[Object]) -> bool:
    """Whether the live Service leads to none of the workloads that the release's one leads to."""
    wanted = led_to(service, [obj for obj in objects if obj.get("kind") in WORKLOADS])
    now = led_to(live, workloads)
    return bool(wanted) and not any(same(one, other) for one in wanted for other in now)


def carried_out(
    switch: Switch, cluster: Cluster, objects: Sequence[Object], *, put: Put,
    ready: Callable[[Sequence[Object]], object],
) -> list[Object]:  # fmt: skip
    """Workloads and all else first, until they are ready; then what users and autoscalers go by."""
    first = [with_replicas(switch, obj) for obj in objects if not switch.moves(obj)]
    applied = put(first)
    raise_replicas(switch, cluster)
    ready([one for one in applied if any(same(one, target) for target in switch.targets)])
    return [*applied, *put([*switch.services, *switch.autoscalers])]


def standing(switch: Switch, cluster: Cluster, unchanged: Callable[[Object, Object], bool]) -> bool:
    """Whether all targets are there, ready, and what the release wants them to be: then users can be sent at once.

    unchanged: whether applying the first would change nothing of the second, the live one.
    """
    for target in switch.targets:
        live = cluster.get(ref_of(target, cluster.namespace))
        if not live or live["metadata"].get("deletionTimestamp") or int(live["spec"].get("replicas", 1)) < 1:
            return False
        if not isinstance(rollout.verdict(live), rollout.Done) or not unchanged(target, live):
            return False
    return bool(switch.targets)


def with_replicas(switch: Switch, obj: Object) -> Object:
    """A target with the number of pods that serves elsewhere now, where an autoscaler rules it or nobody says another."""
    if obj.get("kind") not in _SCALED or not any(same(obj, one) for one in switch.targets):
        return obj
    said = int(obj["spec"].get("replicas") or 0)
    wanted = max(said, switch.replicas) if _ruled(switch, obj) else said or switch.replicas
    return {**obj, "spec": {**obj["spec"], "replicas": wanted}} if wanted else obj


def raise_replicas(switch: Switch, cluster: Cluster) -> None:
    """Give autoscaled targets that exist already as many pods as serve elsewhere now."""
    for target in switch.targets:
        live = cluster.get(ref_of(target, cluster.namespace)) if _ruled(switch, target) else None
        if live and int(live["spec"].get("replicas", 1)) < switch.replicas:
            cluster.patch(ref_of(live), {"spec": {"replicas": switch.replicas}})


def _ruled(switch: Switch, workload: Object) -> bool:
    return workload["metadata"]["name"] in {scaled(one) for one in switch.autoscalers}


def _moved_autoscalers(cluster: Cluster, objects: Sequence[Object]) -> list[Object]:
    found = []
    for obj in objects:
        if obj.get("kind") in _AUTOSCALERS:
            live = cluster.get(ref_of(obj, cluster.namespace))
            if live and scaled(live) != scaled(obj):
                found.append(obj)
    return found


def live_workloads(cluster: Cluster, kind: str, namespace: str) -> list[Object]:
    """The live workloads of a kind; where we may not see them, Services count as leading elsewhere."""
    try:
        return cluster.list("apps/v1", kind, namespace)
    except (ApiError, Forbidden) as error:
        if isinstance(error, ApiError) and error.code not in (403, 404):
            raise
        return []


def _selector(service: Object) -> Object:
    return (service.get("spec") or {}).get("selector") or {}
