"""Runs a command as a step of a job does: own process, inputs by environment, outputs and summary read back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAIN = Path(__file__).resolve().parents[1] / "scripts" / "main.py"


@dataclass
class Step:
    """What a step left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.outputs["report"]).read_text())
        return found


def environment(tmp_path: Path, inputs: dict[str, Any]) -> dict[str, str]:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }  # fmt: skip
    return env | {"ML_DEPLOY_" + name.upper(): str(value) for name, value in inputs.items()}


def step(
    tmp_path: Path, command: str, more: Mapping[str, str] | None = None, /, *,
    program: Sequence[str | Path] = (MAIN,), **inputs: Any,
) -> Step:  # fmt: skip
    """Run it. more: beside the environment that every job has. program: takes the command last, as main.py does."""
    done = subprocess.run(
        [sys.executable, "-E", "-s", "-u", "-X", "utf8", *program, command], cwd=tmp_path, text=True,
        env=environment(tmp_path, inputs) | dict(more or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout, done.stdout
    written = (tmp_path / "output").read_text() if (tmp_path / "output").exists() else ""
    outputs = {name: value for name, _, value in re.findall(r"(?sm)^([a-z0-9-]+)<<(\S+)\n(.*?)\n\2$", written)}
    summary = tmp_path / "summary"
    return Step(done.returncode, done.stdout, outputs, summary.read_text() if summary.exists() else "")
