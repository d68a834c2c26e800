"""A short load, open loop: what is asked for, and what was seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

#: Key of an answer: the number of its request in the list that was asked in turn, its status, its body.
AnswerKey = tuple[int, int, bytes]


@dataclass(frozen=True)
class Plan:
    """`count` requests at `rate` a second are measured, after `warmup` more at the same rate that are not.

    When `concurrency` requests are under way, the next one is dropped and counted as such, never put off.
    """

    rate: float
    count: int
    warmup: int = 0
    concurrency: int = 50

    @property
    def seconds(self) -> float:
        """How long the sending takes, warm-up included."""
        return (self.warmup + self.count) / self.rate


@dataclass(frozen=True)
class Sample:
    """One measured request.

    which:   the number of its request in the list that was asked in turn.
    seconds: from the *intended* start to the last byte, so that a stall is felt by all requests that it delays.
    late:    how much later than intended it was sent, in seconds: our own fault, not the endpoint's.
    status:  of the answer, 0 when none came; `error` then says why in a word or two.
    """

    which: int
    seconds: float
    late: float
    status: int
    error: str = ""


@dataclass(frozen=True)
class Load:
    """What was seen. `elapsed` runs from the first measured start to the last answer, in seconds.

    answers: how often each different answer came; `uncounted` came after the first 64 MiB of them.
    """

    samples: tuple[Sample, ...]
    dropped: int
    elapsed: float
    answers: Counter[AnswerKey] = field(default_factory=Counter)
    uncounted: int = 0
