"""On which platforms the pods of a workload may start, by the nodes that would take them."""

from __future__ import annotations

from collections.abc import Sequence

from ml_deploy.releases.capacity.podneeds import keeps_out
from ml_deploy.releases.cluster import Object


def of_nodes(nodes: Sequence[Object], pod_spec: Object) -> set[str]:
    """Such as `linux/amd64`, for each node that the pod may go to; nodes that do not say are left out."""
    found = set()
    for node in nodes:
        labels = (node.get("metadata") or {}).get("labels") or {}
        system, processor = labels.get("kubernetes.io/os"), labels.get("kubernetes.io/arch")
        if system and processor and not keeps_out(node, pod_spec):
            found.add(f"{system}/{processor}")
    return found
