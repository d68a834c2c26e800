"""How long an action takes to say its first useful line: warm, cold, and beside `python3 -c pass`.

usage: bench_startup.py [PAIRS]      (goals: warm 0.3 s, cold 5 s)
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def first_line(words: list[str], temp: str) -> float:
    """Seconds from start to the first line on standard output."""
    env = os.environ | {"RUNNER_TEMP": temp, "GITHUB_ACTIONS": "true"}
    start = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as process:
        assert process.stdout and process.stdout.readline()
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def main(pairs: int) -> None:
    """Interleave the commands and print the medians."""
    run = str(ROOT / "scripts" / "run.sh")
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as shared:
        first_line([run, "lint-model"], shared)
        first_line([run, "deploy-aks"], shared)
        for _ in range(pairs):
            for name, words in {
                "python3 -c 'print()'": ["python3", "-c", "print('x')"],
                "warm: lint-model without inputs": [run, "lint-model"],
                "warm: deploy-aks without inputs": [run, "deploy-aks"],
            }.items():
                rows.setdefault(name, []).append(first_line(words, shared))
        for _ in range(max(3, pairs // 4)):
            for command in ("lint-model", "deploy-aks"):
                with tempfile.TemporaryDirectory() as fresh:
                    rows.setdefault(f"cold: {command} without inputs", []).append(first_line([run, command], fresh))
    print(f"{'first line after':<36}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, seconds in rows.items():
        figures = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"{name:<36}" + "".join(f"{s:>8.2f}s" for s in figures) + f"{len(seconds):>4}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
