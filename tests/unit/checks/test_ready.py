"""Waiting for an endpoint: what heals, what does not, and what is said meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ml_deploy.checks.http import Answer, Request
from ml_deploy.checks.ready import wait
from ml_deploy.errors import EndpointDown

GET = Request("GET", "/health")
REFUSED = EndpointDown("GET http://x/health: connection refused.", hint="Nothing listens there.")


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, headers, body)


class Server:
    """Answers as listed, the last one for ever."""

    def __init__(self, *answers: Answer | EndpointDown) -> None:
        self._answers: Iterator[Answer | EndpointDown] = iter(answers)
        self._last = answers[-1]

    def __call__(self, request: Request) -> Answer:
        assert request is GET
        given = next(self._answers, self._last)
        if isinstance(given, EndpointDown):
            raise given
        return given


def waited(server: Server, *, expected: int | None = None, seconds: float = 120.0) -> tuple[float, list[str]]:
    told: list[str] = []
    return wait(server, GET, expected, FakeClock(), seconds, told.append), told


def test_a_serving_endpoint_is_not_waited_for() -> None:
    assert waited(Server(answer(204))) == (0.0, [])


def test_reasons_are_told_once_each() -> None:
    seconds, told = waited(Server(REFUSED, REFUSED, answer(503, b"a"), answer(503, b"b"), answer(200)))
    assert told == [
        "GET http://x/health: connection refused",
        "GET /health is answered with status 503 (a)",
    ]
    assert seconds == pytest.approx(0.2 + 0.3 + 0.45 + 0.675)


def test_no_answer_until_the_deadline() -> None:
    clock = FakeClock()
    with pytest.raises(EndpointDown) as caught:
        wait(Server(REFUSED), GET, None, clock, 30.0, lambda _: None)
    assert caught.value.message == "GET http://x/health: connection refused (waited 28 s)."
    assert caught.value.hint == "Nothing listens there."
    assert clock.now <= 130.0


@pytest.mark.parametrize(("status", "at_most"), [(500, 18), (404, 18), (503, 120), (502, 120), (429, 120)])
def test_how_long_each_status_is_borne(status: int, at_most: float) -> None:
    clock = FakeClock()
    with pytest.raises(EndpointDown, match=f"status {status}"):
        wait(Server(answer(status, b"x")), GET, None, clock, 120.0, lambda _: None)
    assert at_most - 5 <= clock.now - 100 <= at_most


def test_a_changing_body_is_no_new_reason() -> None:
    clock = FakeClock()
    with pytest.raises(EndpointDown):
        wait(Server(*[answer(500, b"request %d" % n) for n in range(100)]), GET, None, clock, 120.0, lambda _: None)
    assert clock.now < 120


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (answer(301, b"", Location="https://x/"), "status 301 (redirect to https://x/)"),
        (answer(401, b"no"), "status 401 (no)"),
        (answer(405, b""), "status 405 (empty body)"),
        (answer(400, b"<\x1b[31m>"), "status 400 (<�[31m>)"),
    ],
)
def test_what_no_time_will_heal_ends_at_once(got: Answer, words: str) -> None:
    clock = FakeClock()
    with pytest.raises(EndpointDown) as caught:
        wait(Server(got), GET, None, clock, 120.0, lambda _: None)
    assert words in caught.value.message
    assert (caught.value.hint != "", clock.now) == (True, 100.0)


@pytest.mark.parametrize("status", [422, 500])
def test_a_prediction_may_expect_any_status(status: int) -> None:
    assert waited(Server(answer(status)), expected=status)[0] == 0.0


def test_a_wrong_status_of_a_prediction_is_left_to_its_judgement() -> None:
    assert waited(Server(answer(422)), expected=200)[0] == 0.0
