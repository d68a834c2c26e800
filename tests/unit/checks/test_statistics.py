"""Figures of a load, the limits on them, and the picture."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_deploy.checks import limits
from ml_deploy.checks.chart import latencies
from ml_deploy.checks.limits import Limits
from ml_deploy.checks.load import Load, Plan, Sample
from ml_deploy.checks.statistics import Figures, figures, needed, percentile


def loaded(*seconds: float, bad: int = 0, dropped: int = 0, rate: float = 10.0, elapsed: float = 0.0) -> Figures:
    samples = [Sample(0, value, 0.001, 200) for value in seconds]
    samples += [Sample(0, 0.0001, 0.001, 500)] * bad
    plan = Plan(rate, len(samples) + dropped)
    return figures(plan, Load(tuple(samples), dropped, elapsed), lambda sample: sample.status == 200)


def judged(found: Figures, **wanted: Any) -> dict[str, limits.Verdict]:
    return {verdict.figure: verdict for verdict in limits.judge(found, Limits(**wanted))}


@pytest.mark.parametrize(
    ("count", "share", "rank"),
    [(1, 0.99, 1), (2, 0.5, 1), (100, 0.95, 95), (100, 0.99, 99), (1000, 0.999, 999), (3, 0.5, 2)],
)
def test_percentiles_are_nearest_rank(count: int, share: float, rank: int) -> None:
    assert percentile(range(1, count + 1), share) == rank


def test_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))


def test_samples_needed() -> None:
    assert [needed(share) for share in (0.5, 0.95, 0.99)] == [20, 200, 1000]


def test_figures_of_a_good_load() -> None:
    found = loaded(*[n / 1000 for n in range(1, 101)])
    assert (found.p50, found.p95, found.p99) == (0.050, 0.095, 0.099)
    assert (found.due, found.failed, found.dropped, found.error_rate, found.late) == (100, 0, 0, 0.0, 0.001)
    assert found.throughput == pytest.approx(10.0)


def test_fast_errors_do_not_make_an_endpoint_quick() -> None:
    found = loaded(*[0.1] * 90, bad=10)
    assert (found.p50, found.p95, found.error_rate) == (0.1, math.inf, 0.1)
    assert found.errors == (("status 500", 10),)


def test_what_was_not_sent_counts_as_failed() -> None:
    found = loaded(*[0.1] * 90, dropped=10)
    assert (found.failed, found.dropped, found.error_rate, found.p95) == (0, 10, 0.1, math.inf)


def test_throughput_is_over_the_time_that_it_took() -> None:
    assert loaded(*[0.1] * 100, rate=10, elapsed=20.0).throughput == pytest.approx(5.0)


def test_infinite_figures_are_null_in_json() -> None:
    assert json.loads(json.dumps(loaded(bad=5).as_json(), allow_nan=False))["p50"] is None


def test_limits_kept_and_missed() -> None:
    verdicts = judged(loaded(*[0.1] * 200, bad=2), max_p50=0.1, max_p95=0.0999, max_error_rate=0.01, min_throughput=9.0)
    assert {name: verdict.kept for name, verdict in verdicts.items()} == {
        "p50 latency": True, "p95 latency": False, "p99 latency": True, "error rate": True, "throughput": True,
    }  # fmt: skip
    assert limits.missed(list(verdicts.values())) == "p95 latency is 100.0 ms (limit: at most 99.9 ms)"
    assert verdicts["error rate"].text() == "error rate: 0.99% (2 of 202) (limit: at most 0.01); 2 × status 500"


def test_no_failure_is_allowed_unless_said() -> None:
    assert not judged(loaded(*[0.1] * 1000, bad=1))["error rate"].kept
    assert not judged(loaded(*[0.1] * 1000, dropped=1))["error rate"].kept
    assert judged(loaded(*[0.1] * 1000))["error rate"].kept


def test_too_few_samples_are_said() -> None:
    verdicts = judged(loaded(*[0.1] * 100), max_p95=1.0)
    assert verdicts["p50 latency"].note == ""
    assert verdicts["p95 latency"].note == "too few samples: 100 of 200"
    assert verdicts["p99 latency"].note == "too few samples: 100 of 1000"


def test_a_percentile_beyond_all_answers_misses_its_limit() -> None:
    verdict = judged(loaded(*[0.1] * 10, bad=10), max_p95=60.0, max_error_rate=1.0)["p95 latency"]
    assert (verdict.kept, verdict.got) == (False, "∞")
    assert "50.0% failed" in verdict.note


def test_the_table_marks_only_what_has_a_limit() -> None:
    table = limits.table(limits.judge(loaded(*[0.1] * 1000), Limits(max_p50=0.2))).splitlines()
    assert table[2] == "| p50 latency | 100.0 ms | at most 200.0 ms | ✅ |"
    assert table[3] == "| p95 latency | 100.0 ms |  |  |"
    assert len(table) == 7


def test_chart() -> None:
    times = [0.0051, 0.0055, 0.0062, 0.0062, 0.0062, 0.0079]
    assert latencies(times, {"p50": 0.0062, "max-p95": math.inf}).splitlines() == [
        "5.0 – 5.5 ms │█████████████▍ 1",
        "5.5 – 6.0 ms │█████████████▍ 1",
        "6.0 – 6.5 ms │████████████████████████████████████████ 3  ◀ p50",
        "6.5 – 7.0 ms │ 0",
        "7.0 – 7.5 ms │ 0",
        "7.5 – 8.0 ms │█████████████▍ 1",
    ]


def test_chart_of_one_time_and_of_none() -> None:
    assert latencies([], {}) == ""
    assert len(latencies([1.5] * 3, {}).splitlines()) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(min_value=1e-6, max_value=1e4), min_size=1, max_size=60))
def test_a_chart_loses_nothing_and_stays_small(times: list[float]) -> None:
    lines = latencies(sorted(times), {"p50": percentile(sorted(times), 0.5)}).splitlines()
    assert sum(int(line.split("│")[1].split("◀")[0].split()[-1].replace(",", "")) for line in lines) == len(times)
    assert 1 <= len(lines) <= 11
    assert sum("◀ p50" in line for line in lines) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=100), max_size=50), st.integers(0, 5), st.integers(0, 5))
def test_percentiles_grow_and_figures_add_up(seconds: list[float], bad: int, dropped: int) -> None:
    if not seconds and not bad and not dropped:
        return
    found = loaded(*seconds, bad=bad, dropped=dropped)
    assert found.p50 <= found.p95 <= found.p99
    assert found.error_rate == pytest.approx((bad + dropped) / found.due)
