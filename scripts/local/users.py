"""Asks an endpoint golden predictions over and over, as its users do, and counts what they get.

usage: users.py URL CASES REPORT [REQUESTS A SECOND]     until SIGTERM; REPORT is a JSON file

Each request is sent when its time has come, whatever became of the ones before, on a connection of its own.
"""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ml_deploy.checks.cases import Case, judge_answer, load
from ml_deploy.checks.http import Answer

_TIMEOUT = 10.0
_EXAMPLES = 5


class Users:
    """Counts of what the users got."""

    def __init__(self, url: str, cases: list[Case]) -> None:
        self._url = urlsplit(url)
        self._cases = itertools.cycle(cases)
        self._lock = threading.Lock()
        self.sent = self.failed = self.wrong = 0
        self.slowest = 0.0
        self.examples: list[str] = []

    def ask(self) -> None:
        """Send one golden prediction and count its answer."""
        with self._lock:
            case = next(self._cases)
        at = time.strftime("%H:%M:%S")
        start = time.monotonic()
        try:
            answer = self._send(case)
        except (OSError, http.client.HTTPException) as error:
            self._count(f"{at} {type(error).__name__}: {error}", time.monotonic() - start, failed=True)
            return
        outcome = judge_answer(case, answer)
        failed = answer.status != case.status
        self._count(f"{at} {outcome.text()}" if outcome.differences else "", answer.seconds, failed=failed)

    def _send(self, case: Case) -> Answer:
        start = time.monotonic()
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=_TIMEOUT)
        try:
            connection.request(case.request.method, case.request.path, case.request.body, dict(case.request.headers))
            answer = connection.getresponse()
            body = answer.read()
            return Answer(answer.status, dict(answer.headers), body, time.monotonic() - start)
        finally:
            connection.close()

    def _count(self, problem: str, seconds: float, *, failed: bool) -> None:
        with self._lock:
            self.sent += 1
            self.slowest = max(self.slowest, seconds)
            if problem:
                self.failed += failed
                self.wrong += not failed
                self.examples = [*self.examples, problem][:_EXAMPLES]

    def report(self) -> dict[str, object]:
        """The counts; `slowest` in seconds."""
        return {"sent": self.sent, "failed": self.failed, "wrong": self.wrong, "slowest": round(self.slowest, 3),
                "examples": self.examples}  # fmt: skip


def main(url: str, cases: str, report: str, rate: str = "20") -> None:
    """Ask until SIGTERM, then write the report."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for try.sh, which then ends us
    users = Users(url, load(Path(cases)))
    begin = time.monotonic()
    with ThreadPoolExecutor(max_workers=64) as pool:
        for number in itertools.count():
            if stop.wait(max(0.0, begin + number / float(rate) - time.monotonic())):
                break
            pool.submit(users.ask)
    Path(report).write_text(json.dumps(users.report()))


if __name__ == "__main__":
    main(*sys.argv[1:])
