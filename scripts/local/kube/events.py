"""Events, as users see them with `kubectl get events`; the same one again only counts up."""

from __future__ import annotations

import hashlib

from .admission import Admission, stamp
from .errors import ApiError
from .kinds import EVENT, Object
from .store import Store


class Recorder:
    """Writes events about objects."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self.store, self.admission = store, admission

    def event(self, about: Object, type_: str, reason: str, message: str, field: str = "") -> None:
        """Record one; `field` is such as `spec.containers{web}`."""
        metadata = about["metadata"]
        key = hashlib.sha256(f"{metadata['uid']}{reason}{message}{field}".encode()).hexdigest()[:16]
        name, namespace = f"{metadata['name']}.{key}", metadata["namespace"]
        if before := self.store.get(EVENT, namespace, name):
            self.store.put(EVENT, {**before, "count": before["count"] + 1, "lastTimestamp": stamp()})
            return
        involved = {"kind": about["kind"], "apiVersion": about["apiVersion"], "name": metadata["name"], "namespace": namespace,
                    "uid": metadata["uid"], **({"fieldPath": field} if field else {})}  # fmt: skip
        event = {"metadata": {"name": name, "namespace": namespace}, "involvedObject": involved, "type": type_,
                 "reason": reason, "message": message, "count": 1, "firstTimestamp": stamp(), "lastTimestamp": stamp(),
                 "source": {"component": "stand-in"}, "reportingComponent": "stand-in", "reportingInstance": ""}  # fmt: skip
        try:
            self.admission.create(EVENT, event)
        except ApiError:
            pass  # the namespace is going away
