"""The deployment and replica set controllers: synchronous, run after each change that may concern them."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import math

from .admission import Admission, age, stamp, suffix
from .errors import ApiError
from .kinds import DEPLOYMENT, POD, REPLICA_SET, Kind, Object
from .store import Change, place, reference

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
COUNTS = ("replicas", "readyReplicas", "availableReplicas")
GROWING = ("readyReplicas", "availableReplicas", "updatedReplicas")


class Controllers:
    """Keeps replica sets as deployments want them, and pods as replica sets do."""

    def __init__(self, admission: Admission, loop: asyncio.AbstractEventLoop) -> None:
        self.admission, self.store, self._loop = admission, admission.store, loop
        self._dirty: dict[tuple[Kind, str, str], None] = {}
        self._timers: dict[tuple[Kind, str, str], asyncio.TimerHandle] = {}
        self.store.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        namespace, name = place(change.object)
        if change.kind in (DEPLOYMENT, REPLICA_SET):
            self._mark(change.kind, namespace, name)
        for ref in change.object["metadata"].get("ownerReferences") or []:
            if kind := {"Deployment": DEPLOYMENT, "ReplicaSet": REPLICA_SET}.get(ref["kind"]):
                self._mark(kind, namespace, ref["name"])

    def _mark(self, kind: Kind, namespace: str, name: str) -> None:
        if not self._dirty:
            self._loop.call_soon(self._work)
        self._dirty[kind, namespace, name] = None

    def _later(self, kind: Kind, obj: Object, seconds: float) -> None:
        key = (kind, *place(obj))
        if key in self._timers:
            self._timers[key].cancel()
        self._timers[key] = self._loop.call_later(seconds + 0.1, self._mark, *key)

    def _work(self) -> None:
        keys, self._dirty = list(self._dirty), {}
        for kind, namespace, name in keys:
            obj = self.store.get(kind, namespace, name)
            if obj is None:
                continue
            try:
                self._deployment(obj) if kind is DEPLOYMENT else self._replica_set(obj)
            except ApiError as error:
                self.admission.event(obj, "Warning", "FailedCreate", f"Error creating: {error}")
                self._later(kind, obj, 5)

    def _owned(self, kind: Kind, owner: Object) -> list[Object]:
        return [obj for found, obj in self.store.owned(owner) if found is kind]

    # replica sets

    def _replica_set(self, obj: Object) -> None:
        """Create or delete pods, then count them."""
        namespace, name = place(obj)
        pods = sorted(filter(_active, self._owned(POD, obj)), key=_worth)
        for _ in range(obj["spec"]["replicas"] - len(pods)):
            template = obj["spec"]["template"]
            metadata = {**template["metadata"], "generateName": f"{name}-", "namespace": namespace,
                        "name": f"{name}-{suffix()}", "ownerReferences": [reference(obj)]}  # fmt: skip
            made = self.admission.create(POD, {"metadata": metadata, "spec": template["spec"]})
            self.admission.event(obj, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        for pod in pods[: max(len(pods) - obj["spec"]["replicas"], 0)]:
            self.admission.delete(POD, pod, {})
            self.admission.event(obj, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        pods = list(filter(_active, self._owned(POD, obj)))
        waits = [_until_available(pod, obj["spec"].get("minReadySeconds") or 0) for pod in pods]
        counts = (len(pods), sum(wait is not None for wait in waits), sum(wait == 0 for wait in waits))
        status = {key: count for key, count in zip(COUNTS, counts, strict=True) if count or key == "replicas"}
        self.admission.status(REPLICA_SET, obj, {**status, "observedGeneration": obj["metadata"]["generation"]})
        if soon := [wait for wait in waits if wait]:
            self._later(REPLICA_SET, obj, min(soon))

    # deployments

    def _deployment(self, obj: Object) -> None:
        """One step of the rollout, and the status."""
        sets = sorted(self._owned(REPLICA_SET, obj), key=_revision)
        new = next((one for one in sets if _template(one) == obj["spec"]["template"]), None)
        old = [one for one in sets if one is not new]
        new = self._new_set(obj, new, old)
        sizes = next_sizes(obj, new, old)
        for one in [new, *old]:
            self._scale(obj, one, sizes[one["metadata"]["name"]])
        self._deployment_status(obj, new)
        idle = [one for one in old if not one["spec"]["replicas"] and not one["status"].get("replicas")]
        for one in idle[: max(len(idle) - obj["spec"]["revisionHistoryLimit"], 0)]:
            self.admission.delete(REPLICA_SET, one, {})

    def _new_set(self, obj: Object, new: Object | None, old: list[Object]) -> Object:
        """The replica set of the present template, made or brought to the newest revision."""
        number = max([_revision(one) + 1 for one in old] + [_revision(new) if new else 1])
        if new is None:
            new = self.admission.create(REPLICA_SET, _blueprint(obj))
        self._number(DEPLOYMENT, obj, number)
        return self._number(REPLICA_SET, new, number)

    def _number(self, kind: Kind, obj: Object, number: int) -> Object:
        if _revision(obj) == number:
            return obj
        annotations = {**(obj["metadata"].get("annotations") or {}), REVISION: str(number)}
        return self.store.put(kind, {**obj, "metadata": {**obj["metadata"], "annotations": annotations}})

    def _scale(self, obj: Object, one: Object, wanted: int) -> None:
        have = one["spec"]["replicas"]
        if have != wanted:
            self.admission.update(REPLICA_SET, {**one, "spec": {**one["spec"], "replicas": wanted}}, one)
            way, name = "up" if wanted > have else "down", one["metadata"]["name"]
            message = f"Scaled {way} replica set {name} from {have} to {wanted}"
            self.admission.event(obj, "Normal", "ScalingReplicaSet", message)

    def _deployment_status(self, obj: Object, new: Object) -> None:
        sets, wanted = self._owned(REPLICA_SET, obj), obj["spec"]["replicas"]
        name = new["metadata"]["name"]
        counts = {key: sum(one["status"].get(key, 0) for one in sets) for key in COUNTS}
        fresh = sum(one["status"].get("replicas", 0) for one in sets if one["metadata"]["name"] == name)
        missing = max(sum(one["spec"]["replicas"] for one in sets) - counts["availableReplicas"], 0)
        counts |= {"updatedReplicas": fresh, "unavailableReplicas": missing}
        status = {key: count for key, count in counts.items() if count}
        old = obj["status"]
        conditions = {one["type"]: one for one in old.get("conditions") or []}
        enough = counts["availableReplicas"] >= wanted - _limits(obj)[1]
        reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
        message = f"Deployment {'has' if enough else 'does not have'} minimum availability."
        _condition(conditions, "Available", str(enough), reason, message)
        self._progress(obj, name, status, old, conditions)
        status |= {"observedGeneration": obj["metadata"]["generation"], "conditions": list(conditions.values())}
        self.admission.status(DEPLOYMENT, obj, status)

    def _progress(self, obj: Object, name: str, status: Object, old: Object, conditions: dict[str, Object]) -> None:
        """The Progressing condition, and a look at the clock when the deadline passes."""
        this, before, wanted = f'ReplicaSet "{name}"', conditions.get("Progressing") or {}, obj["spec"]["replicas"]
        fewer = [one.get("replicas", 0) - one.get("updatedReplicas", 0) for one in (status, old)]
        moved = any(status.get(key, 0) > old.get(key, 0) for key in GROWING) or fewer[0] < fewer[1]
        left = obj["spec"]["progressDeadlineSeconds"]
        if all(status.get(key, 0) == wanted for key in ("updatedReplicas", "replicas", "availableReplicas")):
            message = f"{this} has successfully progressed."
            _condition(conditions, "Progressing", "True", "NewReplicaSetAvailable", message)
        elif moved or this not in before.get("message", "") or before["reason"] == "NewReplicaSetAvailable":
            conditions.pop("Progressing", None)
            _condition(conditions, "Progressing", "True", "ReplicaSetUpdated", f"{this} is progressing.")
            self._later(DEPLOYMENT, obj, left)
        elif before["status"] == "True" and (left := left - age(before["lastUpdateTime"])) > 0:
            self._later(DEPLOYMENT, obj, left)
        else:
            message = f"{this} has timed out progressing."
            _condition(conditions, "Progressing", "False", "ProgressDeadlineExceeded", message)


def _active(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in ("Succeeded", "Failed")


def _until_available(pod: Object, wait: int) -> float | None:
    """None for a pod that is not ready, else the seconds that it must still stay ready."""
    ready = [one for one in pod["status"].get("conditions") or [] if (one["type"], one["status"]) == ("Ready", "True")]
    return max(wait - age(ready[0]["lastTransitionTime"]), 0) if ready else None


def _worth(pod: Object) -> tuple[bool, bool, float]:
    """The order in which pods are given up: not running, not ready, young."""
    ready = _until_available(pod, 0) is not None
    return pod["status"].get("phase") == "Running", ready, age(pod["metadata"]["creationTimestamp"])


def _revision(one: Object) -> int:
    return int((one["metadata"].get("annotations") or {}).get(REVISION, 0))


def _template(one: Object) -> Object:
    template: Object = copy.deepcopy(one["spec"]["template"])
    del template["metadata"]["labels"][HASH]
    return template


def _blueprint(obj: Object) -> Object:
    """The replica set to create for a deployment's template."""
    spec, template = obj["spec"], copy.deepcopy(obj["spec"]["template"])
    mark = {HASH: hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]}
    labels = template["metadata"]["labels"] = {**template["metadata"]["labels"], **mark}
    selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), **mark}}
    metadata = {"name": f"{obj['metadata']['name']}-{mark[HASH]}", "namespace": obj["metadata"]["namespace"],
                "labels": labels, "ownerReferences": [reference(obj)]}  # fmt: skip
    ready = {"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}
    return {"metadata": metadata, "spec": {"replicas": 0, "selector": selector, "template": template, **ready}}


def _condition(conditions: dict[str, Object], type_: str, value: str, reason: str, message: str) -> None:
    before = conditions.get(type_) or {}
    if [before.get(key) for key in ("status", "reason", "message")] != [value, reason, message]:
        since = before["lastTransitionTime"] if before.get("status") == value else stamp()
        conditions[type_] = {"type": type_, "status": value, "lastUpdateTime": stamp(), "lastTransitionTime": since,
                             "reason": reason, "message": message}  # fmt: skip


def _limits(obj: Object) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods."""
    rolling, total = obj["spec"]["strategy"].get("rollingUpdate"), obj["spec"]["replicas"]
    if not rolling:  # Recreate
        return 0, total

    def share(value: int | str) -> float:
        return value if isinstance(value, int) else int(value.rstrip("%")) * total / 100

    surge, unavailable = math.ceil(share(rolling["maxSurge"])), math.floor(share(rolling["maxUnavailable"]))
    return surge, unavailable if surge or unavailable else 1


def next_sizes(obj: Object, new: Object, old: list[Object]) -> dict[str, int]:
    """The next step of a rolling update: how many pods each replica set should have, by its name."""
    sizes = {one["metadata"]["name"]: one["spec"]["replicas"] for one in [*old, new]}
    ready = {one["metadata"]["name"]: one["status"].get("availableReplicas", 0) for one in [*old, new]}
    name, wanted = new["metadata"]["name"], obj["spec"]["replicas"]
    surge, unavailable = _limits(obj)
    room = wanted + surge - sum(sizes.values())
    if sizes[name] > wanted or (sizes[name] < wanted and room > 0):
        return {**sizes, name: min(sizes[name] + max(room, 0), wanted)}
    least = wanted - unavailable
    budget = sum(sizes.values()) - least - max(sizes[name] - ready[name], 0)
    for one in [key for key in sizes if key != name]:  # pods that are not available go first
        broken = min(max(sizes[one] - ready[one], 0), max(budget, 0))
        sizes[one] -= broken
        budget -= broken
    spare = min(budget, sum(min(ready[key], sizes[key]) for key in sizes) - least)
    for one in [key for key in sizes if key != name]:
        less = min(sizes[one], max(spare, 0))
        sizes[one] -= less
        spare -= less
    return sizes
