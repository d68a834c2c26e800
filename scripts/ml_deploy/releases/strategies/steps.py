"""The steps of a canary: shares of the traffic in percent, and how many pods give a share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from ml_deploy.errors import InputError

#: The share at which a canary becomes the release.
ALL = 100


class Pods(NamedTuple):
    """How many pods each version has at a step."""

    stable: int
    canary: int


def parse(value: str) -> tuple[int, ...]:
    """`10, 50, 100` as (10, 50, 100). Raises ValueError unless they are whole percents from 1 to 100 that grow."""
    words = [word for word in re.split(r"[\s,]+", value.strip()) if word]
    if not words:
        raise ValueError("must be shares of the traffic in percent, such as 10, 50, 100")
    if not all(re.fullmatch(r"\d{1,3}%?", word) for word in words):
        raise ValueError("must be whole percents, such as 10, 50, 100")
    found = tuple(int(word.rstrip("%")) for word in words)
    if not all(1 <= share <= ALL for share in found):
        raise ValueError("must be between 1 and 100 percent each")
    if any(after <= before for before, after in pairwise(found)):
        raise ValueError("must grow from step to step")
    return found


def by_replicas(total: int, share: int) -> Pods:
    """The pods that give a canary `share` percent of the traffic of `total` pods. Raises InputError if none do.

    Exact means to the whole percent: one pod of three is 33.
    """
    pods = _nearest(total, share)
    if 0 < pods.canary < total and _percent(pods.canary, total) == share:
        return pods
    possible = sorted({_percent(count, total) for count in range(1, total)})
    raise InputError(
        f"{total} pod{'s' if total != 1 else ''} cannot give a canary {share} % of the traffic.",
        hint=(f"Possible by the number of pods: {_listed(possible)}, and 100. " if possible else "")
        + "Change `steps` or the number of replicas, or let a Gateway API HTTPRoute that leads to the Service set the weights.",
    )


def beside(total: int, share: int) -> int:
    """How many canary pods take `share` percent of the traffic beside a full stable version (weights on a gateway)."""
    return max(1, math.ceil(total * share / ALL))


def excess(workload: Mapping[str, Any], total: int) -> int:
    """How many pods a rollout of `total` pods may have in excess: the Deployment's maxSurge, at least one."""
    surge = ((workload["spec"].get("strategy") or {}).get("rollingUpdate") or {}).get("maxSurge", "25%")
    part = math.ceil(total * int(surge.rstrip("%")) / 100) if isinstance(surge, str) else int(surge)
    return max(part, 1)


def _nearest(total: int, share: int) -> Pods:
    canary = _rounded(total * share, ALL)
    return Pods(total - canary, canary)


def _percent(count: int, total: int) -> int:
    return _rounded(ALL * count, total)


def _rounded(part: int, whole: int) -> int:
    """part / whole, half upwards, in whole numbers."""
    return (2 * part + whole) // (2 * whole)


def _listed(shares: list[int]) -> str:
    if len(shares) > 12:
        apart = sorted({after - before for before, after in pairwise(shares)})
        return f"{shares[0]}, {shares[1]}, … {shares[-1]} (every {' or '.join(map(str, apart))})"
    return ", ".join(map(str, shares))
