"""Answers as `kubectl get` prints them (Tables), and plain lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .admission import age
from .kinds import DEPLOYMENT, EVENT, POD, SERVICE, Kind, Object

COLUMNS: dict[Kind, list[str]] = {
    POD: ["Name", "Ready", "Status", "Restarts", "Age"], DEPLOYMENT: ["Name", "Ready", "Up-to-date", "Available", "Age"],
    SERVICE: ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"],
    EVENT: ["Last Seen", "Type", "Reason", "Object", "Message"],
}  # fmt: skip


def shown(accept: str, kind: Kind, items: list[Object], metadata: Object, one: bool = False) -> Object:
    """Objects as the client asks for them by its Accept header: a Table, the one object, or a list without kinds."""
    if "as=Table" in accept:
        columns = [{"name": name, "type": "string", "format": "", "description": "", "priority": 0}
                   for name in COLUMNS.get(kind, ["Name", "Age"])]  # fmt: skip
        rows = [{"cells": _cells(kind, obj), "object": {"kind": "PartialObjectMetadata", "metadata": obj["metadata"],
                 "apiVersion": "meta.k8s.io/v1"}} for obj in items]  # fmt: skip
        head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return {**head, "columnDefinitions": columns, "rows": rows}
    if one:
        return items[0]
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": bare}


def _cells(kind: Kind, obj: Object) -> list[Any]:
    cells: Callable[[Object, Object], list[Any]] = _CELLS.get(kind, lambda status, obj: [])
    between = cells(obj.get("status") or {}, obj)
    when = _age(obj.get("lastTimestamp") or obj["metadata"]["creationTimestamp"])
    return [when, *between] if kind is EVENT else [obj["metadata"]["name"], *between, when]


def _age(since: str) -> str:
    seconds = max(int(age(since)), 0)
    size, unit = next((pair for pair in ((86400, "d"), (3600, "h"), (60, "m")) if seconds >= 2 * pair[0]), (1, "s"))
    return f"{seconds // size}{unit}"


def _pod(status: Object, obj: Object) -> list[Any]:
    states = status.get("containerStatuses") or []
    why = [state["reason"] for one in states for how, state in one["state"].items() if state.get("reason")]
    phase = "Terminating" if "deletionTimestamp" in obj["metadata"] else (why or [status.get("phase")])[0]
    ready = sum(one["ready"] for one in states)
    return [f"{ready}/{len(obj['spec']['containers'])}", phase, sum(one["restartCount"] for one in states)]


def _service(status: Object, obj: Object) -> list[Any]:
    spec, outside = obj["spec"], (status.get("loadBalancer") or {}).get("ingress") or []
    ports = [f"{port['port']}:{port.get('nodePort', '-')}/{port['protocol']}" for port in spec["ports"]]
    address = ",".join(one["ip"] for one in outside) or ("<pending>" if spec["type"] == "LoadBalancer" else "<none>")
    return [spec["type"], spec.get("clusterIP", "<none>"), address, ",".join(ports)]


def _event(status: Object, obj: Object) -> list[Any]:
    subject = obj["involvedObject"]
    return [obj["type"], obj["reason"], f"{subject['kind'].lower()}/{subject['name']}", obj["message"]]


def _deployment(status: Object, obj: Object) -> list[Any]:
    ready, updated, available = (status.get(f"{name}Replicas", 0) for name in ("ready", "updated", "available"))
    return [f"{ready}/{obj['spec']['replicas']}", updated, available]


_CELLS = {POD: _pod, SERVICE: _service, EVENT: _event, DEPLOYMENT: _deployment}
