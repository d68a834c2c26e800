"""Waiting until an endpoint serves, with the reason why it does not yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ml_deploy.checks.compare import cut
from ml_deploy.checks.http import Answer, Ask, Request, header
from ml_deploy.errors import EndpointDown

#: How long an answer may be wrong in a way that a route being set up explains, but seldom: 404 and 500.
GRACE = 15.0
_PAUSE = (0.2, 2.0)


class Clock(Protocol):
    """Time."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True)
class Done:
    """It serves."""


@dataclass(frozen=True)
class Waiting:
    """Not yet. `seconds` is how long the reason may stay the same before it is hopeless (None: to the deadline)."""

    reason: str
    detail: str = ""
    hint: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Stuck:
    """It will not, whatever the time."""

    reason: str
    detail: str
    hint: str


Verdict = Done | Waiting | Stuck


def verdict(answer: Answer, expected: int | None) -> Verdict:
    """What one answer says. `expected` is the status that a golden prediction waits for; None takes any 2xx."""
    status, reason = answer.status, f"status {answer.status}"
    body = cut(answer.body.decode("utf-8", "replace"), 160) or "empty body"
    if status == expected or 200 <= status < 300:
        return Done()
    if status in (429, 502, 503, 504):
        return Waiting(reason, body, "No pod behind it is ready, or a proxy cannot reach one.")
    if status == 404:
        return Waiting(reason, body, "Check the address and the path; an ingress may not know the route.", GRACE)
    if status >= 500:
        return Waiting(reason, body, "The service itself fails: look at the log of the pod.", GRACE)
    if 300 <= status < 400:
        to = "redirect to " + cut(header(answer, "location"), 160)
        return Stuck(reason, to, "Give the address that it redirects to (https in place of http?).")
    if status in (401, 403):
        return Stuck(reason, body, "Give credentials in `headers`.")
    if expected is not None:
        return Done()  # it serves; what is wrong is said by the judgement of the predictions
    return Stuck(
        reason, body, "Give a path that answers a GET with 2xx as `url-path`, or golden predictions as `cases`."
    )


def wait(
    ask: Ask, request: Request, expected: int | None, clock: Clock, seconds: float, tell: Callable[[str], None]
) -> float:
    """Ask until the endpoint serves, and return how long it took, in seconds.

    `tell` hears each new reason. Raises EndpointDown after `seconds`, or as soon as it is hopeless.
    """
    start = since = clock.monotonic()
    pause, told = _PAUSE[0], ""
    while True:
        state = _try(ask, request, expected)
        now = clock.monotonic()
        if isinstance(state, Done):
            return now - start
        if state.reason != told:
            tell(_text(request, state))
            told, since = state.reason, now
        lasting = isinstance(state, Stuck) or (state.seconds is not None and now - since >= state.seconds)
        if lasting or now + pause - start > seconds:
            waited = f" (waited {now - start:.0f} s)" if now - start >= 1 else ""
            raise EndpointDown(f"{_text(request, state)}{waited}.", hint=state.hint)
        clock.sleep(pause)
        pause = min(pause * 1.5, _PAUSE[1])


def _try(ask: Ask, request: Request, expected: int | None) -> Verdict:
    try:
        return verdict(ask(request), expected)
    except EndpointDown as error:
        return Waiting(error.message, hint=error.hint)


def _text(request: Request, state: Waiting | Stuck) -> str:
    if not state.detail:  # no answer: the adapter's message names the request
        return state.reason.rstrip(".")
    path = request.path.partition("?")[0]  # a query may hold a key
    return f"{request.method} {path} is answered with {state.reason} ({state.detail})"
