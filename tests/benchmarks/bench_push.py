"""push-acr beside `docker push`, on the same new image, into the same registry: interleaved, medians.

usage: bench_push.py [PAIRS] [MEGABYTES]      (goal: at most 0.5 s more)

docker push is logged in before the clock starts; push-acr signs in through GitHub and Entra (the
stand-ins of scripts/local) each time, and its time includes Python's start and the check of the digest.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def stand_in(state: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start the Azure stand-in."""
    words = [sys.executable, str(ROOT / "scripts/local/azure.py"), "--state", str(state)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not (state / "azure.json").exists():
        assert process.poll() is None, "the stand-in did not start"
        time.sleep(0.1)
    return process, json.loads((state / "azure.json").read_text())


def new_image(name: str, megabytes: float) -> None:
    """An image that the registry has never seen."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("blob")
        info.size = int(megabytes * 1e6)
        tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    subprocess.run(["docker", "import", "-", name], input=data.getvalue(), stdout=subprocess.DEVNULL, check=True)


def timed(words: list[str], env: dict[str, str]) -> float:
    """Seconds of a command that succeeds."""
    began = time.perf_counter()
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stdout + done.stderr
    return seconds


def measure(told: dict[str, Any], pairs: int, megabytes: float, temp: Path) -> dict[str, list[float]]:
    """Push new images, now with one command, now with the other."""
    host, ids = told["login_server"], told["inputs"]
    env = (
        os.environ | told["env"] | {"RUNNER_TEMP": os.environ.get("RUNNER_TEMP", str(temp)), "DOCKER_CONFIG": str(temp)}
    )
    subprocess.run(["docker", "login", "-u", told["username"], "--password-stdin", host], env=env, check=True,
                   input=told["password"].encode(), capture_output=True)  # fmt: skip
    ours = [
        str(ROOT / "scripts/run.sh"),
        "push-acr",
        "--client-id",
        ids["client-id"],
        "--tenant-id",
        ids["tenant-id"],
        "--image",
    ]
    rows: dict[str, list[float]] = {"docker push": [], "push-acr": [], "push-acr, nothing to push": []}
    for n in range(-1, pairs):  # the first pair warms up and does not count
        one, other = (f"{host}/bench/{who}:{n + 1}" for who in ("docker", "ours"))
        for name in (one, other):
            new_image(name, megabytes)
        times = [timed(["docker", "push", one], env), timed([*ours, other], env), timed([*ours, other], env)]
        subprocess.run(["docker", "rmi", one, other], capture_output=True, check=False)
        if n >= 0:
            for row, seconds in zip(rows.values(), times, strict=True):
                row.append(seconds)
    return rows


def main(pairs: int, megabytes: float) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as temp:
        process, told = stand_in(Path(temp))
        try:
            rows = measure(told, pairs, megabytes, Path(temp))
        finally:
            process.terminate()
            process.wait()
    print(f"{f'{megabytes:g} MB, new':<28}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, seconds in rows.items():
        figures = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"{name:<28}" + "".join(f"{s:>8.2f}s" for s in figures) + f"{len(seconds):>4}")
    more = statistics.median(b - a for a, b in zip(rows["docker push"], rows["push-acr"], strict=True))
    print(f"push-acr takes {more:+.2f} s (median of the pairs' differences)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, float(sys.argv[2]) if len(sys.argv) > 2 else 20)
