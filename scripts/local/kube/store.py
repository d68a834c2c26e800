"""Objects, their resource versions, and the changes that watches replay.

An object handed out must not be changed by whoever reads it: writers put a new one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .kinds import Kind, Object

KEPT_CHANGES = 500


class Change(NamedTuple):
    """What a watch reports: ADDED, MODIFIED or DELETED, with the object before it."""

    version: int
    type: str
    kind: Kind
    object: Object
    before: Object | None


def place(obj: Object) -> tuple[str, str]:
    """Namespace and name."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def reference(owner: Object) -> Object:
    """What a controller writes into `ownerReferences` of what it makes for `owner`."""
    ids = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    return {**ids, "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}


class Store:
    """All objects, in memory."""

    def __init__(self) -> None:
        self.version = 1
        self.changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self.listeners: list[Callable[[Change], None]] = []
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = defaultdict(dict)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self._objects[kind].get((namespace, name))

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or in all, by name."""
        found = self._objects[kind]
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def everything(self) -> Iterator[tuple[Kind, Object]]:
        """Every object of every kind."""
        yield from [(kind, obj) for kind, objects in self._objects.items() for obj in objects.values()]

    def owned(self, owner: Object) -> Iterator[tuple[Kind, Object]]:
        """What has `owner` among its owners."""
        uid = owner["metadata"]["uid"]
        for kind, obj in self.everything():
            if any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences") or []):
                yield kind, obj

    def put(self, kind: Kind, obj: Object) -> Object:
        """Keep an object under a new resource version and tell the listeners."""
        before = self.get(kind, *place(obj))
        return self._tell("MODIFIED" if before else "ADDED", kind, obj, before)

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Forget an object, if it is there."""
        if before := self._objects[kind].pop((namespace, name), None):
            self._tell("DELETED", kind, before, before)

    def oldest(self) -> int:
        """A watch may start at this version or after it."""
        return self.changes[0].version if len(self.changes) == KEPT_CHANGES else 0

    def _tell(self, type_: str, kind: Kind, obj: Object, before: Object | None) -> Object:
        self.version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        if type_ != "DELETED":
            self._objects[kind][place(obj)] = obj
        change = Change(self.version, type_, kind, obj, before)
        self.changes.append(change)
        for listener in list(self.listeners):
            listener(change)
        return obj
