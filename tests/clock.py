"""A clock for tests that need not wait."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FakeClock:
    """Sleeping moves the clock."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
