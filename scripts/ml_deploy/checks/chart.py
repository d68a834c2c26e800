"""Pictures of latencies in plain characters: GitHub's summaries, logs and terminals all show them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from ml_deploy.checks.statistics import percentile

_ROWS = 10
_WIDTH = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


def latencies(times: Sequence[float], marks: Mapping[str, float]) -> str:
    """A histogram of sorted times in seconds; `marks` name the rows that they fall into. Empty without times.

    Rows are equally wide up to the 99th percentile; what is slower shares the last one.
    """
    if not times:
        return ""
    step = _nice((percentile(times, 0.99) - times[0]) / (_ROWS - 2))
    first = math.floor(times[0] / step)
    rows = Counter(_row(value, step, first) for value in times)
    places = {name: _row(value, step, first) for name, value in marks.items() if math.isfinite(value)}
    lines = []
    for row in range(max(rows) + 1):
        named = [name for name, place in places.items() if place == row]
        lines.append((_label(row, step, first), _bar(rows[row] / max(rows.values())), rows[row], ", ".join(named)))
    width = max(len(label) for label, *_ in lines)
    return "\n".join(
        f"{label:>{width}} │{bar} {count:,}{'  ◀ ' + named if named else ''}" for label, bar, count, named in lines
    )


def _row(value: float, step: float, first: int) -> int:
    return min(math.floor(value / step) - first, _ROWS)


def _label(row: int, step: float, first: int) -> str:
    digits = max(0, -math.floor(math.log10(step * 1000) + 1e-9))
    start = f"{(first + row) * step * 1000:,.{digits}f}"
    return f"from {start} ms" if row == _ROWS else f"{start} – {(first + row + 1) * step * 1000:,.{digits}f} ms"


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, … microseconds and up."""
    power: float = 10 ** math.floor(math.log10(max(step, 1e-5)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def _bar(share: float) -> str:
    eighths = round(share * _WIDTH * 8)
    if share and not eighths:
        eighths = 1
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
