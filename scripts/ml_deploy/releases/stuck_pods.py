"""A StatefulSet waits for a pod of a bad version to get ready before it replaces it, for ever: such pods are deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ml_deploy.releases import removal, rollout
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.selectors import query


def free(cluster: Cluster, applied: Sequence[Object], *, tell: Callable[[str], None]) -> None:
    """Delete the pods that keep StatefulSets from their present template. `applied` is as the server has it."""
    for obj in applied:
        if obj.get("kind") != "StatefulSet" or (obj["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
            continue
        wanted, namespace = obj["spec"]["template"]["spec"], obj["metadata"]["namespace"]
        for pod in cluster.list("v1", "Pod", namespace, selector=query(obj["spec"].get("selector") or {})):
            if is_stuck(pod, obj["metadata"]["uid"], wanted):
                ref = ref_of(pod)
                tell(f"{ref} is stuck on a bad revision: deleted, its StatefulSet makes it anew")
                removal.delete(cluster, ref, pod["metadata"]["uid"])


def is_stuck(pod: Object, owner: str, template: Object) -> bool:
    """Whether a StatefulSet's pod is not ready and runs other containers than the template has."""
    owners = [one.get("uid") for one in pod["metadata"].get("ownerReferences") or []]
    if owner not in owners or pod["metadata"].get("deletionTimestamp"):
        return False
    return rollout.condition(pod, "Ready").get("status") != "True" and not _runs(pod["spec"], template)


def _runs(pod: Object, template: Object) -> bool:
    """Whether a pod's containers are those of a template; admission may have added containers and variables."""
    for kind in ("initContainers", "containers"):
        there = {one["name"]: one for one in pod.get(kind) or []}
        for wanted in template.get(kind) or []:
            one = there.get(wanted["name"]) or {}
            if any(one.get(field) != wanted.get(field) for field in ("image", "command", "args")):
                return False
            if any(variable not in (one.get("env") or []) for variable in wanted.get("env") or []):
                return False
    return True
