"""Do the pods of a rollout fit the nodes? Requested is set against allocatable, as the scheduler does it.

Only ever a warning, and pure: it is handed nodes and pods. `Fit.NO` where no placing exists, `Fit.MAYBE`
where it depends on the scheduler, on an autoscaler, or on what we may not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ml_deploy.releases.capacity.demand import Demand
from ml_deploy.releases.capacity.packing import Fit, fit, slots
from ml_deploy.releases.capacity.podneeds import requests, unknowable
from ml_deploy.releases.capacity.quantities import Amounts, add, words
from ml_deploy.releases.capacity.rooms import Rooms
from ml_deploy.releases.cluster import Object


@dataclass(frozen=True)
class Seen:
    """What we were shown of the cluster. pods None: we may not see those of all namespaces.

    autoscaler: what may add nodes, in words; empty when none was found. sure: whether that could be looked up.
    """

    nodes: Sequence[Object] = field(repr=False)
    pods: Sequence[Object] | None = field(repr=False)
    autoscaler: str = ""
    sure: bool = False


@dataclass(frozen=True)
class Opinion:
    """A verdict and a sentence with the arithmetic. YES with a sentence is worth a line in the log, no warning."""

    fit: Fit
    text: str


def judge(seen: Seen, demands: Sequence[Demand]) -> list[Opinion]:
    """What stands against the rollout, for each workload or for all together; empty when there is room."""
    demands = [one for one in demands if one.wanted > 0]
    if not demands or not seen.nodes:
        return []
    rooms = Rooms(seen.nodes, seen.pods or (), demands)
    found = [Opinion(Fit.NO, _nowhere(rooms, one)) for one in demands if slots(rooms.empty, rooms.items(one)) == 0]
    if not found and seen.pods is not None:
        found = [opinion for one in demands if (opinion := _beside(rooms, one)) is not None]
        if all(one.fit is Fit.YES for one in found):
            found += [one for one in _together(rooms, demands) if not found or one.fit is not Fit.YES]
        if not found:
            found = [opinion for one in demands if (opinion := _unknown(one, seen.pods)) is not None]
    return [_softened(seen, one) for one in found]


def _beside(rooms: Rooms, one: Demand) -> Opinion | None:
    """Whether the new pods that must start beside the old ones find room."""
    now = slots(rooms.now, rooms.items(one))
    if now >= one.beside:
        return None
    if now >= one.least:
        return Opinion(Fit.YES, f"{one.title}: there is room for {now} of the {one.beside} new pods that may start beside "
                                "the old ones: the rollout takes longer.")  # fmt: skip
    later = slots(rooms.after(lambda other: other is not one), rooms.items(one))  # the release's other pods may shrink
    verdict = Fit.NO if later < one.least and not rooms.preempts(one) else Fit.MAYBE
    beside = " beside the old ones" if one.old else ""
    pods = f"{one.least} new pod{'s' if one.least > 1 else ''} of {words(one.size)}"
    return Opinion(
        verdict, f"{one.title} needs {pods}{beside}, and there is room for {now}: {rooms.described(one, rooms.now)}."
    )


def _together(rooms: Rooms, demands: Sequence[Demand]) -> list[Opinion]:
    """Whether all pods of the new version find room once those of the old one are gone, and all surges at once."""
    final = rooms.after(lambda _: True)
    at_last = fit(final, [rooms.items(one, one.wanted) for one in demands])
    if at_last is Fit.NO and any(rooms.preempts(one) for one in demands):
        at_last = Fit.MAYBE
    if at_last is not Fit.YES:
        return [Opinion(at_last, _sum(rooms, demands))]
    tight = [one for one in demands if _grows(one) and slots(rooms.now, rooms.items(one)) < one.wanted]
    if tight:
        names = ", ".join(one.title for one in tight)
        return [Opinion(Fit.YES, f"{names}: the new pods ask for more than the old ones; there is room for them in the end, "
                                 "and it may be short on the way.")]  # fmt: skip
    at_once = fit(rooms.now, [rooms.items(one, one.beside) for one in demands])
    if at_once is Fit.YES:
        return []
    return [Opinion(Fit.YES, "There is not room for all workloads to roll at once: some wait for others.")]


def _grows(one: Demand) -> bool:
    before = requests(one.old["spec"]) if one.old else {}
    return one.old is not None and any(n > before.get(name, 0) for name, n in one.size.items() if name != "pods")


def _unknown(one: Demand, pods: Sequence[Object]) -> Opinion | None:
    why = unknowable(one.pod, pods)
    return (
        Opinion(Fit.YES, f"{one.title}: there is room; whether {why} may use it, only the scheduler knows.")
        if why
        else None
    )


def _softened(seen: Seen, one: Opinion) -> Opinion:
    """`cannot` becomes `may not` where an autoscaler adds nodes, or where nobody could be asked whether one does."""
    if one.fit is Fit.YES:
        return one
    if seen.autoscaler:
        return Opinion(Fit.MAYBE, f"{one.text} {seen.autoscaler} may add nodes.")
    return one if seen.sure else Opinion(Fit.MAYBE, f"{one.text} An autoscaler, if there is one, may add nodes.")


def _nowhere(rooms: Rooms, one: Demand) -> str:
    return f"{one.title}: no node could take one of its pods ({words(one.size)}) if it were empty: {rooms.described(one, rooms.empty)}."


def _sum(rooms: Rooms, demands: Sequence[Demand]) -> str:
    wanted: Amounts = {}
    for one in demands:
        wanted = add(wanted, one.size, one.wanted)
    each = ", ".join(f"{one.wanted} of {one.title} ({words(one.size)})" for one in demands)
    return f"The pods of this release do not all find room: {each}; {words(wanted)} in all, and {rooms.left(demands)}."
