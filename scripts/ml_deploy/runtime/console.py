"""What a person reads while a command works: lines, groups, annotations; escaped and masked.

On GitHub these become workflow commands, on a terminal plain text. Whatever comes from
outside (a server's answer, a pod's log, a file name) passes `escape` here, so that it
cannot issue workflow commands of its own.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_COLOURS = {"error": "\033[31m", "warning": "\033[33m", "notice": "\033[36m", "good": "\033[32m", "dim": "\033[2m"}
_ANNOTATIONS_SHOWN = 10
_BAR = 30  # characters
_CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]|\x1b(?!\[[\d;]*m)")
_DRAWN, _LOGGED = 0.2, 10.0  # seconds between two states of a bar, and between two lines of a log


class Console:
    """The log of one step. `github` chooses workflow commands over plain text."""

    def __init__(self, stream: TextIO | None = None, *, github: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._github = github
        self._terminal = not github and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self.every = _DRAWN if self._terminal else _LOGGED
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self._masked: set[str] = set()
        self._count: dict[str, int] = {}

    def line(self, message: str = "") -> None:
        """Print a message, line by line, with workflow commands in it defused."""
        for one in message.splitlines() or [""]:
            self._write(escape(self.redact(one)))

    def paint(self, kind: str, text: str) -> str:
        """The text in the colour of `error`, `warning`, `notice`, `good` or `dim`, where there are colours."""
        return f"{_COLOURS[kind]}{text}\033[0m" if self._colour else text

    @property
    def annotates(self) -> bool:
        """Whether annotations go anywhere else than into the log."""
        return self._github

    @contextmanager
    def progress(self, title: str, share: Callable[[], float]) -> Iterator[None]:
        """While the work inside goes on: a bar on a terminal, elsewhere a line every 10 s. `share` is from 0 to 1."""
        over = threading.Event()
        thread = threading.Thread(target=self._advance, args=(title, share, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _advance(self, title: str, share: Callable[[], float], over: threading.Event) -> None:
        drawn = ""
        while not over.wait(self.every):
            done = min(max(share(), 0.0), 1.0)
            if self._terminal:
                full = int(done * _BAR)
                drawn = f"{title} {'█' * full}{'░' * (_BAR - full)} {done:4.0%}"
                print(f"\r{drawn}", end="", file=self._stream, flush=True)
            else:
                self.line(f"{title}: {done:.0%}")
        if drawn:
            print(f"\r{' ' * len(drawn)}\r", end="", file=self._stream, flush=True)

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Fold the lines written inside (GitHub), or head them (terminal)."""
        self._write(f"::group::{_data(self.redact(title))}" if self._github else f"== {self.redact(title)}")
        try:
            yield
        finally:
            if self._github:
                self._write("::endgroup::")

    def notice(self, message: str, *, title: str = "", file: str = "", line: int = 0) -> None:
        """An annotation of kind notice."""
        self._annotate("notice", message, title, file, line)

    def warning(self, message: str, *, title: str = "", file: str = "", line: int = 0) -> None:
        """An annotation of kind warning."""
        self._annotate("warning", message, title, file, line)

    def error(self, message: str, *, title: str = "", file: str = "", line: int = 0) -> None:
        """An annotation of kind error. It does not stop the command."""
        self._annotate("error", message, title, file, line)

    def mask(self, value: str) -> None:
        """Hide a secret from now on, line by line, here and (on GitHub) in the whole job."""
        for one in value.splitlines():
            one = one.strip()
            if len(one) < 4 or one in self._masked:
                continue
            self._masked.add(one)
            if self._github:
                self._write(f"::add-mask::{_data(one)}")

    def redact(self, message: str) -> str:
        """The message with every masked value replaced."""
        for value in sorted(self._masked, key=len, reverse=True):
            message = message.replace(value, "***")
        return message

    def _annotate(self, kind: str, message: str, title: str, file: str, line: int) -> None:
        message, title = self.redact(message), self.redact(title)
        self._count[kind] = self._count.get(kind, 0) + 1
        if not self._github:
            self._plain(kind, message, title, file, line)
        elif self._count[kind] > _ANNOTATIONS_SHOWN:  # GitHub shows ten of a kind per step
            self.line(f"{kind}: {message}")
        else:
            properties = {"title": title, "file": file, "line": str(line) if line else ""}
            listed = ",".join(f"{k}={_property(v)}" for k, v in properties.items() if v)
            self._write(f"::{kind}{' ' + listed if listed else ''}::{_data(message)}")

    def _plain(self, kind: str, message: str, title: str, file: str, line: int) -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        head = f"{title}: " if title else ""
        self._write(self.paint(kind, f"{kind}: {escape(place + head)}") + escape(message))

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def escape(message: str) -> str:
    """Defuse workflow commands (`::name::` at the start of a line, `##[name]` anywhere) and a terminal's, but for colours."""
    defused = []
    message = _CONTROL.sub("?", message)
    for line in message.replace("\r", "\n").split("\n"):
        bare = line.lstrip()
        if bare.startswith("::"):
            line = line[: len(line) - len(bare)] + ": :" + bare[2:]
        defused.append(line.replace("##[", "# #["))
    return "\n".join(defused)


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")
