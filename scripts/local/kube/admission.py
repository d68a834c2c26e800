"""Writes: what happens between a request (or a controller) and the store.

Defaults, validation, generations, addresses of services, deletion with its grace, the garbage
collector, and events.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import random
import uuid
from datetime import datetime, timedelta, timezone

from . import defaults, errors, kinds, validate
from .kinds import NAMESPACE, POD, SERVICE, Kind, Object
from .store import Change, Store, place

GENERATIONS = (kinds.DEPLOYMENT, kinds.REPLICA_SET, POD)
FIXED = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "name", "namespace",
         "resourceVersion"]  # fmt: skip


def stamp(seconds: float = 0) -> str:
    """Now, or `seconds` from now, as Kubernetes writes it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(text: str) -> float:
    """Seconds since a time that Kubernetes wrote."""
    return (datetime.now(timezone.utc) - datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds()


def suffix() -> str:
    """Letters and digits as generated names end in."""
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))


class Admission:
    """The one way into the store for all but the status of what controllers watch over."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self._loop = store, loop
        store.listeners.append(self._changed)

    def create(self, kind: Kind, obj: Object, dry: bool = False) -> Object:
        """Store a new object, or say why not."""
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + suffix()
        if not metadata.get("name"):
            raise errors.invalid(kind, "", [("metadata.name", "Required value: name or generateName is required")])
        self._check_place(kind, metadata)
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(field, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        if kind in GENERATIONS:
            metadata["generation"] = 1
        if "status" in kind.subs:
            obj["status"] = {}
        self._finish(kind, obj, None)
        return obj if dry else self.store.put(kind, obj)

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
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise errors.ApiError(403, "Forbidden", f'{kind.resource} "{metadata["name"]}" is forbidden: {why}')

    def update(self, kind: Kind, obj: Object, old: Object, sub: str = "", dry: bool = False) -> Object:
        """Store a changed object. Nothing is written when nothing differs."""
        metadata = obj.get("metadata") or {}
        if metadata.get("resourceVersion", old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise errors.conflict(kind, old["metadata"]["name"], why)
        if sub == "status":
            obj = {**old, "status": obj.get("status") or {}}
        elif "status" in kind.subs:
            obj = {**obj, "status": old.get("status") or {}}
        kept = {key: value for key, value in old["metadata"].items() if key in FIXED}
        owners = {"managedFields": old["metadata"]["managedFields"]} if "managedFields" in old["metadata"] else {}
        obj = copy.deepcopy({**obj, "metadata": {**owners, **obj["metadata"], **kept}})
        self._finish(kind, obj, old)
        return obj if dry or obj == old else self.store.put(kind, obj)

    def status(self, kind: Kind, obj: Object, status: Object) -> None:
        """A controller's word on an object, unless it went in the meantime."""
        live = self.store.get(kind, *place(obj))
        if live and live["metadata"]["uid"] == obj["metadata"]["uid"] and live.get("status") != status:
            self.store.put(kind, {**live, "status": copy.deepcopy(status)})

    def _finish(self, kind: Kind, obj: Object, old: Object | None) -> None:
        obj |= {"apiVersion": kind.api_version, "kind": kind.name}
        for field in ("labels", "annotations", "ownerReferences"):
            if not obj["metadata"].get(field, True):
                del obj["metadata"][field]
        defaults.fill(kind, obj)
        if found := validate.problems(kind, obj, old):
            raise errors.invalid(kind, obj["metadata"]["name"], found)
        if kind is SERVICE and obj["spec"]["type"] != "ExternalName":
            self._allocate(obj, (old or {}).get("spec") or {})
        if old and "generation" in old["metadata"] and obj["spec"] != old["spec"]:
            obj["metadata"]["generation"] += 1

    def _allocate(self, obj: Object, before: Object) -> None:
        """Cluster addresses are names only (nothing routes to them); node ports are real."""
        spec = obj["spec"]
        if not spec.get("clusterIP"):
            spec["clusterIP"] = before.get("clusterIP") or f"10.96.{random.randint(1, 254)}.{random.randint(1, 254)}"
        spec["clusterIPs"] = [spec["clusterIP"]]
        had = {port["port"]: port.get("nodePort") for port in before.get("ports") or []}
        taken = {port.get("nodePort") for one in self.store.list(SERVICE) for port in one["spec"]["ports"]}
        for port in spec["ports"]:
            if spec["type"] == "ClusterIP":
                port.pop("nodePort", None)
            elif not port.get("nodePort"):
                free = [number for number in range(30000, 32768) if number not in taken]
                port["nodePort"] = had.get(port["port"]) or random.choice(free)

    def delete(self, kind: Kind, obj: Object, options: Object) -> bool:
        """Delete now (True), or begin to: pods have their grace, namespaces their contents."""
        metadata = obj["metadata"]
        for field, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = (options.get("preconditions") or {}).get(field) or metadata[field]
            if wanted != metadata[field]:
                why = f"the {label} in the precondition ({wanted}) does not match the {label} in record ({metadata[field]}). The object might have been deleted and then recreated"
                raise errors.conflict(kind, metadata["name"], why)
        if options.get("dryRun"):
            return True
        grace = _grace(kind, obj, options)
        if not grace and kind is not NAMESPACE:
            self.store.remove(kind, *place(obj))
            return True
        if grace < metadata.get("deletionGracePeriodSeconds", grace + 1):
            going = {**metadata, "deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
            phase = {"status": {"phase": "Terminating"}} if kind is NAMESPACE else {}
            self.store.put(kind, {**obj, **phase, "metadata": going})
            self._loop.call_soon(self._empty, metadata["name"]) if kind is NAMESPACE else None
        return False

    def _empty(self, namespace: str) -> None:
        """Delete what a namespace contains, then the namespace; called again whenever something of it has gone."""
        live = self.store.get(NAMESPACE, "", namespace)
        if live and live["metadata"].get("deletionTimestamp"):
            inside = [(kind, obj) for kind, obj in self.store.everything() if place(obj)[0] == namespace]
            for kind, obj in inside:
                if "deletionTimestamp" not in obj["metadata"]:
                    self.delete(kind, obj, {})
            if not inside:
                self.store.remove(NAMESPACE, "", namespace)

    def _changed(self, change: Change) -> None:
        if change.type == "DELETED":
            self._loop.call_soon(self._collect, change.object)
        elif change.type == "ADDED" and change.kind is NAMESPACE:
            self._loop.call_soon(self._furnish, change.object["metadata"]["name"])

    def _collect(self, gone: Object) -> None:
        """The garbage collector: what nobody owns any more goes too."""
        uids = {obj["metadata"]["uid"] for _, obj in self.store.everything()}
        for kind, obj in self.store.owned(gone):
            if not uids & {ref["uid"] for ref in obj["metadata"]["ownerReferences"]}:
                self.delete(kind, obj, {})
        self._empty(gone["metadata"].get("namespace", ""))

    def _furnish(self, namespace: str) -> None:
        """What every new namespace has."""
        for kind, name in ((kinds.SERVICE_ACCOUNT, "default"), (kinds.CONFIG_MAP, "kube-root-ca.crt")):
            if self.store.get(NAMESPACE, "", namespace) and not self.store.get(kind, namespace, name):
                self.create(kind, {"metadata": {"name": name, "namespace": namespace}})

    def event(self, about: Object, type_: str, reason: str, message: str, field: str = "") -> None:
        """Record an event; the same one again only counts up. `field` is such as `spec.containers{web}`."""
        metadata = about["metadata"]
        key = hashlib.sha256(f"{metadata['uid']}{reason}{message}{field}".encode()).hexdigest()[:16]
        name, namespace, now = f"{metadata['name']}.{key}", metadata["namespace"], stamp()
        if before := self.store.get(kinds.EVENT, namespace, name):
            self.store.put(kinds.EVENT, {**before, "count": before["count"] + 1, "lastTimestamp": now})
            return
        subject = {"kind": about["kind"], "apiVersion": about["apiVersion"], "name": metadata["name"],
                   "namespace": namespace, "uid": metadata["uid"], "fieldPath": field}  # fmt: skip
        event = {"metadata": {"name": name, "namespace": namespace}, "involvedObject": subject, "type": type_,
                 "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
                 "source": {"component": "stand-in"}, "reportingComponent": "stand-in", "reportingInstance": ""}  # fmt: skip
        home = self.store.get(NAMESPACE, "", namespace)
        if home and "deletionTimestamp" not in home["metadata"]:
            self.create(kinds.EVENT, event)


def _grace(kind: Kind, obj: Object, options: Object) -> int:
    """Seconds that a pod on a node may still run; other kinds need none."""
    if kind is not POD or "nodeName" not in obj["spec"] or obj["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    given = options.get("gracePeriodSeconds")
    return int(obj["spec"]["terminationGracePeriodSeconds"] if given is None else given)
