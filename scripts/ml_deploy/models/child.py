"""The inspecting child process: limits first, then one line of JSON per file. It imports little, for it starts often."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from typing import IO

from ml_deploy.models import inspection
from ml_deploy.models.policy import from_dict

_LARGE = 2_000_000  # bytes; smaller files are read before anybody asks how far it is
_OFTEN = 0.2  # seconds


def main() -> None:
    """A task as JSON on standard input; on standard output lines of JSON: `{}` when it has begun, then per file
    an inspection, and before that, now and then, `{"at": BYTES}`: how far reading the file is.
    """
    task = json.load(sys.stdin)
    print("{}", flush=True)
    _limit(task["memory"], task["seconds"])
    policy = from_dict(task["policy"])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        for path in task["paths"]:
            with _Position(out) as position:
                result = inspection.inspect_file(path, policy, companions=task["companions"], opened=position.opened)
            print(json.dumps(result.as_dict()), file=out, flush=True)
            if any(finding.rule == "budget" for finding in result.findings):
                return  # the memory that is left may not do for the next file: a new child goes on


class _Position:
    """Says how far reading a large file is, from a thread that looks at the open file and costs reading nothing."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._file: io.FileIO | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def opened(self, file: io.FileIO) -> None:
        self._file = file
        if not self._thread and os.fstat(file.fileno()).st_size > _LARGE:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def __enter__(self) -> _Position:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_OFTEN):
            try:
                at = self._file.tell() if self._file else 0
            except ValueError:  # closed; the next one is about to be opened
                continue
            print(json.dumps({"at": at}), file=self._out, flush=True)


def _limit(memory: int, seconds: float) -> None:
    """Processor time is limited too, should the parent die before it ends this process."""
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
