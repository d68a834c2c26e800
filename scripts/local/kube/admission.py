"""Writes: what happens between a request (or a controller) and the store.

Defaults, validation, owners of fields, generations, allocation of addresses, deletion with its
grace, finalizers and propagation, and the garbage collector.
"""

from __future__ import annotations

import copy
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from . import defaults, errors, ownership, validate
from .kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    POD,
    REPLICA_SET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)  # fmt: skip
from .store import Change, Store

GENERATIONS = (DEPLOYMENT, REPLICA_SET, POD)
FOREGROUND = "foregroundDeletion"
SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "name",
                 "namespace", "selfLink")  # fmt: skip


def stamp(seconds: float = 0) -> str:
    """Now, or `seconds` from now, as Kubernetes writes it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(text: str) -> float:
    """Seconds since a time that Kubernetes wrote."""
    return (datetime.now(timezone.utc) - datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds()


@dataclass(frozen=True)
class By:
    """Who writes, and how. Without a manager (the controllers) no ownership is recorded."""

    manager: str = ""
    sub: str = ""
    applied: ownership.Fields | None = None
    dry: bool = False


CONTROLLER = By()


class Admission:
    """The one way into the store."""

    def __init__(self, store: Store, soon: Callable[..., Any]) -> None:
        """`soon` schedules a call for after the present one, such as `loop.call_soon`."""
        self.store = store
        self._soon = soon
        store.listeners.append(self._collect_later)

    def create(self, kind: Kind, obj: Object, by: By = CONTROLLER) -> Object:
        """Store a new object, or say why not."""
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + suffix()
        if not metadata.get("name"):
            raise errors.invalid(kind, "", [("metadata.name", "Required value: name or generateName is required")])
        self._check_place(kind, metadata)
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(field, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        if kind in GENERATIONS:
            metadata["generation"] = 1
        if "status" in kind.subresources:
            obj["status"] = {}
        self._finish(kind, obj, None, by)
        return obj if by.dry else self.store.put(kind, obj)

    def _check_place(self, kind: Kind, metadata: Object) -> None:
        if not kind.namespaced:
            metadata.pop("namespace", None)
        namespace = metadata.get("namespace", "")
        if self.store.get(kind, namespace, metadata["name"]):
            raise errors.already_exists(kind, metadata["name"])
        home = self.store.get(NAMESPACE, "", namespace) if kind.namespaced else None
        if kind.namespaced and home is None:
            raise errors.not_found(NAMESPACE, namespace)
        if home and home["metadata"].get("deletionTimestamp"):
            message = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise errors.ApiError(403, "Forbidden", f'{kind.resource} "{metadata["name"]}" is forbidden: {message}')

    def update(self, kind: Kind, obj: Object, old: Object, by: By = CONTROLLER) -> Object:
        """Store a changed object. Nothing is written when nothing differs."""
        wanted = obj.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise errors.modified(kind, old["metadata"]["name"])
        if by.sub == "status":
            obj = {**old, "status": obj.get("status", {}), "metadata": dict(old["metadata"])}
        elif "status" in kind.subresources:
            obj = {**obj, "status": old.get("status", {})}
        obj = copy.deepcopy(obj)
        kept = {key: old["metadata"][key] for key in SYSTEM_FIELDS if key in old["metadata"]}
        obj["metadata"] = obj["metadata"] | kept
        if by.manager and "managedFields" not in obj["metadata"] and "managedFields" in old["metadata"]:
            obj["metadata"]["managedFields"] = old["metadata"]["managedFields"]
        self._finish(kind, obj, old, by)
        if _comparable(obj) == _comparable(old):
            return old
        if by.dry:
            return obj
        if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers") and kind is not POD:
            return self.store.remove(kind, *_place(obj)) or obj
        return self.store.put(kind, obj)

    def status(self, kind: Kind, obj: Object, status: Object) -> None:
        """A controller's word on an object, unless it went in the meantime."""
        live = self.store.get(kind, *_place(obj))
        if live and live["metadata"]["uid"] == obj["metadata"]["uid"] and live.get("status") != status:
            self.store.put(kind, {**live, "status": copy.deepcopy(status)})

    def _finish(self, kind: Kind, obj: Object, old: Object | None, by: By) -> None:
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.name)
        for field in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not obj["metadata"].get(field, True):
                del obj["metadata"][field]
        defaults.fill(kind, obj)
        if kind is SERVICE:
            self._allocate(obj, old)
        if found := validate.problems(kind, obj, old):
            raise errors.invalid(kind, obj["metadata"]["name"], found)
        if old and kind in GENERATIONS and obj.get("spec") != old.get("spec"):
            obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if by.manager:
            obj["metadata"]["managedFields"] = ownership.record(kind, old, obj, by.manager, by.sub, stamp(), by.applied)

    def _allocate(self, obj: Object, old: Object | None) -> None:
        """Cluster addresses are names only (nothing routes to them); node ports are real."""
        spec, before = obj["spec"], (old or {}).get("spec") or {}
        if spec["type"] == "ExternalName":
            return
        if not spec.get("clusterIP"):
            spec["clusterIP"] = before.get("clusterIP") or f"10.96.{random.randint(1, 254)}.{random.randint(1, 254)}"
        spec["clusterIPs"] = [spec["clusterIP"]]
        if old is None and spec["type"] == "LoadBalancer":
            obj["status"] = {"loadBalancer": {}}
        ports = {(port["port"], port["protocol"]): port.get("nodePort") for port in before.get("ports") or []}
        for port in spec.get("ports") or []:
            if spec["type"] == "ClusterIP":
                port.pop("nodePort", None)
            elif not port.get("nodePort"):
                port["nodePort"] = ports.get((port.get("port"), port["protocol"])) or self._node_port()

    def _node_port(self) -> int:
        taken = {port.get("nodePort") for one in self.store.list(SERVICE) for port in one["spec"].get("ports") or []}
        return random.choice([port for port in range(30000, 32768) if port not in taken])

    def delete(self, kind: Kind, obj: Object, options: Object, dry: bool = False) -> tuple[Object, bool]:
        """Delete as far as it can be done at once: the object, and whether it is gone."""
        name = obj["metadata"]["name"]
        for field, value in (options.get("preconditions") or {}).items():
            label = "UID" if field == "uid" else "ResourceVersion"
            if value and value != obj["metadata"][field]:
                raise errors.precondition(kind, name, label, value, obj["metadata"][field])
        if dry:
            return obj, True
        policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
        grace = _grace(kind, obj, options)
        metadata = dict(obj["metadata"])
        finalizers = set(metadata.get("finalizers") or [])
        if policy == "Foreground" and self._dependents(obj):
            finalizers.add(FOREGROUND)
        if policy == "Orphan":
            self._orphan(obj)
        if not grace and not finalizers and kind is not NAMESPACE:
            return self.store.remove(kind, *_place(obj)) or obj, True
        shorter = grace < metadata.get("deletionGracePeriodSeconds", grace + 1)
        if "deletionTimestamp" not in metadata or (kind is POD and shorter):
            metadata |= {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
            metadata |= {"finalizers": sorted(finalizers)} if finalizers else {}
            phase = {"status": {"phase": "Terminating"}} if kind is NAMESPACE else {}
            obj = self.store.put(kind, {**obj, **phase, "metadata": metadata})
            self._soon(self._empty, kind, obj, policy)
        return obj, False

    def _empty(self, kind: Kind, obj: Object, policy: str) -> None:
        """Delete what a namespace contains, or what must go before its owner."""
        name = obj["metadata"]["name"]
        if kind is NAMESPACE:
            inside = [(k, o) for k, o in self.store.everything() if o["metadata"].get("namespace") == name]
            for inner_kind, inner in inside:
                self.delete(inner_kind, inner, {})
            self._soon(self._end_namespace, name)
        elif policy == "Foreground":
            for inner_kind, inner in self._dependents(obj):
                self.delete(inner_kind, inner, {"propagationPolicy": "Foreground"})

    def _end_namespace(self, name: str) -> None:
        live = self.store.get(NAMESPACE, "", name)
        empty = not any(o["metadata"].get("namespace") == name for _, o in self.store.everything())
        if live and live["metadata"].get("deletionTimestamp") and empty:
            self.store.remove(NAMESPACE, "", name)

    def _dependents(self, owner: Object) -> list[tuple[Kind, Object]]:
        uid = owner["metadata"]["uid"]
        return [(kind, obj) for kind, obj in self.store.everything()
                if any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences") or [])]  # fmt: skip

    def _orphan(self, owner: Object) -> None:
        for kind, obj in self._dependents(owner):
            refs = [ref for ref in obj["metadata"]["ownerReferences"] if ref["uid"] != owner["metadata"]["uid"]]
            self.store.put(kind, {**obj, "metadata": {**obj["metadata"], "ownerReferences": refs}})

    def _collect_later(self, change: Change) -> None:
        if change.type == "DELETED":
            self._soon(self._collect, change.object)
        elif change.type == "ADDED" and change.kind is NAMESPACE:
            self._soon(self._furnish, change.object["metadata"]["name"])

    def _collect(self, gone: Object) -> None:
        """The garbage collector: dependents of what is gone go too, and waiting owners after their dependents."""
        for kind, obj in self._dependents(gone):
            uids = {other["metadata"]["uid"] for _, other in self.store.everything()}
            if not any(ref["uid"] in uids for ref in obj["metadata"]["ownerReferences"]):
                self.delete(kind, obj, {})
        owners = {ref["uid"] for ref in gone["metadata"].get("ownerReferences") or []}
        for kind, obj in list(self.store.everything()):
            metadata = obj["metadata"]
            if (
                metadata["uid"] in owners
                and FOREGROUND in (metadata.get("finalizers") or [])
                and not self._dependents(obj)
            ):
                left = [name for name in metadata["finalizers"] if name != FOREGROUND]
                self.update(kind, {**obj, "metadata": {**metadata, "finalizers": left}}, obj)
        self._end_namespace(gone["metadata"].get("namespace", ""))

    def _furnish(self, namespace: str) -> None:
        """What every new namespace has."""
        for kind, name in ((SERVICE_ACCOUNT, "default"), (CONFIG_MAP, "kube-root-ca.crt")):
            if not self.store.get(kind, namespace, name):
                self.create(kind, {"metadata": {"name": name, "namespace": namespace}})


def suffix(length: int = 5) -> str:
    """Letters and digits as generated names end in."""
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=length))


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _grace(kind: Kind, obj: Object, options: Object) -> int:
    """Seconds that a pod on a node may still run; other kinds need none."""
    if (
        kind is not POD
        or not obj["spec"].get("nodeName")
        or (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    ):
        return 0
    given = options.get("gracePeriodSeconds")
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30) if given is None else given)


def _comparable(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    fields = [
        {key: value for key, value in entry.items() if key != "time"} for entry in metadata.get("managedFields") or []
    ]
    return {**obj, "metadata": {**metadata, "managedFields": fields}}
