"""scripts/try.sh's Python, from nothing to an endpoint, through a bad model, and away again."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.state import State

ROOT = Path(__file__).resolve().parents[2]

Try = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def try_it(tmp_path: Path, base_image: str) -> Iterator[Try]:
    """Call try.py with a state folder of its own; whatever happens, what it started goes at the end."""
    state = tmp_path / "state"

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "scripts" / "local" / "try.py"
        return subprocess.run([sys.executable, "-E", "-s", script, "--state", state, *words], cwd=tmp_path,
                              capture_output=True, text=True, check=False)  # fmt: skip

    yield call
    if state.exists():
        call("--down")


def test_the_whole_way(try_it: Try, tmp_path: Path) -> None:
    good = try_it()
    assert good.returncode == 0, good.stdout + good.stderr
    line = re.search(r"^Ask it +(curl .*)$", good.stdout, re.M)
    assert line
    answer = subprocess.run(line[1], shell=True, capture_output=True, text=True, check=True).stdout
    assert "class_0" in answer
    page = (tmp_path / "state" / "summary.html").read_text()
    assert "golden predictions" in page

    bad = try_it("--bad-model", "wrong-there")
    assert bad.returncode == 0, bad.stdout + bad.stderr
    assert re.search(r"Reason +Wrong predictions", bad.stdout)
    assert re.search(r"^Users +[1-9]\d* requests .* 0 failed, 0 answered wrongly", bad.stdout, re.M), bad.stdout

    started = [State(tmp_path / "state").process(name) for name in State(tmp_path / "state").names()]
    assert len(started) == 2  # the cluster and Azure
    down = try_it("--down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert not any(process and process.is_running() for process in started)
    assert not (tmp_path / "state").exists()
