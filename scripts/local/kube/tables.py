"""Answers as `kubectl get` prints them (Tables), and plain lists."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from .admission import age
from .kinds import DEPLOYMENT, EVENT, NAMESPACE, POD, REPLICA_SET, SERVICE, Kind, Object

Cells = tuple[list[str], Callable[[Object], list[object]]]


def plain_list(kind: Kind, items: list[Object], metadata: Object) -> Object:
    """A list, whose items go without kind and apiVersion as a real server's do."""
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": bare}


def render(request: web.Request, kind: Kind, obj: Object) -> Object:
    """One object, as a Table when the client asks for one."""
    return _table(kind, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]}) if _wanted(request) else obj


def render_list(request: web.Request, kind: Kind, items: list[Object], metadata: Object) -> Object:
    return _table(kind, items, metadata) if _wanted(request) else plain_list(kind, items, metadata)


def _wanted(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _table(kind: Kind, items: list[Object], metadata: Object) -> Object:
    names, cells = _COLUMNS.get(kind, ([], lambda obj: []))
    if kind is EVENT:
        columns, row = names, cells
    else:
        columns = ["Name", *names, "Age"]
        row = lambda obj: [obj["metadata"]["name"], *cells(obj), _age(obj["metadata"]["creationTimestamp"])]  # noqa: E731
    rows = [{"cells": row(obj), "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                                           "metadata": obj["metadata"]}} for obj in items]  # fmt: skip
    definitions = [{"name": name, "type": "string", "format": "", "description": "", "priority": 0} for name in columns]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions,
            "rows": rows}  # fmt: skip


def _age(since: str) -> str:
    seconds = int(age(since))
    for unit, size, limit in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{max(seconds, 0) // size}{unit}"
    return f"{seconds // 86400}d"


def _pod(obj: Object) -> list[object]:
    states = (obj.get("status") or {}).get("containerStatuses") or []
    why = [
        one["state"][how].get("reason") for one in states for how in ("waiting", "terminated") if how in one["state"]
    ]
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else (why or [obj["status"].get("phase")])[0]
    ready = f"{sum(one['ready'] for one in states)}/{len(obj['spec']['containers'])}"
    return [ready, phase, sum(one["restartCount"] for one in states)]


def _deployment(obj: Object) -> list[object]:
    status = obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{obj['spec']['replicas']}"
    return [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]


def _service(obj: Object) -> list[object]:
    spec = obj["spec"]
    outside = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    ports = [
        f"{p['port']}{':' + str(p['nodePort']) if p.get('nodePort') else ''}/{p['protocol']}"
        for p in spec.get("ports") or []
    ]
    address = ",".join(one["ip"] for one in outside) or ("<pending>" if spec["type"] == "LoadBalancer" else "<none>")
    return [spec["type"], spec.get("clusterIP", "<none>"), address, ",".join(ports)]


def _event(obj: Object) -> list[object]:
    about = f"{obj['involvedObject']['kind'].lower()}/{obj['involvedObject']['name']}"
    return [_age(obj.get("lastTimestamp") or obj["metadata"]["creationTimestamp"]), obj.get("type"), obj.get("reason"), about,
            obj.get("message")]  # fmt: skip


_COLUMNS: dict[Kind, Cells] = {
    POD: (["Ready", "Status", "Restarts"], _pod),
    DEPLOYMENT: (["Ready", "Up-to-date", "Available"], _deployment),
    REPLICA_SET: (["Desired", "Current", "Ready"], lambda obj: [
        obj["spec"]["replicas"], *(obj["status"].get(key, 0) for key in ("replicas", "readyReplicas"))]),
    SERVICE: (["Type", "Cluster-IP", "External-IP", "Port(s)"], _service),
    NAMESPACE: (["Status"], lambda obj: [obj["status"].get("phase")]),
    EVENT: (["Last Seen", "Type", "Reason", "Object", "Message"], _event),
}  # fmt: skip
