"""Inspects files in a child process with limits on memory and time: what a hostile file breaks is not the job.

The child writes one JSON line per file. When it dies, the file that it was at is denied, and a new
child goes on with the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from ml_deploy.errors import MlDeployError
from ml_deploy.models import anatomy as anatomies
from ml_deploy.models import inspection
from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection
from ml_deploy.models.policy import Policy

MEMORY = 2 << 30  # bytes of address space
SECONDS = 120.0  # for a file, and a second more for each
_BYTES_PER_SECOND = 2_000_000
_SCRIPTS = Path(__file__).resolve().parents[2]
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from ml_deploy.models import child; child.main()"


@dataclass(frozen=True)
class Limits:
    """Memory in bytes of address space; seconds per file, None for a time that grows with the file."""

    memory: int = MEMORY
    seconds: float | None = None

    def for_file(self, path: str) -> float:
        """Seconds that a file may take."""
        if self.seconds is not None:
            return self.seconds
        return SECONDS + (Path(path).stat().st_size / _BYTES_PER_SECOND)


class _Watch:
    """Ends a child that is late with a file: one thread, however many files there are, that looks when a file's time is over.

    It may have begun with the file before, so a file has at least its time and less than twice as much.
    """

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.late = self._another = False
        self._process = process
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def allow(self, seconds: float) -> None:
        """Another file has begun, and has so much time."""
        self._seconds, self._another = seconds, True

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            if not self._another:
                self.late = True
                self._process.kill()
                return
            self._another = False


def inspect(
    paths: Sequence[str | Path], policy: Policy | None = None, *, companions: bool = False,
    limits: Limits | None = None, advance: Callable[[int], None] = lambda done: None,
) -> list[Inspection]:  # fmt: skip
    """Inspect files, in their order. Texts may lie beside the model with `companions`.

    advance: is told now and then how many bytes of all are behind.
    """
    waiting = [str(path) for path in paths]
    settings = {"policy": (policy or Policy()).as_dict(), "companions": companions}
    results: list[Inspection] = []
    while len(results) < len(waiting):
        further = partial(_further, advance, sum(one.size for one in results))
        results += _run(waiting[len(results) :], settings, limits or Limits(), further)
    return results


def _further(advance: Callable[[int], None], behind: int, done: int) -> None:
    advance(behind + done)


def read(path: str | Path) -> anatomies.Anatomy:
    """What one file says of itself."""
    return inspect([path])[0].anatomy


def _run(
    paths: list[str], settings: dict[str, Any], limits: Limits, advance: Callable[[int], None]
) -> list[Inspection]:
    """One child over the files, until it is through or dies. Always gives at least one inspection."""
    allowed = [limits.for_file(path) for path in paths]
    task = {**settings, "paths": paths, "memory": limits.memory, "seconds": sum(allowed)}
    with tempfile.TemporaryFile() as complaints, _start(complaints) as process, _Watch(process, allowed[0]) as watch:
        try:
            begun = _begin(process, task)
            results = _talk(process, watch, allowed, advance)
        except BaseException:
            process.kill()
            raise
        if not begun and not watch.late:
            complaints.seek(0)
            raise MlDeployError(f"The process that reads models does not start: {_last(complaints.read())}")
        if len(results) < len(paths) and not (results and process.wait() == 0):
            complaints.seek(0)
            results.append(_died(paths[len(results)], watch.late, complaints.read()))
    return results


def _start(complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    cached = ["-B"] if sys.dont_write_bytecode else []
    cached += ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
    command = [sys.executable, "-E", "-s", *cached, "-X", "utf8", "-c", _CODE, str(_SCRIPTS)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _begin(process: subprocess.Popen[bytes], task: dict[str, Any]) -> bool:
    """Hand the task over; whether the child said that it took it."""
    assert process.stdin and process.stdout
    try:
        process.stdin.write(json.dumps(task).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass
    return process.stdout.readline() != b""


def _talk(
    process: subprocess.Popen[bytes], watch: _Watch, allowed: list[float], advance: Callable[[int], None]
) -> list[Inspection]:
    assert process.stdout
    results: list[Inspection] = []
    behind = 0
    for line in process.stdout:
        if not line.endswith(b"\n"):
            break  # killed in the middle of it
        said = json.loads(line)
        if "at" in said:
            advance(behind + said["at"])
            continue
        results.append(inspection.from_dict(said))
        behind += results[-1].size
        advance(behind)
        if len(results) < len(allowed):
            watch.allow(allowed[len(results)])
    return results


def _last(complaint: bytes) -> str:
    """The last line that the child wrote to standard error."""
    return "".join(complaint.decode("utf-8", "replace").strip().splitlines()[-1:])[:200]


def _died(path: str, late: bool, complaint: bytes) -> Inspection:
    why = "takes longer than allowed" if late else "needs more memory than allowed, or breaks the inspection"
    last = _last(complaint)
    finding = Finding(
        verdict=Verdict.DENY, rule="budget", construct="time" if late else "memory", file=path,
        message=f"Reading this file {why}" + (f" ({last})." if last and not late else "."),
        advice="No ordinary model does this. Save it again, or export it to ONNX.",
    )  # fmt: skip
    return Inspection(file=path, size=Path(path).stat().st_size, anatomy=anatomies.Anatomy(format="unknown"),
                      findings=(finding,))  # fmt: skip
