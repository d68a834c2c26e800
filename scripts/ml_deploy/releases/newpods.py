"""The pods of a workload's newest version, their events and logs: what diagnosis needs to be told."""

from __future__ import annotations

from ml_deploy.errors import Forbidden, Unreachable
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.diagnosis import Finding
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.lease import Clock
from ml_deploy.releases.rollout import condition
from ml_deploy.releases.selectors import query

_LOOK = 0.25  # seconds between two looks
_REVISION = "deployment.kubernetes.io/revision"
_TEMPLATE = "deprecated.daemonset.template.generation"
#: Label of the pods of one template of a Deployment.
HASH = "pod-template-hash"


def of(cluster: Cluster, workload: Object, *, most: int = 0, fields: str = "") -> list[Object]:
    """The pods that belong to the workload as it is wanted now; those of the version before are left out.

    most: how many are enough; 0 for all. fields: a field selector, for the pods of a Deployment.
    """
    meta, kind = workload["metadata"], workload["kind"]
    if kind == "Pod":
        found = cluster.list("v1", "Pod", meta["namespace"], fields=f"metadata.name={meta['name']}")
        return [pod for pod in found if pod["metadata"].get("uid") == meta.get("uid")]
    chosen = query((workload.get("spec") or {}).get("selector") or {})
    if kind not in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job") or not chosen:
        return []
    if kind == "Deployment":
        return _of_deployment(cluster, workload, chosen, most, fields)
    pods = cluster.list("v1", "Pod", meta["namespace"], selector=chosen, most=most)
    if kind == "StatefulSet":
        revision = (workload.get("status") or {}).get("updateRevision")
        pods = [pod for pod in pods if _label(pod, "controller-revision-hash") == revision]
    if kind == "DaemonSet":  # its own generation also counts what is no change of the template
        wanted = (meta.get("annotations") or {}).get(_TEMPLATE)
        pods = [pod for pod in pods if wanted in (None, _label(pod, "pod-template-generation"))]
    return [pod for pod in pods if _owner(pod) == meta["uid"]]


def ready(cluster: Cluster, workload: Object, *, clock: Clock, seconds: float) -> list[Object]:
    """Those that are ready, as soon as there is one: what was seen ready may not be for a moment.

    seconds: how long to wait for one; there is none when it returns nothing.
    """
    until = clock.monotonic() + seconds
    while True:
        live = cluster.get(ref_of(workload)) or workload
        if (found := [pod for pod in of(cluster, live) if is_ready(pod)]) or clock.monotonic() >= until:
            return found
        clock.sleep(_LOOK)


def is_ready(pod: Object) -> bool:
    """Whether a pod takes requests, and is not on its way out."""
    return condition(pod, "Ready").get("status") == "True" and not pod["metadata"].get("deletionTimestamp")


def _of_deployment(cluster: Cluster, deployment: Object, chosen: str, most: int, fields: str) -> list[Object]:
    """The pods of the replica set of the Deployment's present template; none while there is no such set."""
    newest, namespace = _newest_set(cluster, deployment, chosen), deployment["metadata"]["namespace"]
    if newest is None:
        return []
    mark = _label(newest, HASH)
    narrowed = f"{chosen},{HASH}={mark}" if mark else chosen  # of 500 pods, those of the new version only
    pods = cluster.list("v1", "Pod", namespace, selector=narrowed, most=most, fields=fields)
    return [pod for pod in pods if _owner(pod) == newest["metadata"]["uid"]]


def template_hash(cluster: Cluster, deployment: Object) -> str | None:
    """The value of `pod-template-hash` of a Deployment's present template; None while no replica set has it."""
    newest = _newest_set(cluster, deployment, query(deployment["spec"]["selector"]))
    return _label(newest, HASH) if newest else None


def _newest_set(cluster: Cluster, deployment: Object, chosen: str) -> Object | None:
    meta = deployment["metadata"]
    wanted = (meta.get("annotations") or {}).get(_REVISION)
    for one in cluster.list("apps/v1", "ReplicaSet", meta["namespace"], selector=chosen):
        if _owner(one) == meta["uid"] and (one["metadata"].get("annotations") or {}).get(_REVISION) == wanted:
            return one
    return None


def events_about(cluster: Cluster, obj: Object) -> list[Object]:
    """The events about one object, oldest first; none when we may not read events."""
    meta = obj["metadata"]
    fields = f"involvedObject.name={meta['name']},involvedObject.uid={meta.get('uid', '')}"
    try:
        found = cluster.list("v1", "Event", meta.get("namespace") or cluster.namespace, fields=fields)
    except (ApiError, Forbidden, Unreachable):
        return []
    return sorted(found, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))


def log_of(cluster: Cluster, finding: Finding, lines: int) -> str:
    """The last log lines of the container that a finding names; empty when there are none."""
    if not finding.pod or not finding.container:
        return ""
    try:
        log = cluster.logs(finding.namespace, finding.pod, finding.container, previous=finding.previous, tail=lines)
        if not log and finding.previous:
            log = cluster.logs(finding.namespace, finding.pod, finding.container, tail=lines)
    except (ApiError, Forbidden, Unreachable):
        return ""
    return log.rstrip()


def _owner(obj: Object) -> str:
    for one in obj["metadata"].get("ownerReferences") or []:
        if one.get("controller"):
            return str(one.get("uid"))
    return ""


def _label(obj: Object, name: str) -> str | None:
    return (obj["metadata"].get("labels") or {}).get(name)
