"""Figures of a load: percentiles, error rate, throughput."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ml_deploy.checks.load import Load, Plan, Sample

#: The percentiles that are reported and can be limited.
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Figures:
    """What a load showed. Times in seconds, throughput in requests a second.

    Percentiles are over all requests that were due: one that failed or was dropped counts as slower than any
    that succeeded, so that fast errors and requests never sent cannot make an endpoint look quick. They are
    infinite where too many failed. `late` is the 99th percentile of how late we ourselves sent.
    """

    due: int
    failed: int
    dropped: int
    p50: float
    p95: float
    p99: float
    throughput: float
    late: float
    times: tuple[float, ...] = ()
    errors: tuple[tuple[str, int], ...] = ()

    @property
    def error_rate(self) -> float:
        """The share of requests that failed or were dropped, 0 to 1."""
        return (self.failed + self.dropped) / self.due if self.due else 1.0

    def as_json(self) -> dict[str, Any]:
        """The figures for a JSON report, times in seconds; what is infinite becomes null."""
        plain = {name: getattr(self, name) for name in ("due", "failed", "dropped", *SHARES, "throughput", "late")}
        plain["error_rate"] = self.error_rate
        plain["errors"] = dict(self.errors)
        return {name: None if value == math.inf else value for name, value in plain.items()}


def figures(plan: Plan, load: Load, right: Callable[[Sample], bool]) -> Figures:
    """Sum up a load; `right` says of a sample whether it was answered with the status that it should have."""
    times = sorted(sample.seconds for sample in load.samples if right(sample))
    failed = [sample for sample in load.samples if not right(sample)]
    ranked = times + [math.inf] * (plan.count - len(times))
    reasons = Counter(sample.error or f"status {sample.status}" for sample in failed)
    return Figures(
        due=plan.count,
        failed=len(failed),
        dropped=load.dropped,
        p50=percentile(ranked, SHARES["p50"]),
        p95=percentile(ranked, SHARES["p95"]),
        p99=percentile(ranked, SHARES["p99"]),
        throughput=len(times) / max(load.elapsed, plan.count / plan.rate),
        late=percentile(sorted(sample.late for sample in load.samples), 0.99) if load.samples else 0.0,
        times=tuple(times),
        errors=tuple(reasons.most_common(5)),
    )


def percentile(ranked: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least `share` of them do not exceed (nearest rank); NaN of nothing."""
    if not ranked:
        return math.nan
    return ranked[max(0, math.ceil(round(share * len(ranked), 9)) - 1)]


def needed(share: float) -> int:
    """How many samples make a percentile more than a guess: ten beyond it."""
    return round(10 / (1 - share))
