"""Limits on what a load showed, and the verdict on each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ml_deploy.checks.statistics import SHARES, Figures, needed


@dataclass(frozen=True)
class Limits:
    """What is demanded; None where nothing is. Times in seconds, the error rate as a share."""

    max_p50: float | None = None
    max_p95: float | None = None
    max_p99: float | None = None
    max_error_rate: float = 0.0
    min_throughput: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One figure against its limit, in words. `limit` is empty where the figure has none."""

    figure: str
    got: str
    limit: str = ""
    kept: bool = True
    note: str = ""

    def text(self) -> str:
        """All of it on one line."""
        limit = f" (limit: {self.limit})" if self.limit else ""
        return f"{self.figure}: {self.got}{limit}{'; ' + self.note if self.note else ''}"


def judge(figures: Figures, limits: Limits) -> list[Verdict]:
    """A verdict on every figure, with or without a limit."""
    verdicts = [_latency(figures, name, getattr(limits, f"max_{name}")) for name in SHARES]
    verdicts.append(_errors(figures, limits.max_error_rate))
    least = limits.min_throughput
    verdicts.append(
        Verdict("throughput", f"{figures.throughput:.1f}/s", f"at least {least:g}/s" if least is not None else "",
                least is None or figures.throughput >= least)
    )  # fmt: skip
    return verdicts


def missed(verdicts: list[Verdict]) -> str:
    """The missed limits in one sentence: `p95 is 812.0 ms (limit: at most 500.0 ms) and …`; empty when all were kept."""
    return " and ".join(f"{v.figure} is {v.got} (limit: {v.limit})" for v in verdicts if not v.kept)


def table(verdicts: list[Verdict]) -> str:
    """The verdicts as a Markdown table."""
    lines = ["| figure | value | limit | |", "|---|---:|---:|---|"]
    for verdict in verdicts:
        mark = "" if not verdict.limit else "✅" if verdict.kept else "❌"
        lines.append(
            f"| {verdict.figure} | {verdict.got} | {verdict.limit} | {' '.join(filter(None, (mark, verdict.note)))} |"
        )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`12.3 ms`, `4.56 s`, or ∞."""
    if math.isinf(seconds):
        return "∞"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _latency(figures: Figures, name: str, limit: float | None) -> Verdict:
    got: float = getattr(figures, name)
    notes = []
    if figures.due < needed(SHARES[name]):
        notes.append(f"too few samples: {figures.due} of {needed(SHARES[name])}")
    if math.isinf(got):
        notes.append(f"{figures.error_rate:.1%} failed")
    return Verdict(
        f"{name} latency",
        duration(got),
        f"at most {duration(limit)}" if limit is not None else "",
        limit is None or got <= limit,
        ", ".join(notes),
    )


def _errors(figures: Figures, limit: float) -> Verdict:
    reasons = [f"{count} × {reason}" for reason, count in figures.errors]
    if figures.dropped:
        reasons.append(f"{figures.dropped} × not sent, too many under way")
    rate = figures.error_rate
    got = f"{rate:.2%} ({figures.failed + figures.dropped} of {figures.due})"
    return Verdict("error rate", got, f"at most {limit:.4g}" if limit else "0", rate <= limit, ", ".join(reasons))
