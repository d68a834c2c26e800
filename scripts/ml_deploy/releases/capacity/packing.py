"""Do so many items fit into these bins? Certain where that can be known, and honest where it cannot.

Items of one kind are alike. A bin's room and an item's size are tuples over the same resources.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

Size = tuple[int, ...]

_STEPS = 3_000  # of the exact search; a tenth of a second or so
_BINS, _ITEMS = 40, 150  # more than that is not searched


class Fit(Enum):
    """NO: no way of placing exists. YES: the usual ways of placing all succeed. MAYBE: it depends on the placing."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


@dataclass(frozen=True)
class Items:
    """Alike items. bins: the indices of those that may take one."""

    size: Size
    count: int
    bins: frozenset[int]


def fit(bins: Sequence[Size], kinds: Sequence[Items]) -> Fit:
    """Whether all items fit into the bins."""
    kinds = [kind for kind in kinds if kind.count > 0]
    if any(slots(bins, kind) < kind.count for kind in kinds) or _too_much(bins, kinds):
        return Fit.NO
    if len(kinds) < 2:
        return Fit.YES
    orders = (kinds, kinds[::-1])
    if all(_greedy(bins, order, sign) for order in orders for sign in (1, -1)):
        return Fit.YES
    found = _Search(bins, kinds).run()
    return Fit.NO if found is False else Fit.MAYBE


def fits(size: Size, room: Size) -> bool:
    """Whether one item fits; what it needs nothing of may be overdrawn, as for the scheduler."""
    return all(need <= free for need, free in zip(size, room, strict=True) if need)


def slots(bins: Sequence[Size], kind: Items) -> int:
    """How many items of one kind fit when nothing else is placed."""
    return sum(_times(kind.size, bins[index]) for index in kind.bins)


def _times(size: Size, room: Size) -> int:
    each = [free // need if free >= 0 else 0 for need, free in zip(size, room, strict=True) if need > 0]
    return min(each) if each else 1_000_000


def _too_much(bins: Sequence[Size], kinds: Sequence[Items]) -> bool:
    """More in all than there is room in all, for some resource."""
    usable = frozenset().union(*(kind.bins for kind in kinds)) if kinds else frozenset()
    for resource in range(len(kinds[0].size) if kinds else 0):
        wanted = sum(kind.size[resource] * kind.count for kind in kinds)
        if wanted > sum(max(bins[index][resource], 0) for index in usable):
            return True
    return False


def _greedy(bins: Sequence[Size], kinds: Sequence[Items], sign: int) -> bool:
    """Each item to the emptiest bin (sign 1, as schedulers spread) or to the fullest that takes it (sign -1)."""
    room = list(bins)
    whole = [max(column) or 1 for column in zip(*bins, strict=True)]
    for kind in kinds:
        score = _scorer(whole, sign)
        heap = [(score(room[index]), index) for index in kind.bins if fits(kind.size, room[index])]
        heapq.heapify(heap)
        for _ in range(kind.count):
            if not heap:
                return False
            _, index = heap[0]
            room[index] = _less(room[index], kind.size)
            if fits(kind.size, room[index]):
                heapq.heapreplace(heap, (score(room[index]), index))
            else:
                heapq.heappop(heap)
    return True


def _scorer(whole: Sequence[int], sign: int) -> Callable[[Size], float]:
    def score(room: Size) -> float:
        return -sign * sum(free / most for free, most in zip(room, whole, strict=True))

    return score


def _less(room: Size, size: Size) -> Size:
    return tuple(free - need for free, need in zip(room, size, strict=True))


class _Search:
    """Every way of placing, big items first, bins that are alike tried once; gives up after some steps."""

    def __init__(self, bins: Sequence[Size], kinds: Sequence[Items]) -> None:
        whole = [max(column) or 1 for column in zip(*bins, strict=True)]

        def bulk(kind: Items) -> float:
            return max(need / most for need, most in zip(kind.size, whole, strict=True))

        self._kinds = sorted(kinds, key=lambda kind: (-bulk(kind), len(kind.bins)))
        takers = [(i, tuple(n for n, k in enumerate(self._kinds) if i in k.bins)) for i in range(len(bins))]
        useful = [(i, by) for i, by in takers if any(fits(self._kinds[n].size, bins[i]) for n in by)]
        self._room = [bins[i] for i, _ in useful]
        self._takers = [by for _, by in useful]
        self._left = _STEPS
        self._failed: set[tuple[object, ...]] = set()

    def run(self) -> bool | None:
        """True or False, or None when it takes too long."""
        if len(self._room) > _BINS or sum(kind.count for kind in self._kinds) > _ITEMS:
            return None
        try:
            return self._place(0, self._kinds[0].count)
        except _GaveUp:
            return None

    def _place(self, number: int, count: int) -> bool:
        if count == 0:
            if number + 1 == len(self._kinds):
                return True
            number, count = number + 1, self._kinds[number + 1].count
        self._left -= 1
        if self._left <= 0:
            raise _GaveUp
        state = (number, count, *sorted(zip(self._room, self._takers, strict=True)))
        if state in self._failed:
            return False
        found = any(self._put(index, number, count) for index in self._choices(number))
        if not found:
            self._failed.add(state)
        return found

    def _choices(self, number: int) -> list[int]:
        """One bin of each sort that takes an item of this kind, the fullest first."""
        size = self._kinds[number].size
        sorts = {
            (room, self._takers[index]): index
            for index, room in enumerate(self._room)
            if number in self._takers[index] and fits(size, room)
        }
        return [index for _, index in sorted(sorts.items())]

    def _put(self, index: int, number: int, count: int) -> bool:
        before = self._room[index]
        self._room[index] = _less(before, self._kinds[number].size)
        if self._place(number, count - 1):
            return True
        self._room[index] = before
        return False


class _GaveUp(Exception):
    """Too many steps."""
