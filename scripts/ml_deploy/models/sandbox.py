"""Inspects files in a child process with limits on memory and time: what a hostile file breaks is not the job.

The child writes one JSON line per file. When it dies, the file that it was at is denied, and a new
child goes on with the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ml_deploy.models import anatomy as anatomies
from ml_deploy.models import inspection
from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection
from ml_deploy.models.policy import Policy, from_dict

MEMORY = 2 << 30  # bytes of address space
SECONDS = 120.0  # for a file, and a second more for each
_BYTES_PER_SECOND = 2_000_000
_SCRIPTS = Path(__file__).resolve().parents[2]
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from ml_deploy.models import sandbox; sandbox.child()"


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


@dataclass
class _Child:
    """A running child and the watch over its time."""

    process: subprocess.Popen[bytes]
    timer: threading.Timer | None = None
    late: threading.Event = field(default_factory=threading.Event)

    def watch(self, seconds: float) -> None:
        self.calm()
        self.timer = threading.Timer(seconds, self._end)
        self.timer.daemon = True
        self.timer.start()

    def calm(self) -> None:
        if self.timer:
            self.timer.cancel()

    def _end(self) -> None:
        self.late.set()
        self.process.kill()


def inspect(
    paths: Sequence[str | Path], policy: Policy | None = None, *, companions: bool = False,
    limits: Limits | None = None,
) -> list[Inspection]:  # fmt: skip
    """Inspect files, in their order. Texts may lie beside the model with `companions`."""
    waiting = [str(path) for path in paths]
    settings = {"policy": (policy or Policy()).as_dict(), "companions": companions}
    results: list[Inspection] = []
    while len(results) < len(waiting):
        results += _run(waiting[len(results) :], settings, limits or Limits())
    return results


def read(path: str | Path) -> anatomies.Anatomy:
    """What one file says of itself."""
    return inspect([path])[0].anatomy


def _run(paths: list[str], settings: dict[str, Any], limits: Limits) -> list[Inspection]:
    """One child over the files, until it is through or dies. Always gives at least one inspection."""
    with tempfile.TemporaryFile() as complaints, _start(complaints) as process:
        child = _Child(process)
        seconds = sum(limits.for_file(path) for path in paths)
        task = {**settings, "paths": paths, "memory": limits.memory, "seconds": seconds}
        try:
            child.watch(limits.for_file(paths[0]))
            results = _talk(child, task, paths, limits)
        except BaseException:
            process.kill()
            raise
        finally:
            child.calm()
        if len(results) < len(paths) and not (results and process.wait() == 0):
            complaints.seek(0)
            results.append(_died(paths[len(results)], child.late.is_set(), complaints.read()))
    return results


def _start(complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    cached = ["-B"] if sys.dont_write_bytecode else []
    cached += ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
    command = [sys.executable, "-E", "-s", *cached, "-X", "utf8", "-c", _CODE, str(_SCRIPTS)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=environment
    )  # fmt: skip


def _talk(child: _Child, task: dict[str, Any], paths: list[str], limits: Limits) -> list[Inspection]:
    assert child.process.stdin and child.process.stdout
    try:
        child.process.stdin.write(json.dumps(task).encode())
        child.process.stdin.close()
    except BrokenPipeError:
        pass
    results: list[Inspection] = []
    for line in child.process.stdout:
        if not line.endswith(b"\n"):
            break  # killed in the middle of it
        results.append(inspection.from_dict(json.loads(line)))
        if len(results) < len(paths):
            child.watch(limits.for_file(paths[len(results)]))
    return results


def _died(path: str, late: bool, complaint: bytes) -> Inspection:
    why = "takes longer than allowed" if late else "needs more memory than allowed, or breaks the inspection"
    last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:]
    finding = Finding(
        verdict=Verdict.DENY, rule="budget", construct="time" if late else "memory", file=path,
        message=f"Reading this file {why}" + (f" ({last[0][:200]})." if last and not late else "."),
        advice="No ordinary model does this. Save it again, or export it to ONNX.",
    )  # fmt: skip
    return Inspection(file=path, size=Path(path).stat().st_size, anatomy=anatomies.Anatomy(format="unknown"),
                      findings=(finding,))  # fmt: skip


def child() -> None:
    """The child: a task as JSON on standard input, an inspection as a line of JSON on standard output per file."""
    task = json.load(sys.stdin)
    _limit(task["memory"], task["seconds"])
    policy = from_dict(task["policy"])
    out: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for path in task["paths"]:
        result = inspection.inspect_file(path, policy, companions=task["companions"])
        print(json.dumps(result.as_dict()), file=out, flush=True)
        if any(finding.rule == "budget" for finding in result.findings):
            return  # the memory that is left may not do for the next file: a new child goes on


def _limit(memory: int, seconds: float) -> None:
    """Processor time is limited too, should the parent die before its timer ends this process."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; time is watched there too
        return
    wanted = {"RLIMIT_AS": memory, "RLIMIT_CPU": int(seconds) + 60, "RLIMIT_CORE": 0}
    for name, value in wanted.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (ValueError, OSError):  # macOS refuses RLIMIT_AS
            continue
