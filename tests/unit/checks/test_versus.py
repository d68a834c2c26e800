"""Is the new version worse than the stable one? Judged on samples whose truth is known."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_deploy.checks import versus
from ml_deploy.checks.load import Sample
from ml_deploy.checks.versus import Version, compare, fisher, mann_whitney


def sampled(seed: int, count: int, seconds: float = 0.010, *, failed: int = 0) -> Version:
    """Latencies as servers have them: log-normal, with a long tail."""
    chance = random.Random(seed)
    times = sorted(seconds * chance.lognormvariate(0, 0.4) for _ in range(count - failed))
    return Version(tuple(times), failed)


def verdicts(pairs: Iterable[tuple[Version, Version]]) -> list[str]:
    return [compare(new, old).verdict for new, old in pairs]


def test_equal_versions_are_hardly_ever_blamed() -> None:
    found = verdicts((sampled(seed, 100), sampled(seed + 5000, 100)) for seed in range(300))
    assert found.count(versus.NO_WORSE) >= 299


def test_a_slower_one_is_found() -> None:
    found = verdicts((sampled(seed, 100, 0.015), sampled(seed + 5000, 100)) for seed in range(100))
    assert found.count(versus.SLOWER) >= 99


def test_what_is_certain_but_small_does_not_count() -> None:
    assert compare(sampled(1, 5000, 0.0110), sampled(2, 5000, 0.010)).verdict == versus.NO_WORSE
    assert compare(sampled(1, 5000, 0.0020), sampled(2, 5000, 0.001)).verdict == versus.NO_WORSE  # one millisecond
    assert mann_whitney(sampled(1, 5000, 0.0110).times, sampled(2, 5000, 0.010).times) < 0.001


def test_faster_is_no_fault() -> None:
    assert compare(sampled(1, 200, 0.005), sampled(2, 200, 0.010)).verdict == versus.NO_WORSE


@pytest.mark.parametrize("new, old, verdict", [
    (0, 0, versus.NO_WORSE), (3, 0, versus.NO_WORSE), (8, 0, versus.MORE_ERRORS), (50, 0, versus.MORE_ERRORS),
    (100, 0, versus.MORE_ERRORS), (20, 18, versus.NO_WORSE), (0, 10, versus.NO_WORSE), (100, 60, versus.STABLE_FAILS),
])  # fmt: skip
def test_errors(new: int, old: int, verdict: str) -> None:
    assert compare(sampled(1, 100, failed=new), sampled(2, 100, failed=old)).verdict == verdict


@pytest.mark.parametrize("new, old", [(0, 0), (49, 100), (100, 49)])
def test_too_few_samples_are_a_verdict_of_their_own(new: int, old: int) -> None:
    found = compare(sampled(1, new, 9.0), sampled(2, old))
    assert (found.verdict, found.bad) == (versus.TOO_FEW, False)
    assert "50 of each version are needed" in found.sentence()


def test_the_sentence_has_the_figures() -> None:
    found = compare(Version((0.02,) * 60, 0), Version((0.01,) * 60, 0))
    assert found.bad and found.sentence().startswith(
        "the new version is slower than the stable one (new median 20.0 ms, 0 of 60 failed, "
        "stable median 10.0 ms, 0 of 60 failed, p = "
    )
    all_failed = compare(Version((), 60), Version((0.01,) * 60, 0))
    assert "(new 60 of 60 failed, stable median 10.0 ms" in all_failed.sentence()
    assert all_failed.as_json()["new"] == {"sent": 60, "failed": 60, "median": None}


def test_what_counts_as_failed() -> None:
    statuses = (200, 204, 302, 404, 429, 500, 503, 0)
    found = versus.version([Sample(0, 0.1 * n, 0.0, status) for n, status in enumerate(statuses)])
    assert (len(found.times), found.failed) == (5, 3)


def test_mann_whitney_is_what_others_compute() -> None:
    """scipy.stats.mannwhitneyu(x, y, alternative='greater', method='asymptotic')."""
    x, y = [1.0, 4.0, 5.0, 5.0, 7.0, 9.0], [2.0, 3.0, 4.0, 5.0, 5.0, 6.0, 1.0]
    assert mann_whitney(x, y) == pytest.approx(0.17251668776490292)
    assert mann_whitney(y, x) == pytest.approx(0.8620417579734572)
    assert mann_whitney([1.0] * 5, [1.0] * 5) == 1.0
    assert mann_whitney([], [1.0]) == 1.0


def test_fisher_is_what_others_compute() -> None:
    """scipy.stats.fisher_exact([[8, 2], [1, 5]], alternative='greater')."""
    assert fisher(8, 10, 1, 6) == pytest.approx(0.02447552, abs=1e-7)
    assert fisher(0, 10, 0, 10) == 1.0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.lists(st.floats(0, 10), min_size=1, max_size=40))
def test_one_side_or_the_other(left: list[float], right: list[float]) -> None:
    assert 0 <= mann_whitney(left, right) <= 1
    assert mann_whitney(left, right) + mann_whitney(right, left) >= 0.99
