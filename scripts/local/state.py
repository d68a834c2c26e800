"""What a run of try.sh leaves on this machine: one folder with processes, logs, notes and a lock.

A process is known by its id and its start time, so that an id that was given to somebody else in the
meantime is never ended. Whatever was killed half-way is found here by the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

_GRACE = 30.0  # seconds between asking a process to end and ending it


class State:
    """The state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def claim(self) -> bool:
        """Mark the folder as ours, so that it may be removed as a whole; False when it holds other things."""
        marker = self.folder / "made-by-try.sh"
        others = {path.name for path in self.folder.iterdir()} - {"ml-deploy"}  # where try.sh makes the environment
        if not marker.exists() and others:
            return False
        marker.touch()
        return True

    def path(self, *parts: str) -> Path:
        """A path in the state folder; its parent is made."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def locked(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder for this process; `tell` hears whom we wait for."""
        with open(self.path("lock"), "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                tell(f"Another try.sh (process {file.read().strip() or '?'}) is at work: waiting until it ends.")
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield

    # -- notes -------------------------------------------------------------------------------------

    def note(self, name: str, value: Any) -> None:
        """Remember something (JSON) for later runs."""
        path = self.path("notes", f"{name}.json")
        part = path.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.replace(path)

    def recall(self, name: str) -> Any:
        """What was noted, or None."""
        try:
            return json.loads(self.path("notes", f"{name}.json").read_text())
        except (OSError, ValueError):
            return None

    def forget(self, name: str) -> None:
        """Remove a note."""
        self.path("notes", f"{name}.json").unlink(missing_ok=True)

    # -- processes ---------------------------------------------------------------------------------

    def start(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None
    ) -> psutil.Process:
        """Start a process of its own session that outlives this one; its output goes to log/NAME.log."""
        with open(self.path("log", f"{name}.log"), "ab") as log:
            child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=subprocess.STDOUT, start_new_session=True, env=env)  # fmt: skip
        child.returncode = 0  # psutil looks after the process from here on
        self.adopt(name, child.pid)
        return psutil.Process(child.pid)

    def adopt(self, name: str, pid: int) -> None:
        """Note a process that we started, so that `stop` finds it."""
        self.note(f"process-{name}", {"pid": pid, "started": psutil.Process(pid).create_time()})

    def process(self, name: str) -> psutil.Process | None:
        """The process that was started under this name, if it still runs."""
        noted = self.recall(f"process-{name}")
        try:
            process = psutil.Process(noted["pid"])
            same = abs(process.create_time() - noted["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
            return process if same else None
        except (TypeError, KeyError, psutil.Error):
            return None

    def stop(self, name: str) -> bool:
        """End the process of this name and its children; False when none ran."""
        process = self.process(name)
        if process is not None:
            end(process)
        self.forget(f"process-{name}")
        return process is not None

    def names(self) -> list[str]:
        """The names of the processes that were started and not stopped."""
        return sorted(path.stem.removeprefix("process-") for path in self.folder.glob("notes/process-*.json"))

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines of a process's log."""
        try:
            return "\n".join(self.path("log", f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def end(process: psutil.Process) -> None:
    """Ask a process and its children to end, and end them after half a minute."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
    _, left = psutil.wait_procs(family, timeout=_GRACE)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=_GRACE)


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Ask `ready` every 0.1 s for at most `seconds`."""
    end_at = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end_at:
            return False
        time.sleep(0.1)
    return True
