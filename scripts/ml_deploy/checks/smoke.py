"""The smoke test itself: wait until the endpoint serves, ask the golden predictions, load it, judge.

It stops at the first of the three that is not good: a load on wrong answers would say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_deploy.checks import limits, ready
from ml_deploy.checks.cases import Case, Outcome, Report, judge, judge_answer
from ml_deploy.checks.compare import cut
from ml_deploy.checks.http import Answer, Ask, Request
from ml_deploy.checks.limits import Limits
from ml_deploy.checks.load import Load, Plan, Sample
from ml_deploy.checks.statistics import Figures, figures
from ml_deploy.errors import EndpointDown, TimedOut, TooSlow, WrongAnswers

_LATE = 0.010
_TOLD = 20

RunLoad = Callable[[Plan, Sequence[Request]], Load]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Demands:
    """What is asked and what is expected. Without cases, `probe` is all that is asked, and must answer 2xx.

    ready_seconds: how long the endpoint may take until it serves; seconds: how long everything may take.
    """

    cases: tuple[Case, ...]
    probe: Request
    plan: Plan | None
    limits: Limits
    ready_seconds: float
    seconds: float

    @property
    def requests(self) -> list[Request]:
        """What the load asks in turn."""
        return [case.request for case in self.cases] or [self.probe]


@dataclass
class Seen:
    """What the test has found so far, for outputs and reports on failure too."""

    waited: float | None = None
    report: Report | None = None
    figures: Figures | None = None
    verdicts: list[limits.Verdict] = field(default_factory=list)
    wrong: list[tuple[Outcome, int]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the JSON report; times in seconds."""
        seen: dict[str, Any] = {"ready_after": self.waited}
        if self.report:
            seen["cases"] = self.report.as_json()
        if self.figures:
            seen["load"] = self.figures.as_json()
            seen["limits"] = [vars(verdict) for verdict in self.verdicts]
            seen["wrong_under_load"] = [
                {"name": o.case.name, "times": times, "differences": list(o.differences)} for o, times in self.wrong
            ]
        return seen


def smoke(demands: Demands, ask: Ask, run_load: RunLoad | None, clock: ready.Clock, tell: Tell, seen: Seen) -> None:
    """Run the test and fill `seen`.

    Raises EndpointDown, WrongAnswers, TooSlow (limits missed) or TimedOut.
    """
    deadline = clock.monotonic() + demands.seconds
    expected = demands.cases[0].status if demands.cases else None
    seen.waited = ready.wait(
        ask,
        demands.probe,
        expected,
        clock,
        min(demands.ready_seconds, demands.seconds),
        lambda why: tell(f"Not yet: {why}"),
    )
    path = demands.probe.path.partition("?")[0]
    tell(f"It serves ({demands.probe.method} {path}, after {seen.waited:.1f} s).")
    if demands.cases:
        _predictions(demands, _until(deadline, clock, ask), tell, seen)
    if demands.plan and run_load:
        left = deadline - clock.monotonic()
        if demands.plan.seconds > left:
            raise TimedOut(
                f"The load would take {demands.plan.seconds:.0f} s, and {max(0.0, left):.0f} s are left.",
                hint="Raise `timeout`, or shorten `duration`.",
            )
        _load(demands, demands.plan, run_load, tell, seen)


def _until(deadline: float, clock: ready.Clock, ask: Ask) -> Ask:
    def asked(request: Request) -> Answer:
        if clock.monotonic() > deadline:
            raise TimedOut("The golden predictions took too long.", hint="Raise `timeout`, or ask fewer.")
        return ask(request)

    return asked


def _predictions(demands: Demands, ask: Ask, tell: Tell, seen: Seen) -> None:
    wrong = 0

    def told(outcome: Outcome) -> None:
        nonlocal wrong
        wrong += bool(outcome.differences)
        if outcome.differences and wrong <= _TOLD:
            tell(f'✗ "{cut(outcome.case.name, 60)}": {cut(outcome.text(), 500)}')

    seen.report = judge(demands.cases, ask, tell=told)
    tell(f"{seen.report.passed} of {len(demands.cases)} golden predictions answered as expected.")
    if seen.report.down:
        first = seen.report.failures[0]
        raise EndpointDown(
            f"{seen.report.sentence()}.",
            hint=first.hint or "Look at the log of the pod that serves, and at its restarts.",
        )
    if seen.report.failed:
        refused = all(400 <= outcome.status < 500 for outcome in seen.report.failures)
        raise WrongAnswers(f"{seen.report.sentence()}.", hint=_REFUSED if refused else _WRONG)


_REFUSED = (
    "The service refuses these requests: check the `path` and the `request` of each, or record them again. A case that "
    "is meant to be refused says so by its `status`."
)
_WRONG = (
    "Either the wrong model (or preprocessing, or library version) serves, or the golden predictions belong to another "
    "model: record them again with `record-cases` when the new answers are right, or widen `rtol`, `atol` or `ignore`."
)


def _load(demands: Demands, plan: Plan, run_load: RunLoad, tell: Tell, seen: Seen) -> None:
    seconds = plan.count / plan.rate
    first = f", {plan.warmup} more before them are not counted" if plan.warmup else ""
    tell(f"Load: {plan.count} requests at {plan.rate:g}/s for {seconds:.4g} s{first}.")
    load = run_load(plan, demands.requests)
    seen.figures = figures(plan, load, lambda sample: _right(demands.cases, sample))
    seen.verdicts = limits.judge(seen.figures, demands.limits)
    seen.wrong = _wrong(demands.cases, load)
    for verdict in seen.verdicts:
        tell(f"{' ' if not verdict.limit else '✓' if verdict.kept else '✗'} {verdict.text()}")
    if seen.figures.late > _LATE:
        tell(f"This machine is busy: 1 of 100 requests left {limits.duration(seen.figures.late)} late or more, "
             "and that counts in the latencies.")  # fmt: skip
    if load.uncounted:
        tell(f"{load.uncounted} answers were not compared: different ones before them fill 64 MiB.")
    _judge_load(seen, load)


def _judge_load(seen: Seen, load: Load) -> None:
    if not any(sample.status for sample in load.samples):
        why = load.samples[0].error if load.samples else "none could be sent"
        raise EndpointDown(f"Under load no request was answered: {why}.", hint="Look at the log of the pod.")
    if seen.wrong:
        outcome, _ = seen.wrong[0]
        raise WrongAnswers(
            f"{sum(times for _, times in seen.wrong)} answers under load were wrong, though the same requests alone were "
            f'answered rightly; first "{cut(outcome.case.name, 60)}": {cut(outcome.text(), 400)}.',
            hint="Something is shared between requests: a buffer, a session that is not thread-safe, a cache.",
        )
    missed = limits.missed(seen.verdicts)
    if missed:
        busy = "This machine was too busy to send on time, see the log: its own delay counts in the latencies. "
        late = seen.figures is not None and seen.figures.late > _LATE
        raise TooSlow(
            f"Under load, {missed}.",
            hint=(busy if late else "")
            + "Give the pods more CPU or replicas, make the model faster, or change the limits.",
        )


def _right(cases: Sequence[Case], sample: Sample) -> bool:
    return sample.status == cases[sample.which].status if cases else 200 <= sample.status < 300


def _wrong(cases: Sequence[Case], load: Load) -> list[tuple[Outcome, int]]:
    """Answers under load with the right status and a wrong body, and how often each came."""
    if not cases:
        return []
    found = []
    for (which, status, body), times in load.answers.items():
        case = cases[which]
        # The kind of the body is not kept: what is no JSON counts as text, and is compared as such.
        outcome = judge_answer(case, Answer(status, {"content-type": "text/plain"}, body))
        if status == case.status and outcome.differences:
            found.append((outcome, times))
    return found
