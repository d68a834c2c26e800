"""Processes are known by their id and start time; notes survive; one run at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local.state import State, wait_until


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_only_a_folder_of_its_own_is_claimed(state: State, tmp_path: Path) -> None:
    (state.folder / "ml-deploy").mkdir()
    assert state.claim()
    state.note("good", 1)
    assert state.claim()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    assert not State(tmp_path / "home").claim()


def test_notes(state: State) -> None:
    assert state.recall("good") is None
    state.note("good", {"endpoint": "http://x"})
    assert State(state.folder).recall("good") == {"endpoint": "http://x"}
    state.path("notes", "good.json").write_text('{"endpo')
    assert state.recall("good") is None


def test_a_process_is_found_again_and_stopped_with_its_children(state: State) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    process = state.start("part", [sys.executable, "-c", child])
    assert wait_until(lambda: bool(process.children()), 10)
    grandchild = process.children()[0]
    assert State(state.folder).process("part") == process
    assert state.stop("part")
    assert not grandchild.is_running()
    assert state.process("part") is None
    assert not state.stop("part")


def test_a_process_that_took_over_the_id_is_left_alone(state: State) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        state.note("process-part", {"pid": other.pid, "started": 1.0})
        assert not state.stop("part")
        assert other.poll() is None
        other.terminate()


def test_the_log_is_kept(state: State) -> None:
    process = state.start("part", [sys.executable, "-c", "print('one'); print('two')"])
    process.wait(10)
    assert state.log_tail("part", 1) == "two"


def test_the_second_run_waits_for_the_first_and_says_so(state: State) -> None:
    told: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with State(state.folder).locked(told.append):
            entered.set()

    thread = threading.Thread(target=second)
    with state.locked(told.append):
        thread.start()
        assert wait_until(lambda: bool(told), 5)
        assert not entered.is_set()
    thread.join(5)
    assert entered.is_set()
    assert "is at work" in told[0]
