"""The inspecting child process: limits first, then one line of JSON per file. It imports little, for it starts often."""

from __future__ import annotations

import json
import os
import sys

from ml_deploy.models import inspection
from ml_deploy.models.policy import from_dict


def main() -> None:
    """A task as JSON on standard input, an inspection as a line of JSON on standard output per file."""
    task = json.load(sys.stdin)
    _limit(task["memory"], task["seconds"])
    policy = from_dict(task["policy"])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        for path in task["paths"]:
            result = inspection.inspect_file(path, policy, companions=task["companions"])
            print(json.dumps(result.as_dict()), file=out, flush=True)
            if any(finding.rule == "budget" for finding in result.findings):
                return  # the memory that is left may not do for the next file: a new child goes on


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
