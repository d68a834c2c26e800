"""The order of a smoke test, its deadline, and which error each kind of trouble becomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ml_deploy.checks.cases import Case, parse
from ml_deploy.checks.http import Answer, Request
from ml_deploy.checks.limits import Limits
from ml_deploy.checks.load import Load, Plan, Sample
from ml_deploy.checks.smoke import Demands, RunLoad, Seen, smoke
from ml_deploy.errors import EndpointDown, MlDeployError, TimedOut, TooSlow, WrongAnswers

PLAN = Plan(rate=10, count=100, warmup=10)
CASES = tuple(parse(json.dumps({"request": n, "expect": n}), n) for n in (1, 2, 3))


class FakeClock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def demands(cases: Sequence[Case] = CASES, plan: Plan | None = PLAN, seconds: float = 600, **wanted: Any) -> Demands:
    probe = cases[0].request if cases else Request("GET", "/")
    return Demands(tuple(cases), probe, plan, Limits(**wanted), ready_seconds=30, seconds=seconds)


def echo(request: Request) -> Answer:
    return Answer(200, {}, request.body or b"0")


def loading(*samples: Sample, dropped: int = 0, **answers: int) -> RunLoad:
    def run(plan: Plan, requests: Sequence[Request]) -> Load:
        bodies = Counter({(0, 200, body.encode()): times for body, times in answers.items()})
        return Load(samples, dropped, plan.count / plan.rate, bodies)

    return run


def quick(late: float = 0.0, status: int = 200) -> list[Sample]:
    return [Sample(n % 3, 0.01, late, status) for n in range(100)]


def outcome_of(
    wanted: Demands, ask: Callable[[Request], Answer] = echo, load: RunLoad | None = None
) -> tuple[MlDeployError | None, Seen, list[str]]:
    told: list[str] = []
    seen = Seen()
    try:
        smoke(wanted, ask, load or loading(*quick()), FakeClock(), told.append, seen)
    except MlDeployError as error:
        return error, seen, told
    return None, seen, told


def test_all_is_well() -> None:
    error, seen, told = outcome_of(demands(max_p95=0.02))
    assert error is None
    assert [line.split()[0] for line in told] == ["It", "3", "Load:", "p50", "✓", "p99", "✓", "throughput:"]
    assert seen.report is not None and seen.figures is not None
    assert (seen.report.passed, seen.figures.due, seen.wrong) == (3, 100, [])
    assert json.loads(json.dumps(seen.as_json(), allow_nan=False))["load"]["p95"] == 0.01


def test_wrong_answers_end_it_before_the_load() -> None:
    def load(plan: Plan, requests: Sequence[Request]) -> Load:
        raise AssertionError("no load on wrong answers")

    error, seen, told = outcome_of(demands(), lambda request: Answer(200, {}, b"1"), load)
    assert isinstance(error, WrongAnswers)
    assert seen.figures is None
    assert '✗ "line 2": $: expected 2, got 1 (off by 1, 0.5 of it)' in told


def test_refused_requests_have_a_hint_of_their_own() -> None:
    error, _, _ = outcome_of(demands(), lambda request: Answer(422, {}, b"no such column"))
    assert isinstance(error, WrongAnswers)
    assert "status: expected 200, got 422 (no such column)" in error.message
    assert error.hint.startswith("The service refuses these requests")


def test_many_wrong_answers_do_not_flood_the_log() -> None:
    cases = [parse(json.dumps({"request": 1, "expect": 2}), n) for n in range(500)]
    error, _, told = outcome_of(demands(cases), lambda request: Answer(200, {}, b"1"))
    assert isinstance(error, WrongAnswers)
    assert len(told) < 30
    assert len(error.message) < 1000


def test_limits_missed() -> None:
    error, _, _ = outcome_of(demands(max_p95=0.005))
    assert isinstance(error, TooSlow)
    assert "p95 latency is 10.0 ms (limit: at most 5.0 ms)" in error.message
    assert "too busy" not in error.hint


def test_a_busy_machine_is_named_as_a_cause() -> None:
    error, _, told = outcome_of(demands(max_p95=0.005), load=loading(*quick(late=0.05)))
    assert isinstance(error, TooSlow)
    assert "too busy to send on time" in error.hint
    assert "This machine is busy: 1 of 100 requests left 50.0 ms late or more" in told[-1]


def test_answers_that_were_not_compared_are_told() -> None:
    def load(plan: Plan, requests: Sequence[Request]) -> Load:
        return Load(tuple(quick()), 0, 1.0, uncounted=7)

    error, _, told = outcome_of(demands(), load=load)
    assert error is None and told[-1].startswith("7 answers were not compared")


def test_nobody_answers_under_load() -> None:
    samples = [Sample(0, 1.0, 0.0, 0, "connection refused")] * 100
    error, seen, _ = outcome_of(demands(), load=loading(*samples))
    assert isinstance(error, EndpointDown)
    assert error.message == "Under load no request was answered: connection refused."
    assert seen.figures is not None and seen.figures.error_rate == 1.0


def test_nothing_could_be_sent() -> None:
    error, _, _ = outcome_of(demands(), load=loading(dropped=100))
    assert isinstance(error, EndpointDown)


def test_wrong_only_under_load() -> None:
    error, seen, _ = outcome_of(demands(), load=loading(*quick(), **{"1": 30, "2": 3, "x": 1}))
    assert isinstance(error, WrongAnswers)
    assert error.message.startswith("4 answers under load were wrong")
    assert sorted(times for _, times in seen.wrong) == [1, 3]


def test_wrong_status_under_load_is_an_error_and_no_wrong_answer() -> None:
    error, seen, _ = outcome_of(demands(), load=loading(*quick(status=500)))
    assert isinstance(error, TooSlow)
    assert "error rate is 100.00%" in error.message
    assert seen.wrong == []


def test_without_cases_any_2xx_will_do() -> None:
    error, seen, _ = outcome_of(demands(()), load=loading(*[Sample(0, 0.01, 0.0, 204)] * 100, anything=100))
    assert error is None
    assert seen.report is None


def test_the_deadline_holds_for_predictions_and_load() -> None:
    clock = FakeClock()

    def slow(request: Request) -> Answer:
        clock.now += 40
        return echo(request)

    with pytest.raises(TimedOut, match="The golden predictions took too long"):
        smoke(demands(seconds=100), slow, None, clock, lambda _: None, Seen())
    error, seen, _ = outcome_of(demands(seconds=10))
    assert isinstance(error, TimedOut)
    assert error.message == "The load would take 11 s, and 10 s are left."
    assert seen.report is not None
