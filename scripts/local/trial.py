"""One trial: the consumer's workflow under act with progress on the screen, and what is told of it at the end."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local import page
from local.consumer import Consumer
from local.runner import Run, publish
from local.stack import LOCAL, Ready
from local.state import State
from local.steps import Progress, table
from local.users import Users
from ml_deploy.checks.cases import load


@dataclass
class Trial:
    """Runs the workflow on what is ready. `say` writes a line to the screen."""

    state: State
    ready: Ready
    consumer: Consumer
    colour: bool

    def run(self) -> Progress:
        """One run of the workflow, with its table and its summary at the end."""
        self.state.stop("act")  # what a run that was killed has left
        workflow = yaml.safe_load(self.consumer.workflow.read_text())
        progress = Progress.of(workflow, say, colour=self.colour)
        run = Run(
            self.consumer.folder, self.consumer.workflow.name, publish(self.state.path("actions")),
            self.state.path("work"), variables=self.ready.variables, env=self.ready.env,
            image=self.ready.job_image, mounts=self.ready.mounts,
        )  # fmt: skip
        with open(self.state.path("log", "act.log"), "w") as log:

            def feed(line: str) -> None:
                log.write(line)
                progress.feed(line)

            code = run.run(feed, lambda pid: self.state.adopt("act", pid))
        self.state.forget("process-act")
        progress.finish()
        if code and progress.job != "failure":
            say(f"act itself failed (exit code {code}); its log is {log.name}")
            progress.job = "failure"
        self._write_page(progress)
        return progress

    def tell(self, progress: Progress, began: float) -> None:
        """The table of steps and where the summary is."""
        say()
        for line in table(progress.steps):
            say(line)
        say(f"    with all that was started: {time.monotonic() - began:.0f} s")
        say()
        say(f"Summary   {self._page.as_uri()}")

    def endpoint(self, progress: Progress) -> str:
        """The endpoint that deploy-aks found."""
        return progress.outputs.get("deploy", {}).get("endpoint", "").rstrip("/")

    def curl(self, endpoint: str) -> str:
        """A line to paste: the first golden prediction."""
        case = json.loads(self.cases.read_text().splitlines()[0])
        return f"curl -sS {endpoint}/predict -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(case['request']))}"

    @property
    def cases(self) -> Path:
        """The golden predictions of the good model."""
        return self.consumer.folder / "tests" / "cases.jsonl"

    def serves(self, endpoint: str) -> str:
        """Ask every golden prediction once; an empty string when all are answered rightly, else the first problem."""
        cases = load(self.cases)
        users = Users(endpoint, cases)
        for _ in cases:
            users.ask()
        return users.examples[0] if users.examples else ""

    @contextmanager
    def users(self, endpoint: str) -> Iterator[dict[str, Any]]:
        """Requests from another process meanwhile; the yielded dictionary is filled with their counts at the end."""
        report, counts = self.state.path("users.json"), dict[str, Any]()
        report.unlink(missing_ok=True)
        self.state.stop("users")  # what a run that was killed has left
        words: list[str | Path] = [sys.executable, "-E", "-s", LOCAL / "users.py", endpoint, self.cases, report]
        process = self.state.start("users", words)
        try:
            yield counts
        finally:
            process.terminate()
            process.wait(30)
            self.state.stop("users")
            if report.exists():
                counts.update(json.loads(report.read_text()))

    @property
    def _page(self) -> Path:
        return self.state.path("summary.html")

    def _write_page(self, progress: Progress) -> None:
        name = yaml.safe_load(self.consumer.workflow.read_text())["name"]
        self._page.write_text(page.render(f"{name}: {progress.job}", progress.steps, progress.summaries))


def say(line: str = "") -> None:
    """A line for the person in front of the screen."""
    print(line, flush=True)
