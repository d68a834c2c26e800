"""The open-loop load: requests leave by the clock, whatever the answers to others do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ml_deploy.adapters.http import Prepared, explain
from ml_deploy.checks.load import AnswerKey, Load, Plan, Sample

Send = Callable[[Prepared], Awaitable[tuple[int, Mapping[str, str], bytes]]]
_ANSWERS_LIMIT = 64 * 2**20
_LEAD = 0.02  # seconds between here and the first send


class Generator:
    """One load; `run` it once."""

    def __init__(self, send: Send, requests: Sequence[Prepared], plan: Plan) -> None:
        self._send = send
        self._requests = requests
        self._plan = plan
        self._under_way: set[asyncio.Task[None]] = set()
        self._samples: list[Sample] = []
        self._answers: Counter[AnswerKey] = Counter()
        self._room = _ANSWERS_LIMIT
        self._uncounted = 0
        self._dropped = 0

    async def run(self) -> Load:
        """Send, wait for the last answer, and tell."""
        plan = self._plan
        start = time.perf_counter() + _LEAD
        measured = start + plan.warmup / plan.rate
        for number in range(plan.warmup + plan.count):
            await self._start(number, start + number / plan.rate)
        await asyncio.gather(*self._under_way)
        elapsed = time.perf_counter() - measured
        return Load(tuple(self._samples), self._dropped, elapsed, self._answers, self._uncounted)

    async def _start(self, number: int, intended: float) -> None:
        await asyncio.sleep(max(0.0, intended - time.perf_counter()))
        counted = number >= self._plan.warmup
        if len(self._under_way) >= self._plan.concurrency:
            self._dropped += counted
            return
        task = asyncio.ensure_future(self._one(number % len(self._requests), intended, counted))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _one(self, which: int, intended: float, counted: bool) -> None:
        late, status, error, body = time.perf_counter() - intended, 0, "", b""
        try:
            status, _, body = await self._send(self._requests[which])
        except Exception as failure:
            error = explain(failure, 0)[0] if not isinstance(failure, asyncio.TimeoutError) else "no answer in time"
        if counted:
            self._samples.append(Sample(which, time.perf_counter() - intended, late, status, error))
            if status:
                self._count((which, status, body))

    def _count(self, key: AnswerKey) -> None:
        if key in self._answers or len(key[2]) <= self._room:
            if key not in self._answers:
                self._room -= len(key[2]) + 200
            self._answers[key] += 1
        else:
            self._uncounted += 1
