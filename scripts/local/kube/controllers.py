"""The deployment and replica set controllers: synchronous, run after each change that may concern them."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from typing import Any

from .admission import CONTROLLER, Admission, age, stamp, suffix
from .errors import ApiError
from .events import Recorder
from .kinds import DEPLOYMENT, POD, REPLICA_SET, Kind, Object
from .matching import selector_matches
from .rollout import (
    HASH,
    REVISION,
    active,
    available,
    available_count,
    complete,
    limits,
    next_sizes,
    owned_by,
    replicas,
    revision,
)  # fmt: skip
from .store import Change, Store

COPIED_NOT = ("kubectl.kubernetes.io/last-applied-configuration", REVISION)


class Controllers:
    """Keeps replica sets as deployments want them, and pods as replica sets do."""

    def __init__(self, store: Store, admission: Admission, recorder: Recorder, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.admission, self.recorder, self.loop = store, admission, recorder, loop
        self._dirty: dict[tuple[Kind, str, str], None] = {}
        self._timers: dict[tuple[Kind, str, str], asyncio.TimerHandle] = {}
        store.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        obj = change.object
        if change.kind in (DEPLOYMENT, REPLICA_SET):
            self._mark(change.kind, obj)
        if change.kind is POD and not _controller(obj):
            self._wake_adopters(obj)
        for ref in obj["metadata"].get("ownerReferences") or []:
            kind = {"Deployment": DEPLOYMENT, "ReplicaSet": REPLICA_SET}.get(ref["kind"])
            if kind:
                self._mark(kind, {"metadata": {"name": ref["name"], "namespace": obj["metadata"]["namespace"]}})

    def _wake_adopters(self, pod: Object) -> None:
        for one in self.store.list(REPLICA_SET, pod["metadata"]["namespace"]):
            if selector_matches(one["spec"]["selector"], pod["metadata"].get("labels")):
                self._mark(REPLICA_SET, one)

    def _mark(self, kind: Kind, obj: Object) -> None:
        if not self._dirty:
            self.loop.call_soon(self._work)
        self._dirty[kind, obj["metadata"]["namespace"], obj["metadata"]["name"]] = None

    def _work(self) -> None:
        keys, self._dirty = list(self._dirty), {}
        for kind, namespace, name in keys:
            obj = self.store.get(kind, namespace, name)
            if obj and not obj["metadata"].get("deletionTimestamp"):
                try:
                    (self._deployment if kind is DEPLOYMENT else self._replica_set)(copy.deepcopy(obj))
                except ApiError as error:
                    self.recorder.event(obj, "Warning", "FailedCreate", f"Error creating: {error}")
                    self._later(kind, obj, 5)

    def _later(self, kind: Kind, obj: Object, seconds: float) -> None:
        key = (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        if key in self._timers:
            self._timers[key].cancel()
        self._timers[key] = self.loop.call_later(max(seconds, 0) + 0.1, self._mark, kind, obj)

    # replica sets

    def _replica_set(self, obj: Object) -> None:
        pods = [pod for pod in self._pods(obj) if active(pod)]
        missing = obj["spec"]["replicas"] - len(pods)
        for _ in range(missing):
            self._create_pod(obj)
        for pod in sorted(pods, key=_worth)[: max(-missing, 0)]:
            self.admission.delete(POD, pod, {})
            self.recorder.event(obj, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        self._replica_set_status(obj)

    def _pods(self, obj: Object) -> list[Object]:
        """The pods of a replica set; those that it selects and nobody owns are adopted."""
        found = []
        for pod in self.store.list(POD, obj["metadata"]["namespace"]):
            if owned_by(pod, obj):
                found.append(pod)
            elif (
                not _controller(pod)
                and active(pod)
                and selector_matches(obj["spec"]["selector"], pod["metadata"].get("labels"))
            ):
                metadata = {**pod["metadata"], "ownerReferences": [_reference(REPLICA_SET, obj)]}
                found.append(self.store.put(POD, {**pod, "metadata": metadata}))
        return found

    def _create_pod(self, obj: Object) -> None:
        template = copy.deepcopy(obj["spec"]["template"])
        metadata = {**template["metadata"], "name": f"{obj['metadata']['name']}-{suffix()}",
                    "generateName": f"{obj['metadata']['name']}-", "namespace": obj["metadata"]["namespace"],
                    "ownerReferences": [_reference(REPLICA_SET, obj)]}  # fmt: skip
        pod = self.admission.create(POD, {"metadata": metadata, "spec": template["spec"]})
        self.recorder.event(obj, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    def _replica_set_status(self, obj: Object) -> None:
        pods = [pod for pod in self._pods(obj) if active(pod)]
        wait = obj["spec"].get("minReadySeconds") or 0
        readiness = [available(pod, wait) for pod in pods]
        status: Object = {"replicas": len(pods), "observedGeneration": obj["metadata"]["generation"]}
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": sum(left is not None for left in readiness),
                  "availableReplicas": sum(left == 0 for left in readiness)}  # fmt: skip
        self.admission.status(REPLICA_SET, obj, status | {key: count for key, count in counts.items() if count})
        if soon := [left for left in readiness if left]:
            self._later(REPLICA_SET, obj, min(soon))

    # deployments

    def _deployment(self, obj: Object) -> None:
        sets = [one for one in self.store.list(REPLICA_SET, obj["metadata"]["namespace"]) if owned_by(one, obj)]
        sets.sort(key=revision)
        new = next((one for one in sets if _template(one) == obj["spec"]["template"]), None)
        if obj["spec"].get("paused"):
            return self._deployment_status(obj, new, sets)
        old = [one for one in sets if one is not new]
        if new is None and obj["spec"]["strategy"]["type"] == "Recreate" and self._still_there(obj, old):
            return self._deployment_status(obj, None, sets)
        new, made = self._new_set(obj, new, sets)
        if made:
            return self._deployment_status(obj, new, [*old, new])
        sizes = next_sizes(obj, new, old)
        for one in [new, *old]:
            if (wanted := sizes[one["metadata"]["name"]]) != one["spec"]["replicas"]:
                self._scale(obj, one, wanted)
        self._deployment_status(obj, new, [*old, new])
        return self._forget_old(obj, old, new)

    def _still_there(self, obj: Object, old: list[Object]) -> bool:
        """Recreate: the old pods go first."""
        for one in old:
            if one["spec"]["replicas"]:
                self._scale(obj, one, 0)
        pods = self.store.list(POD, obj["metadata"]["namespace"])
        return any(owned_by(pod, one) for one in old for pod in pods)

    def _new_set(self, obj: Object, new: Object | None, sets: list[Object]) -> tuple[Object, bool]:
        """The replica set of the present template, made or brought to the newest revision."""
        newest = max((revision(one) for one in sets if one is not new), default=0)
        number = revision(new) if new and revision(new) > newest else newest + 1
        annotations = {
            key: value for key, value in (obj["metadata"].get("annotations") or {}).items() if key not in COPIED_NOT
        }
        surge, _ = limits(obj)
        annotations |= {REVISION: str(number), "deployment.kubernetes.io/desired-replicas": str(replicas(obj)),
                        "deployment.kubernetes.io/max-replicas": str(replicas(obj) + surge)}  # fmt: skip
        if made := new is None:
            new = self.admission.create(REPLICA_SET, self._blueprint(obj, annotations))
        elif (new["metadata"].get("annotations") or {}) != annotations:
            new = self.store.put(REPLICA_SET, {**new, "metadata": {**new["metadata"], "annotations": annotations}})
        if (obj["metadata"].get("annotations") or {}).get(REVISION) != str(number):
            live = self.store.get(DEPLOYMENT, obj["metadata"]["namespace"], obj["metadata"]["name"]) or obj
            marks = {**(live["metadata"].get("annotations") or {}), REVISION: str(number)}
            self.store.put(DEPLOYMENT, {**live, "metadata": {**live["metadata"], "annotations": marks}})
        assert new is not None
        return new, made

    def _blueprint(self, obj: Object, annotations: Object) -> Object:
        spec, template = obj["spec"], copy.deepcopy(obj["spec"]["template"])
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        label = {HASH: digest}
        template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **label}
        selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), **label}}
        metadata = {"name": f"{obj['metadata']['name']}-{digest}", "namespace": obj["metadata"]["namespace"],
                    "labels": template["metadata"]["labels"], "annotations": annotations,
                    "ownerReferences": [_reference(DEPLOYMENT, obj)]}  # fmt: skip
        body = {"replicas": 0, "selector": selector, "template": template}
        if spec.get("minReadySeconds"):
            body["minReadySeconds"] = spec["minReadySeconds"]
        return {"metadata": metadata, "spec": body}

    def _scale(self, obj: Object, one: Object, wanted: int) -> None:
        have = one["spec"]["replicas"]
        self.admission.update(REPLICA_SET, {**one, "spec": {**one["spec"], "replicas": wanted}}, one, CONTROLLER)
        way = "up" if wanted > have else "down"
        self.recorder.event(obj, "Normal", "ScalingReplicaSet",
                            f"Scaled {way} replica set {one['metadata']['name']} from {have} to {wanted}")  # fmt: skip

    def _deployment_status(self, obj: Object, new: Object | None, sets: list[Object]) -> None:
        sets = [
            self.store.get(REPLICA_SET, one["metadata"]["namespace"], one["metadata"]["name"]) or one for one in sets
        ]
        fresh = next((one for one in sets if new and one["metadata"]["uid"] == new["metadata"]["uid"]), None)
        _, unavailable = limits(obj)
        have = {
            key: sum((one.get("status") or {}).get(key, 0) for one in sets) for key in ("replicas", "readyReplicas")
        }
        counts = {**have, "availableReplicas": sum(available_count(one) for one in sets),
                  "updatedReplicas": (fresh or {}).get("status", {}).get("replicas", 0)}  # fmt: skip
        counts["unavailableReplicas"] = max(sum(replicas(one) for one in sets) - counts["availableReplicas"], 0)
        status: Object = {"observedGeneration": obj["metadata"]["generation"]}
        status |= {key: count for key, count in counts.items() if count}
        old = obj.get("status") or {}
        conditions = {one["type"]: one for one in old.get("conditions") or []}
        enough = counts["availableReplicas"] >= replicas(obj) - unavailable
        _condition(conditions, "Available", enough, *(
            ("MinimumReplicasAvailable", "Deployment has minimum availability.") if enough else
            ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")))  # fmt: skip
        self._progress(obj, fresh, status, old, conditions)
        self.admission.status(DEPLOYMENT, obj, status | {"conditions": list(conditions.values())})

    def _progress(
        self, obj: Object, new: Object | None, status: Object, old: Object, conditions: dict[str, Object]
    ) -> None:
        name = new["metadata"]["name"] if new else ""
        this, before = f'ReplicaSet "{name}"', conditions.get("Progressing")
        deadline = obj["spec"].get("progressDeadlineSeconds", 600)
        moved = any(status.get(key, 0) > old.get(key, 0) for key in ("updatedReplicas", "readyReplicas", "availableReplicas")) \
            or _stale(status) < _stale(old)  # fmt: skip
        if obj["spec"].get("paused"):
            _condition(conditions, "Progressing", None, "DeploymentPaused", "Deployment is paused")
        elif complete(obj, status):
            _condition(
                conditions, "Progressing", True, "NewReplicaSetAvailable", f"{this} has successfully progressed."
            )
        elif before is None or moved or before["reason"] in ("NewReplicaSetAvailable", "DeploymentPaused"):
            reason = "NewReplicaSetCreated" if not status.get("updatedReplicas") else "ReplicaSetUpdated"
            message = (
                f'Created new replica set "{name}"' if reason == "NewReplicaSetCreated" else f"{this} is progressing."
            )
            conditions.pop("Progressing", None) if moved else None
            _condition(conditions, "Progressing", True, reason, message)
        elif before["status"] == "True" and (left := deadline - age(before["lastUpdateTime"])) <= 0:
            _condition(
                conditions, "Progressing", False, "ProgressDeadlineExceeded", f"{this} has timed out progressing."
            )
        elif before["status"] == "True":
            self._later(DEPLOYMENT, obj, left)
            return
        if not complete(obj, status):
            self._later(DEPLOYMENT, obj, deadline)

    def _forget_old(self, obj: Object, old: list[Object], new: Object) -> None:
        if complete(
            obj, (self.store.get(DEPLOYMENT, obj["metadata"]["namespace"], obj["metadata"]["name"]) or obj)["status"]
        ):
            idle = [one for one in old if not one["spec"]["replicas"] and not one["status"].get("replicas")]
            for one in idle[: max(len(idle) - obj["spec"].get("revisionHistoryLimit", 10), 0)]:
                self.admission.delete(REPLICA_SET, one, {})


def _stale(status: Object) -> int:
    return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))


def _controller(obj: Object) -> bool:
    return any(ref.get("controller") for ref in obj["metadata"].get("ownerReferences") or [])


def _reference(kind: Kind, obj: Object) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.name, "name": obj["metadata"]["name"],
            "uid": obj["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip


def _template(one: Object) -> Object:
    template: Object = copy.deepcopy(one["spec"]["template"])
    template["metadata"]["labels"].pop(HASH, None)
    return template


def _worth(pod: Object) -> tuple[Any, ...]:
    """The order in which pods are given up: not running, not ready, cheap, young."""
    cost = int((pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", 0))
    running = (pod.get("status") or {}).get("phase") == "Running"
    return running, available(pod, 0) is not None, cost, age(pod["metadata"]["creationTimestamp"])


def _condition(conditions: dict[str, Object], type_: str, value: bool | None, reason: str, message: str) -> None:
    word = "Unknown" if value is None else str(value)
    before = conditions.get(type_)
    if before and (before["status"], before["reason"], before["message"]) == (word, reason, message):
        return
    since = before["lastTransitionTime"] if before and before["status"] == word else stamp()
    conditions[type_] = {"type": type_, "status": word, "lastUpdateTime": stamp(), "lastTransitionTime": since,
                         "reason": reason, "message": message}  # fmt: skip
