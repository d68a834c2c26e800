"""What act says (`--json`), turned into steps with states and times, outputs, summaries and lines to show.

Only act's field names are relied on; a line that is no JSON is shown as it is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_MARKS = {"success": "✔", "failure": "✘", "skipped": "–", "running": "…", "waiting": "–"}
_SAID_TWICE = re.compile(r"Error: Job '.*' failed$")  # act's own word on a job whose step has failed
_COLOURS = {
    "success": "32",
    "failure": "31",
    "error": "31",
    "warning": "33",
    "notice": "36",
    "skipped": "2",
    "group": "1",
}


@dataclass
class Step:
    """One step of the workflow. `seconds` is what act measured."""

    id: str
    name: str
    state: str = "waiting"
    seconds: float = 0.0

    @property
    def mark(self) -> str:
        """One sign for the state."""
        return _MARKS[self.state]


@dataclass
class Progress:
    """Follows one run of act. `show` is given each line for people, without its line end."""

    steps: list[Step]
    show: Callable[[str], None]
    colour: bool = False
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    summaries: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    job: str = ""
    _masks: set[str] = field(default_factory=set)
    _indent: int = 1
    _started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, workflow: dict[str, Any], show: Callable[[str], None], *, colour: bool = False) -> Progress:
        """Expect the steps of a workflow's jobs."""
        steps = [
            Step(str(step.get("id", index)), step.get("name") or step.get("uses") or str(step.get("run")))
            for job in workflow["jobs"].values()
            for index, step in enumerate(job["steps"])
        ]
        for step in steps:
            step.name = step.name.partition("@")[0]
        return cls(steps, show, colour)

    def feed(self, line: str) -> None:
        """Take one line of act's output."""
        try:
            event = json.loads(line)
        except ValueError:
            if not _SAID_TWICE.match(line):
                self._line(line)
            return
        if "jobResult" in event:
            self.job = event["jobResult"]
        elif step := self._step_of(event):
            self._step(step, event)

    def finish(self) -> None:
        """No more comes: what has not run was skipped."""
        for step in self.steps:
            if step.state == "waiting":
                step.state = "skipped"
            if step.state == "running":
                step.state = "failure"

    def _step_of(self, event: dict[str, Any]) -> Step | None:
        """The step of the workflow that an event of its main stage belongs to; its own, or one inside it."""
        if event.get("stage") != "Main" or not event.get("stepID"):
            return None
        return next((step for step in self.steps if step.id == event["stepID"][0]), None)

    def _step(self, step: Step, event: dict[str, Any]) -> None:
        own = len(event["stepID"]) == 1
        command = event.get("command", "")
        if event.get("raw_output"):
            self._line(event["msg"])
        elif command == "set-output" and own:
            self.outputs.setdefault(step.id, {})[event["name"]] = event["arg"]
        elif command == "summary" and own:
            self.summaries.append(self._redact(event["content"]))
        elif command:
            self._command(command, event.get("arg", ""), event.get("kvPairs") or {})
        elif own:
            self._state(step, event)

    def _command(self, command: str, text: str, properties: dict[str, str]) -> None:
        if command == "add-mask":
            self._masks.add(text)
        elif command == "group":
            self._line(self._paint("group", text))
            self._indent = 2
        elif command == "endgroup":
            self._indent = 1
        elif command in ("error", "warning", "notice"):
            title = f"{properties['title']}: " if properties.get("title") else ""
            self._line(self._paint(command, f"{command}: {title}") + text)
            if command == "error":
                self.errors.append(self._redact(title + text))

    def _state(self, step: Step, event: dict[str, Any]) -> None:
        if event.get("stepResult"):
            step.state = event["stepResult"]
            step.seconds = event.get("executionTime", 0) / 1e9
            self._indent = 1
            if step.state != "skipped":
                self.show(self._paint(step.state, f"{step.mark} {step.name}") + f"  {step.seconds:.1f} s")
        elif step.state == "waiting":
            step.state = "running"
            self.show(self._paint("group", f"▶ {step.name}"))

    def _line(self, text: str) -> None:
        for one in self._redact(text).rstrip("\n").split("\n"):
            self.show("    " * self._indent + one)

    def _redact(self, text: str) -> str:
        for mask in sorted(self._masks, key=len, reverse=True):
            text = text.replace(mask, "***")
        return text

    def _paint(self, kind: str, text: str) -> str:
        return f"\033[{_COLOURS[kind]}m{text}\033[0m" if self.colour and kind in _COLOURS else text


def table(steps: list[Step]) -> Iterator[str]:
    """The steps with their times, as lines for a terminal."""
    width = max(len(step.name) for step in steps)
    for step in steps:
        seconds = "skipped" if step.state == "skipped" else f"{step.seconds:.1f} s"
        yield f"  {step.mark} {step.name:<{width}} {seconds:>9}"
    yield f"    {'together':<{width}} {sum(step.seconds for step in steps):>7.1f} s"
