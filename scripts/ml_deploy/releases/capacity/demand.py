"""How many pods a release needs, and when: what capacity and quotas are asked about."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ml_deploy.releases.capacity.podneeds import requests
from ml_deploy.releases.capacity.quantities import Amounts
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.sources.manifests import template_of


@dataclass(frozen=True)
class Demand:
    """The pods of one workload.

    pod:    one of them, as the server would have it where that is known (its defaults included).
    wanted: how many there are in the end.
    beside: how many start beside those of the version before.
    least:  how many of these must find room at once; else the rollout stands still.
    old:    the template of the version before, of which `before` pods are replaced; None when none is.
    selector, namespace: which pods that run now are replaced.
    """

    title: str
    pod: Object = field(repr=False)
    wanted: int
    beside: int
    least: int
    old: Object | None = field(default=None, repr=False)
    before: int = 0
    selector: Object | None = field(default=None, repr=False)
    namespace: str = ""

    @property
    def size(self) -> Amounts:
        """What one pod asks for."""
        return requests(self.pod["spec"]) | {"pods": 1}

    def of(self, pod: Object) -> Demand:
        """The same of other pods."""
        return replace(self, pod=pod)


def demand(after: Object, live: Object | None, pod: Object | None, *, asked: bool = False) -> Demand | None:
    """The demand of a workload; None where its pods are not counted (daemons, cron jobs) or none is started.

    after: as the server would have it. live: as it is.
    pod:   a pod of it as the server would admit it; its template where that is not known.
    asked: one pod is started ahead for golden predictions.
    """
    template = template_of(after) if after["kind"] != "Pod" else after
    if template is None or after["kind"] not in ("Deployment", "StatefulSet", "ReplicaSet", "Job", "Pod"):
        return None
    pod = pod or _pod(after, template)
    title, namespace = f"{after['kind']} {after['metadata']['name']}", str(after["metadata"].get("namespace") or "")
    wanted, before = _replicas(after), _replicas(live) if live else 0
    if live is None or not before:
        return Demand(title, pod, wanted, wanted, wanted)
    if after["kind"] not in ("Deployment", "StatefulSet"):
        return None  # runs already, and is not replaced
    if template_of(live) == template:
        more = wanted - before
        return Demand(title, pod, more, more, more) if more > 0 else None
    surge, least = _beside(after, wanted)
    if asked and surge == 0:
        surge = least = 1
    selector = (live.get("spec") or {}).get("selector")
    return Demand(title, pod, wanted, surge, least, template_of(live), before, selector, namespace)


def _pod(workload: Object, template: Object) -> Object:
    meta = {"namespace": workload["metadata"].get("namespace"), **(template.get("metadata") or {})}
    return {"kind": "Pod", "metadata": meta, "spec": template["spec"]}


def _replicas(workload: Object) -> int:
    spec = workload.get("spec") or {}
    if workload["kind"] == "Pod":
        return 1
    if workload["kind"] == "Job":
        return min(int(spec.get("parallelism", 1)), int(spec.get("completions") or spec.get("parallelism", 1)))
    return int(spec.get("replicas", 1))


def _beside(after: Object, wanted: int) -> tuple[int, int]:
    """How many new pods start beside the old ones, and how many of them at least at once."""
    if after["kind"] != "Deployment":
        return 0, 0
    rolling = (after.get("spec") or {}).get("strategy") or {}
    if rolling.get("type") == "Recreate":
        return 0, 0
    bounds = rolling.get("rollingUpdate") or {}
    surge = math.ceil(_share(bounds.get("maxSurge", "25%"), wanted))
    missing = math.floor(_share(bounds.get("maxUnavailable", "25%"), wanted))
    if surge == missing == 0:
        missing = 1  # as the controller has it
    return surge, 0 if missing else min(surge, 1)


def _share(value: object, of: int) -> float:
    text = str(value)
    return float(text[:-1]) * of / 100 if text.endswith("%") else float(text)
