"""Running build-image as the launcher does, in a workspace of its own, on the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.conftest import ROOT, clean_environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Outcome:
    """What the step left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    report: dict[str, Any]
    summary: str


class Workspace:
    """A folder, and build-image in it. Images get a name of their own, so that all can be removed."""

    def __init__(self, folder: Path, base: str) -> None:
        self.folder = folder
        self.base = base
        self.name = f"ml-deploy-test-{uuid.uuid4().hex[:10]}"
        self.env = clean_environment(folder) | {"GITHUB_SHA": COMMIT}

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def command(self, **inputs: str) -> list[str]:
        """The command line."""
        words = [sys.executable, "-E", "-s", "-u", "-X", "utf8", str(ROOT / "scripts/main.py"), "build-image"]
        given = {"image": self.name, **inputs}
        return [*words, *(word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value))]

    def build(self, env: dict[str, str] | None = None, **inputs: str) -> Outcome:
        """Run build-image."""
        output, summary = self.write("output", ""), self.write("summary", "")
        done = subprocess.run(
            self.command(**inputs), cwd=self.folder, capture_output=True, text=True, check=False,
            env=self.env | (env or {}) | {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)},
        )  # fmt: skip
        assert not done.stderr, done.stderr
        outputs = read_outputs(output.read_text())
        report = json.loads(Path(outputs["report"]).read_text()) if outputs.get("report") else {}
        return Outcome(done.returncode, done.stdout, outputs, report, summary.read_text())


def read_outputs(text: str) -> dict[str, str]:
    """The heredocs of GITHUB_OUTPUT."""
    found, rest = {}, text.splitlines()
    while rest:
        name, _, end = rest.pop(0).partition("<<")
        value = []
        while rest[0] != end:
            value.append(rest.pop(0))
        rest.pop(0)
        found[name] = "\n".join(value)
    return found
