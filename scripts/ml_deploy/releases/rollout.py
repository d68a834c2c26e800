"""Has an object become what was asked for? A pure function of the object: Done, Waiting or Stuck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ml_deploy.releases.cluster import Object


@dataclass(frozen=True)
class Done:
    """It is what was asked for."""

    detail: str = ""


@dataclass(frozen=True)
class Waiting:
    """Not yet; `reason` changes as things move."""

    reason: str


@dataclass(frozen=True)
class Stuck:
    """It will not get there by itself."""

    reason: str
    hint: str = ""


Verdict = Done | Waiting | Stuck


def verdict(obj: Object) -> Verdict:
    """The verdict on any object; what has nothing to wait for is Done."""
    judge = _JUDGES.get(obj.get("kind", ""), _custom)
    if unseen(obj):
        return Waiting("its controller has not seen the change yet")
    return judge(obj)


def waited_for(obj: Object) -> bool:
    """Whether a deployment waits for this object at all."""
    if obj.get("kind") == "Service":
        return (obj.get("spec") or {}).get("type") == "LoadBalancer"
    return obj.get("kind") in _JUDGES or is_custom(obj)


def is_custom(obj: Object) -> bool:
    """Whether this is a custom resource, of which nothing is known but its conditions."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    return obj.get("kind") not in _JUDGES and "." in group and not group.endswith(".k8s.io")


def condition(obj: Object, kind: str) -> dict[str, Any]:
    """One of the object's conditions, or an empty dictionary."""
    for one in (obj.get("status") or {}).get("conditions") or []:
        if one.get("type") == kind:
            return dict(one)
    return {}


def is_down(obj: Object) -> bool:
    """Whether a workload that is to have pods has none that is ready."""
    spec, count = obj.get("spec") or {}, _counts(obj)
    if obj.get("kind") == "DaemonSet":
        return count("desiredNumberScheduled") > 0 and not count("numberReady")
    wanted = obj.get("kind") in ("Deployment", "StatefulSet") and int(spec.get("replicas", 1)) > 0
    return wanted and not (count("readyReplicas") or count("availableReplicas"))


def unseen(obj: Object) -> bool:
    """Whether its controller has yet to look at its present spec: what its status says is of the one before."""
    seen = (obj.get("status") or {}).get("observedGeneration")
    wanted = (obj.get("metadata") or {}).get("generation")
    if obj.get("kind") in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        return int(seen or 0) < int(wanted or 0)
    if not isinstance(wanted, int) or not str(seen).isdigit():  # Argo's is a string
        return False
    return int(str(seen)) < wanted


def _counts(obj: Object) -> Callable[[str], int]:
    status = obj.get("status") or {}
    return lambda name: int(status.get(name) or 0)


def _deployment(obj: Object) -> Verdict:
    spec, count = obj.get("spec") or {}, _counts(obj)
    wanted = int(spec.get("replicas", 1))
    progressing, failure = condition(obj, "Progressing"), condition(obj, "ReplicaFailure")
    if spec.get("paused"):
        return Stuck("it is paused", "Take `paused: true` out of its spec, or run `kubectl rollout resume`.")
    late = ""
    if progressing.get("reason") == "ProgressDeadlineExceeded":  # Kubernetes goes on trying, and so do we
        late = f"; no progress within its progressDeadlineSeconds ({spec.get('progressDeadlineSeconds', 600)} s)"
    if count("updatedReplicas") < wanted:
        said = f": {failure['message']}" if failure.get("status") == "True" else ""
        return Waiting(f"{count('updatedReplicas')} of {wanted} new pods made{said}{late}")
    if count("replicas") > count("updatedReplicas"):
        old = count("replicas") - count("updatedReplicas")
        return Waiting(f"{old} old pod{'s' if old > 1 else ''} still to go{late}")
    if count("availableReplicas") < count("updatedReplicas"):
        return Waiting(f"{count('availableReplicas')} of {count('updatedReplicas')} new pods available{late}")
    return Done(f"{wanted} of {wanted} ready")


def _stateful_set(obj: Object) -> Verdict:
    spec, status, count = obj.get("spec") or {}, obj.get("status") or {}, _counts(obj)
    wanted = int(spec.get("replicas", 1))
    strategy = spec.get("updateStrategy") or {}
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    if count("readyReplicas") < wanted:
        return Waiting(f"{count('readyReplicas')} of {wanted} pods ready")
    if strategy.get("type") == "OnDelete":
        return Done(f"{wanted} of {wanted} ready, {count('updatedReplicas')} of the new version (OnDelete)")
    if count("updatedReplicas") < wanted - partition:
        return Waiting(f"{count('updatedReplicas')} of {wanted - partition} pods updated")
    if not partition and status.get("updateRevision") != status.get("currentRevision"):
        return Waiting("waiting for the last pods to be updated")
    part = f", {count('updatedReplicas')} of the new version (partition {partition})" if partition else ""
    return Done(f"{wanted} of {wanted} ready{part}")


def _replica_set(obj: Object) -> Verdict:
    wanted, ready = int((obj.get("spec") or {}).get("replicas", 1)), _counts(obj)("readyReplicas")
    said = f"{ready} of {wanted}"
    return Waiting(f"{said} pods ready") if ready < wanted else Done(f"{said} ready")


def _daemon_set(obj: Object) -> Verdict:
    count = _counts(obj)
    wanted = count("desiredNumberScheduled")
    on_delete = ((obj.get("spec") or {}).get("updateStrategy") or {}).get("type") == "OnDelete"
    if count("updatedNumberScheduled") < wanted and not on_delete:
        return Waiting(f"{count('updatedNumberScheduled')} of {wanted} pods updated")
    if count("numberAvailable") < wanted:
        return Waiting(f"{count('numberAvailable')} of {wanted} pods available")
    part = f", {count('updatedNumberScheduled')} of the new version (OnDelete)" if on_delete else ""
    return Done(f"{wanted} of {wanted} ready{part}")


def _job(obj: Object) -> Verdict:
    failed = condition(obj, "Failed")
    if failed.get("status") == "True":
        return Stuck(f"it failed: {failed.get('message') or failed.get('reason') or 'no reason given'}")
    if condition(obj, "Complete").get("status") == "True":
        return Done("complete")
    count = _counts(obj)
    return Waiting(f"{count('succeeded')} of {(obj.get('spec') or {}).get('completions', 1)} completed")


def _pod(obj: Object) -> Verdict:
    phase = (obj.get("status") or {}).get("phase")
    if phase == "Failed":
        return Stuck(f"it failed: {(obj.get('status') or {}).get('message') or 'see its log'}")
    if phase == "Succeeded" or condition(obj, "Ready").get("status") == "True":
        return Done("ready")
    return Waiting(f"it is {phase or 'Pending'}, not ready")


def _definition(obj: Object) -> Verdict:
    names = condition(obj, "NamesAccepted")
    if names.get("status") == "False":
        return Stuck(f"its names are taken: {names.get('message', '')}")
    return Done("established") if condition(obj, "Established").get("status") == "True" else Waiting("not established")


def _service(obj: Object) -> Verdict:
    if (obj.get("spec") or {}).get("type") != "LoadBalancer":
        return Done()
    given = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if not given:
        return Waiting("its load balancer has no address yet")
    return Done(str(given[0].get("ip") or given[0].get("hostname") or ""))


#: Phases of custom resources without a Ready condition (Argo's Rollouts, many operators') in which they are not there yet.
_NOT_YET = {"Pending", "Creating", "Provisioning", "Initializing", "Starting", "Deploying", "Updating", "Reconciling",
            "Progressing", "Paused", "Degraded", "Failed", "Error"}  # fmt: skip


def _custom(obj: Object) -> Verdict:
    """A custom resource: its Ready condition, else its phase, where it has one that tells of something under way."""
    ready, status = condition(obj, "Ready"), obj.get("status") or {}
    phase = status.get("phase") if isinstance(status, dict) else None
    if not ready and phase in _NOT_YET:
        return Waiting(f"its phase is {phase}" + (f": {status['message']}" if status.get("message") else ""))
    if not ready or ready.get("status") == "True":
        return Done("ready" if ready else "")
    return Waiting(f"not ready: {ready.get('message') or ready.get('reason') or 'no reason given'}")


_JUDGES: dict[str, Callable[[Object], Verdict]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "ReplicaSet": _replica_set,
    "Job": _job,
    "Pod": _pod,
    "CustomResourceDefinition": _definition,
    "Service": _service,
}
