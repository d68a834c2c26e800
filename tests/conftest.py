"""The engine that integration, cluster and act tests run containers on: used as it is, or started for the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[1] / "scripts" / "local" / "engine.py"
STATE = Path(tempfile.gettempdir()) / f"ml-deploy-{os.getuid()}" / f"tests-{os.getpid()}"  # this run's own
WITHOUT_ENGINE = {"unit", "contract"}


def pytest_configure(config: pytest.Config) -> None:
    """Once, before any test (a worker of xdist finds it running)."""
    if not hasattr(config, "workerinput") and _wants_engine(config.args):
        done = subprocess.run([sys.executable, str(ENGINE), "up", str(STATE)], text=True, stderr=subprocess.PIPE)
        if done.returncode:
            print(f"tests that need a Docker Engine will be skipped: {done.stderr.strip()}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the engine if this run started it."""
    if not hasattr(config, "workerinput") and STATE.exists():
        subprocess.run([sys.executable, str(ENGINE), "down", str(STATE)], check=False)
        shutil.rmtree(STATE, ignore_errors=True)


def _wants_engine(chosen: list[str]) -> bool:
    tiers = {path.split("::")[0].removeprefix("./").partition("tests/")[2].partition("/")[0] for path in chosen}
    return not tiers <= WITHOUT_ENGINE
