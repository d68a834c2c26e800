"""What the scheduler looks at in one pod: how much it asks for, and which nodes it may go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ml_deploy.releases import selectors
from ml_deploy.releases.capacity.quantities import Amounts, add, amounts, most
from ml_deploy.releases.cluster import Object

_HARD = ("NoSchedule", "NoExecute")


def requests(spec: Object, part: str = "requests") -> Amounts:
    """What a pod occupies on its node: its containers together, or its greediest init container, and the overhead.

    part: `requests`, or `limits` for what a quota on limits counts. Sidecars (init containers that are
    always restarted) run beside all that comes after them.
    """
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or []:
        own = _container(container, part)
        if container.get("restartPolicy") == "Always":
            sidecars = add(sidecars, own)
            starting = most(starting, sidecars)
        else:
            starting = most(starting, add(own, sidecars))
    running = sidecars
    for container in spec.get("containers") or []:
        running = add(running, _container(container, part))
    whole = most(running, starting) | amounts((spec.get("resources") or {}).get(part))  # pod-level ones win
    return add(whole, amounts(spec.get("overhead")))


def _container(container: Object, part: str) -> Amounts:
    """Requests default to limits, as the API server has it."""
    resources = container.get("resources") or {}
    limits = amounts(resources.get("limits"))
    return limits if part == "limits" else limits | amounts(resources.get("requests"))


def host_ports(spec: Object) -> frozenset[str]:
    """The ports of its node that a pod takes, as names of resources of which each node has one."""
    found = set()
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for port in container.get("ports") or []:
            number = port.get("hostPort") or (port.get("containerPort") if spec.get("hostNetwork") else None)
            if number:
                found.add(f"port {number}/{port.get('protocol') or 'TCP'}")
    return frozenset(found)


def keeps_out(node: Object, spec: Object) -> str:
    """Why a pod cannot go to a node whatever room it has: a taint, its selector or affinity; empty when it can."""
    node_spec, meta = node.get("spec") or {}, node.get("metadata") or {}
    if spec.get("nodeName"):
        return "" if spec["nodeName"] == meta.get("name") else "the pod names another node"
    if node_spec.get("unschedulable") and not _tolerated(
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, spec
    ):
        return "cordoned"
    for taint in node_spec.get("taints") or []:
        if taint.get("effect") in _HARD and not _tolerated(taint, spec):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"taint {taint.get('key')}{value}"
    labels = meta.get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "other labels than nodeSelector wants"
    return "" if _affinity(spec, labels, str(meta.get("name"))) else "other labels than nodeAffinity wants"


def _tolerated(taint: Object, spec: Object) -> bool:
    for one in spec.get("tolerations") or []:
        if one.get("effect") not in (None, "", taint.get("effect")):
            continue
        if (one.get("operator") or "Equal") == "Exists":
            if one.get("key") in (None, "", taint.get("key")):
                return True
        elif one.get("key") == taint.get("key") and (one.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _affinity(spec: Object, labels: Mapping[str, str], name: str) -> bool:
    wanted = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not wanted:
        return True
    return any(_term(term, labels, name) for term in wanted.get("nodeSelectorTerms") or [])


def _term(term: Object, labels: Mapping[str, str], name: str) -> bool:
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not by_label and not by_field:
        return False  # an empty term matches nothing
    return all(matches(one, labels) for one in by_label) and all(
        matches(one, {"metadata.name": name}) for one in by_field
    )


def matches(expression: Object, labels: Mapping[str, str]) -> bool:
    """One `matchExpressions` entry against labels."""
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or []
    value = labels.get(str(key))
    if operator in ("Gt", "Lt"):
        return _compared(value, values, operator)
    known = {"In": value in values, "NotIn": value not in values, "Exists": value is not None,
             "DoesNotExist": value is None}  # fmt: skip
    return known.get(str(operator), False)


def _compared(value: str | None, values: list[Any], operator: str) -> bool:
    try:
        own, wanted = int(str(value)), int(str(values[0]))
    except (ValueError, IndexError):
        return False
    return own > wanted if operator == "Gt" else own < wanted


def unknowable(pod: Object, others: Iterable[Object] = ()) -> str:
    """What of a pod's placing depends on where other pods are or on volumes, in words; empty when nothing does."""
    spec, meta = pod.get("spec") or {}, pod.get("metadata") or {}
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution"):
            return kind
    if any(one.get("whenUnsatisfiable") != "ScheduleAnyway" for one in spec.get("topologySpreadConstraints") or []):
        return "topologySpreadConstraints"
    if any(one.get("persistentVolumeClaim") or one.get("ephemeral") for one in spec.get("volumes") or []):
        return "its volumes"
    if spec.get("resourceClaims"):
        return "its resource claims"
    labels, namespace = meta.get("labels") or {}, meta.get("namespace")
    if any(_avoids(other, labels, namespace) for other in others):
        return "podAntiAffinity of running pods"
    return ""


def _avoids(other: Object, labels: Mapping[str, str], namespace: object) -> bool:
    """Whether a running pod does not want one with these labels near it."""
    anti = ((other.get("spec") or {}).get("affinity") or {}).get("podAntiAffinity") or {}
    for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        named = term.get("namespaces") or [(other.get("metadata") or {}).get("namespace")]
        there = namespace in named or term.get("namespaceSelector") is not None
        if there and selectors.matches(term.get("labelSelector"), labels):
            return True
    return False
