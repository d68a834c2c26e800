"""Objects, their resource versions, and the changes that watches replay.

An object handed out must not be changed by whoever reads it: writers put a new one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .kinds import Kind, Object

KEPT_CHANGES = 4000


class Change(NamedTuple):
    """What a watch reports: ADDED, MODIFIED or DELETED, with the object before it."""

    version: int
    type: str
    kind: Kind
    object: Object
    before: Object | None


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
        for kind, objects in list(self._objects.items()):
            for obj in list(objects.values()):
                yield kind, obj

    def put(self, kind: Kind, obj: Object) -> Object:
        """Keep an object under a new resource version and tell the listeners."""
        key = _key(obj)
        before = self._objects[kind].get(key)
        obj = self._versioned(obj)
        self._objects[kind][key] = obj
        self._tell("MODIFIED" if before else "ADDED", kind, obj, before)
        return obj

    def remove(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Forget an object; the last state of it, or None when there was none."""
        before = self._objects[kind].pop((namespace, name), None)
        if before is None:
            return None
        last = self._versioned(before)
        self._tell("DELETED", kind, last, before)
        return last

    def oldest(self) -> int:
        """A watch may start at this version or after it."""
        if len(self.changes) < KEPT_CHANGES:
            return 0
        return self.changes[0].version

    def _versioned(self, obj: Object) -> Object:
        self.version += 1
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self.version)}}

    def _tell(self, type_: str, kind: Kind, obj: Object, before: Object | None) -> None:
        change = Change(self.version, type_, kind, obj, before)
        self.changes.append(change)
        for listener in list(self.listeners):
            listener(change)


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
