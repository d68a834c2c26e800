"""What a wait tells of its progress: each thing once, and no flood of lines from many pods or many objects."""

from __future__ import annotations

from collections.abc import Callable

_FEW = 8  # objects that are told of one by one
_PAUSE = 1.0  # seconds between two lines on the progress of one object
_ROUND = 2.0  # seconds between two lines on the progress of many


class Narrator:
    """Tells when the words on an object change. Give it the time often: what it held back is told then."""

    def __init__(self, tell: Callable[[str], None], count: Callable[[], int], now: float) -> None:
        """count: how many objects are waited for by now. now: seconds, on the clock that the other methods are given."""
        self._tell, self._count = tell, count
        self._held: dict[str, str] = {}
        self._last: dict[str, float] = {}
        self._done: set[str] = set()
        self._round, self._counted = now, ""

    def changed(self, title: str, words: str, now: float, *, done: bool) -> None:
        """An object is in another state than before."""
        if done:
            self._done.add(title)
        else:
            self._done.discard(title)
        if self._count() > _FEW:
            return
        if done or title not in self._last or now - self._last[title] >= _PAUSE:
            self._say(title, words, now)
        else:
            self._held[title] = words

    def tick(self, now: float) -> None:
        """Tell what is due."""
        if self._count() > _FEW:
            self._count_up(now)
        for title, words in list(self._held.items()):
            if now - self._last[title] >= _PAUSE:
                self._say(title, words, now)

    def _say(self, title: str, words: str, now: float) -> None:
        self._held.pop(title, None)
        self._last[title] = now
        self._tell(f"{title}: {words}")

    def _count_up(self, now: float) -> None:
        counted = f"{len(self._done)} of {self._count()} objects are ready"
        due = now - self._round >= _ROUND or len(self._done) == self._count()
        if due and counted != self._counted:
            self._round, self._counted = now, counted
            self._tell(counted)


def listed(names: list[str], most: int = 5) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
