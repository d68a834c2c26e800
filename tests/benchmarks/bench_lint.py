"""lint-model against one hashlib pass over the same file: time and peak memory, interleaved, medians.

usage: python tests/benchmarks/bench_lint.py [--size MB] [--pairs N]     (needs numpy and joblib, and twice the size on the disk)
"""

from __future__ import annotations

import argparse
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
HASH = """
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb", buffering=0) as file:
    buffer = memoryview(bytearray(1 << 20))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
print(digest.hexdigest())
"""


def pickle_of_arrays(file: Path, megabytes: int) -> None:
    """Four arrays, as pickle writes them."""
    arrays = [numpy.random.default_rng(n).random(megabytes * 125_000 // 4) for n in range(4)]
    with file.open("wb") as stream:
        pickle.dump({"weights": arrays}, stream, protocol=5)


def joblib_of_arrays(file: Path, megabytes: int) -> None:
    """The same through joblib."""
    joblib.dump([numpy.random.default_rng(n).random(megabytes * 125_000 // 4) for n in range(4)], file)


def pickle_of_floats(file: Path, megabytes: int) -> None:
    """No arrays at all: a list of floats, nine bytes each. (A tenth of the size: this is about opcodes.)"""
    file.write_bytes(pickle.dumps(numpy.random.default_rng(0).random(megabytes * 11_000).tolist()))


FILES: dict[str, Callable[[Path, int], None]] = {
    "pickle of arrays": pickle_of_arrays, "joblib of arrays": joblib_of_arrays, "pickle of floats, a tenth": pickle_of_floats,
}  # fmt: skip


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds, and peak MiB of the largest process of the command."""
    code = (
        "import resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def compare(file: Path, pairs: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Interleaved runs: hashlib, lint-model, hashlib, ..."""
    hashing = [sys.executable, "-E", "-s", "-c", HASH, str(file)]
    linting = [sys.executable, "-E", "-s", str(SCRIPTS / "main.py"), "lint-model", "--model", str(file)]
    measure(hashing)  # the page cache is warm for both
    both = [(measure(hashing), measure(linting)) for _ in range(pairs)]
    return [one for one, _ in both], [other for _, other in both]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="megabytes of the files of arrays (default 1000)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved runs of each (default 5)")
    given = parser.parse_args()
    print(
        "| file | size MB | hashlib s | lint-model s | difference s | lint-model peak MiB |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, make in FILES.items():
            file = Path(folder) / "model.bin"
            make(file, given.size)
            row(name, file, given.pairs)
    print(
        f"\n{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, medians of {given.pairs} interleaved pairs;"
    )
    print(
        f"page size {resource.getpagesize()}; the peak is of the largest process (the inspecting child is one of its own)."
    )


def row(name: str, file: Path, pairs: int) -> None:
    """One line of the table."""
    hashed, linted = compare(file, pairs)
    difference = statistics.median(one[0] - other[0] for one, other in zip(linted, hashed, strict=True))
    columns = (statistics.median(one[0] for one in hashed), statistics.median(one[0] for one in linted), difference)
    peak = max(one[1] for one in linted)
    print(
        f"| {name} | {file.stat().st_size / 1e6:.0f} | " + " | ".join(f"{c:.2f}" for c in columns) + f" | {peak:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
