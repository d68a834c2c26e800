"""The nodes' room for some pods: what is allocatable, minus what running pods ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from ml_deploy.releases import selectors
from ml_deploy.releases.capacity.demand import Demand
from ml_deploy.releases.capacity.packing import Items, Size
from ml_deploy.releases.capacity.podneeds import host_ports, keeps_out, requests
from ml_deploy.releases.capacity.quantities import Amounts, amounts, words
from ml_deploy.releases.cluster import Object

_OVER = ("Succeeded", "Failed")


class Rooms:
    """Free room on each node, as tuples over the resources that the demands ask for.

    empty: if nothing ran. now: beside all that runs.
    """

    def __init__(self, nodes: Sequence[Object], pods: Sequence[Object], demands: Sequence[Demand]) -> None:
        self._nodes = nodes
        self._ports = sorted({port for one in demands for port in host_ports(one.pod["spec"])})
        asked = {name for one in demands for name, value in one.size.items() if value}
        self._names = [*sorted(asked), *self._ports]
        index = {str(node["metadata"]["name"]): i for i, node in enumerate(nodes)}
        self._running = [
            (index[where], pod, _replaced_by(pod, demands), self._used(pod))
            for pod in pods
            if (where := (pod.get("spec") or {}).get("nodeName")) in index
            and (pod.get("status") or {}).get("phase") not in _OVER
        ]
        self._out = {one.title: [keeps_out(node, one.pod["spec"]) for node in nodes] for one in demands}
        self.empty = [self._size(self._allocatable(node)) for node in nodes]
        self.now = self._free(lambda _pod, _mine: False)

    def after(self, gone: Callable[[Demand], bool]) -> list[Size]:
        """Free room when the old pods of some demands are gone, and what is on its way out with them."""
        return self._free(
            lambda pod, mine: bool(pod["metadata"].get("deletionTimestamp")) or (mine is not None and gone(mine))
        )

    def items(self, one: Demand, count: int = 1) -> Items:
        """So many of its pods."""
        may = frozenset(i for i, why in enumerate(self._out[one.title]) if not why)
        return Items(self._size(one.size | _taken(one.pod["spec"])), count, may)

    def preempts(self, one: Demand) -> bool:
        """Whether its pods may drive out others of lower priority."""
        own = int(one.pod["spec"].get("priority") or 0)
        return any(int(pod["spec"].get("priority") or 0) < own for _, pod, _, _ in self._running)

    def described(self, one: Demand, rooms: Sequence[Size]) -> str:
        """The arithmetic: `10 nodes, 2 of them taint gpu=true; the closest has 1 CPU, 2Gi memory (node-3)`."""
        out = Counter(why for why in self._out[one.title] if why)
        told = "".join(f", {count} with {why}" for why, count in out.most_common(4))
        count = f"{len(self._nodes)} node{'s' if len(self._nodes) != 1 else ''}{told}"
        items = self.items(one)
        if not items.bins:
            return count
        closest = min(items.bins, key=lambda index: _lacking(items.size, rooms[index]))
        free = "" if rooms is self.empty else " free"
        return f"{count}; the closest has {self._words(rooms[closest], items.size)}{free} ({self._nodes[closest]['metadata']['name']})"

    def left(self, demands: Sequence[Demand]) -> str:
        """The sum of what is free when the old pods are gone: `12 CPU, 24Gi memory are free on 3 nodes`."""
        final = self.after(lambda _: True)
        usable = frozenset().union(*(self.items(one).bins for one in demands))
        total = tuple(sum(max(final[index][at], 0) for index in usable) for at in range(len(self._names)))
        wanted = tuple(1 for _ in self._names)
        return f"{self._words(total, wanted)} free on {len(usable)} of {len(self._nodes)} nodes without the old version"

    def _free(self, gone: Callable[[Object, Demand | None], bool]) -> list[Size]:
        free = [list(room) for room in self.empty]
        for where, pod, mine, used in self._running:
            if not gone(pod, mine):
                room = free[where]
                for at, value in enumerate(used):
                    room[at] -= value
        return [tuple(room) for room in free]

    def _allocatable(self, node: Object) -> Amounts:
        return amounts((node.get("status") or {}).get("allocatable")) | dict.fromkeys(self._ports, 1)

    def _used(self, pod: Object) -> Size:
        return self._size(requests(pod["spec"]) | {"pods": 1} | _taken(pod["spec"]))

    def _size(self, found: Amounts) -> Size:
        return tuple(found.get(name, 0) for name in self._names)

    def _words(self, room: Size, asked: Size) -> str:
        shown = [
            words({name: free}) if free > 0 else f"no {name}"
            for name, free, need in zip(self._names, room, asked, strict=True)
            if need and (name != "pods" or free < need)
        ]
        return ", ".join("no place for another pod" if one == "no pods" else one for one in shown)


def _replaced_by(pod: Object, demands: Sequence[Demand]) -> Demand | None:
    meta = pod["metadata"]
    for one in demands:
        if (
            one.selector
            and meta.get("namespace") == one.namespace
            and selectors.matches(one.selector, meta.get("labels") or {})
        ):
            return one
    return None


def _taken(spec: Object) -> Amounts:
    return dict.fromkeys(host_ports(spec), 1)


def _lacking(size: Size, room: Size) -> tuple[float, float]:
    short = [max(need - free, 0) / need for need, free in zip(size, room, strict=True) if need]
    return max(short), sum(short)
