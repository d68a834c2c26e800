"""One version against another under the same load: is the new one slower, or does it fail more?

The requests of both were sent in turn, through the same gateway and in the same seconds, so that what troubles the
machine troubles both. A difference counts when chance hardly explains it *and* it is large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml_deploy.checks.load import Sample

#: Answers of each version under which nothing is said.
ENOUGH = 50
_CHANCE = 0.01  # how often a verdict may be wrong where there is no difference
_SLOWER = 1.2  # ratio of the medians from which a difference matters
_SECONDS = 0.002  # and the difference of the medians
_MORE_ERRORS = 0.01  # difference of the shares of failed requests

NO_WORSE, SLOWER, MORE_ERRORS, TOO_FEW, STABLE_FAILS = "no worse", "slower", "more errors", "too few", "no comparison"


@dataclass(frozen=True)
class Version:
    """What one version's requests came to: seconds of those that were answered, sorted, and the number of failed ones."""

    times: tuple[float, ...]
    failed: int

    @property
    def sent(self) -> int:
        """How many requests it was sent."""
        return len(self.times) + self.failed

    @property
    def error_rate(self) -> float:
        """The share of requests that failed, 0 to 1."""
        return self.failed / self.sent if self.sent else 0.0

    @property
    def median(self) -> float:
        """Seconds, failed requests counting as slower than all; infinite when half of them failed."""
        ranked = [*self.times, *[math.inf] * self.failed]
        return ranked[(len(ranked) - 1) // 2] if ranked else math.nan


@dataclass(frozen=True)
class Comparison:
    """The verdict on the new version, with the figures it stands on. `chance` is the p-value that decided, or None."""

    verdict: str
    new: Version
    old: Version
    chance: float | None = None

    @property
    def bad(self) -> bool:
        """Whether the new version should get no more traffic."""
        return self.verdict in (SLOWER, MORE_ERRORS)

    def sentence(self) -> str:
        """The verdict and its figures in one sentence."""
        figures = f"new {_figures(self.new)}, stable {_figures(self.old)}"
        chance = f", p = {self.chance:.2g}" if self.chance is not None and self.bad else ""
        said = {
            NO_WORSE: "the new version is no worse than the stable one",
            SLOWER: "the new version is slower than the stable one",
            MORE_ERRORS: "the new version fails more often than the stable one",
            TOO_FEW: f"too few samples for a verdict on speed and errors ({ENOUGH} of each version are needed)",
            STABLE_FAILS: "no comparison: most requests to the stable version fail, too",
        }[self.verdict]
        return f"{said} ({figures}{chance})"

    def as_json(self) -> dict[str, Any]:
        """For the JSON report; times in seconds, what is infinite becomes null."""

        def version(one: Version) -> dict[str, Any]:
            median = one.median if math.isfinite(one.median) else None
            return {"sent": one.sent, "failed": one.failed, "median": median}

        return {"verdict": self.verdict, "new": version(self.new), "stable": version(self.old), "p": self.chance}


def version(samples: Sequence[Sample]) -> Version:
    """The samples of one version; right is an answer of 2xx or 3xx, and a 4xx, which is the request's fault."""
    times = sorted(sample.seconds for sample in samples if 200 <= sample.status < 500)
    return Version(tuple(times), len(samples) - len(times))


def compare(new: Version, old: Version) -> Comparison:
    """Judge a new version by the stable one. Errors first: fast errors are no speed."""
    if min(new.sent, old.sent) < ENOUGH:
        return Comparison(TOO_FEW, new, old)
    if old.error_rate > 0.5:
        return Comparison(STABLE_FAILS, new, old)
    failing = fisher(new.failed, new.sent, old.failed, old.sent)
    if failing < _CHANCE and new.error_rate - old.error_rate >= _MORE_ERRORS:
        return Comparison(MORE_ERRORS, new, old, failing)
    slower = mann_whitney(new.times, old.times)
    matters = new.median > max(old.median * _SLOWER, old.median + _SECONDS)
    if slower < _CHANCE and matters:
        return Comparison(SLOWER, new, old, slower)
    return Comparison(NO_WORSE, new, old, min(failing, slower))


def mann_whitney(greater: Sequence[float], less: Sequence[float]) -> float:
    """The p-value of `greater` not being greater than `less` (one-sided, normal approximation, ties corrected)."""
    n, m = len(greater), len(less)
    if not n or not m:
        return 1.0
    ranks, ties = _ranks([*greater, *less])
    above = sum(ranks[:n]) - n * (n + 1) / 2
    whole = n + m
    variance = n * m / 12 * (whole + 1 - ties / (whole * (whole - 1))) if whole > 1 else 0.0
    if variance <= 0:  # all the same
        return 1.0
    return 0.5 * math.erfc((above - n * m / 2 - 0.5) / math.sqrt(variance) / math.sqrt(2))


def fisher(failed: int, sent: int, other_failed: int, other_sent: int) -> float:
    """The p-value of the first not failing more often than the other (Fisher's exact test, one-sided)."""
    all_failed, whole = failed + other_failed, sent + other_sent
    ways = math.comb(whole, all_failed)
    most = min(sent, all_failed)
    hits = (math.comb(sent, count) * math.comb(other_sent, all_failed - count) for count in range(failed, most + 1))
    return min(1.0, float(sum(hits) / ways))


def _ranks(values: Sequence[float]) -> tuple[list[float], float]:
    """Each value's rank, equal ones sharing the middle of theirs, and the sum of t³ - t over ties of t values."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, ties, start = [0.0] * len(values), 0.0, 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for position in range(start, end):
            ranks[order[position]] = (start + end + 1) / 2
        ties += (end - start) ** 3 - (end - start)
        start = end
    return ranks, ties


def _figures(one: Version) -> str:
    median = f"median {one.median * 1000:.1f} ms, " if math.isfinite(one.median) else ""
    return f"{median}{one.failed} of {one.sent} failed"
