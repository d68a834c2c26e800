"""What preflight wants to see of nodes, pods and quotas, looked up in the background: it never holds a deployment up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ml_deploy.errors import Forbidden, MlDeployError
from ml_deploy.releases.capacity.verdict import Seen
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref

_STATUS = Ref("v1", "ConfigMap", "kube-system", "cluster-autoscaler-status")


@dataclass
class Survey:
    """What was seen by now. why: what kept us from seeing the rest, in words; empty when all was seen."""

    seen: Seen | None = field(default=None, repr=False)
    quotas: Sequence[Object] = field(default=(), repr=False)
    limit_ranges: Sequence[Object] = field(default=(), repr=False)
    why: str = ""


class Surveyor:
    """Looks in two threads of its own from now on; `result` waits for them, but not long."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._found = Survey()
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True)
                         for work in (self._nodes, self._quotas)]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def result(self, seconds: float) -> Survey:
        """What was found, after at most so many seconds."""
        for thread in self._threads:
            thread.join(seconds)
        found = self._found
        if any(thread.is_alive() for thread in self._threads) and not found.why:
            found.why = f"listing the nodes and their pods takes longer than {seconds:g} s"
        return found

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Forbidden as error:
            self._found.why = f"we may not see them: {error.message}"
        except (ApiError, MlDeployError) as error:
            self._found.why = error.message

    def _nodes(self) -> None:
        nodes = self._cluster.list("v1", "Node", "", keep=slim_node)
        autoscaler, sure = self._autoscaler()
        self._found.seen = Seen(nodes, None, autoscaler, sure)
        running = "status.phase!=Succeeded,status.phase!=Failed"
        pods = self._cluster.list("v1", "Pod", "", fields=running, keep=slim_pod)
        self._found.seen = Seen(nodes, pods, autoscaler, sure)

    def _autoscaler(self) -> tuple[str, bool]:
        """What adds nodes here, and whether we could look: Karpenter by its kind, the cluster autoscaler by its status."""
        if self._cluster.kind("karpenter.sh/v1", "NodePool"):
            return "Karpenter (node autoprovisioning)", True
        try:
            return ("The cluster autoscaler" if self._cluster.get(_STATUS) else ""), True
        except (ApiError, Forbidden):
            return "", False

    def _quotas(self) -> None:
        here = self._cluster.namespace
        try:
            self._found.limit_ranges = self._cluster.list("v1", "LimitRange", here)
            self._found.quotas = self._cluster.list("v1", "ResourceQuota", here)
        except (ApiError, Forbidden):
            return  # the pods' dry run tells what a quota refuses at once


def slim_node(node: Object) -> Object:
    """The part of a node that the scheduler looks at; its list of images is ten times as long."""
    meta, spec = node["metadata"], node.get("spec") or {}
    return {
        "metadata": {"name": meta["name"], "labels": meta.get("labels") or {}},
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {"allocatable": (node.get("status") or {}).get("allocatable") or {}},
    }


def slim_pod(pod: Object) -> Object:
    """The part of a running pod that the scheduler looks at."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    kept = ("nodeName", "overhead", "priority", "resources", "hostNetwork")
    anti = (spec.get("affinity") or {}).get("podAntiAffinity")
    containers = {
        part: [_slim(one) for one in spec[part]] for part in ("initContainers", "containers") if spec.get(part)
    }
    return {
        "metadata": {key: meta[key] for key in ("name", "namespace", "labels", "deletionTimestamp") if key in meta},
        "spec": {**{key: spec[key] for key in kept if key in spec}, **containers,
                 **({"affinity": {"podAntiAffinity": anti}} if anti else {})},
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }  # fmt: skip


def _slim(container: Object) -> Object:
    ports = [one for one in container.get("ports") or [] if one.get("hostPort") or one.get("containerPort")]
    return {key: container[key] for key in ("restartPolicy", "resources") if key in container} | {"ports": ports}
