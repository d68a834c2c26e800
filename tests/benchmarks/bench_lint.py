"""lint-model (with the model's digest) against one hashlib pass and picklescan over the same file, interleaved, medians.

usage: python tests/benchmarks/bench_lint.py [--size MB] [--pairs N] [--only WORD]     (needs the base, lint and dev sets)

picklescan's time is without a digest; what it says of the file is shown: `clean` (exit code 0), `found` (1) or `error` (2).
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.integration.models.payloads import Raw, call, named, value

SCRIPTS = ROOT / "scripts"
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


def npz_of_arrays(file: Path, megabytes: int) -> None:
    """numpy's own container."""
    with file.open("wb") as stream:
        numpy.savez(stream, a=numpy.random.default_rng(0).random(megabytes * 125_000))


def torch_zip(file: Path, megabytes: int) -> None:
    """A state dict as torch.save writes it, without torch."""
    data = numpy.random.default_rng(0).random(megabytes * 125_000)
    storage = Raw(value(("storage", named("torch", "DoubleStorage"), "0", "cpu", data.size)) + b"Q")
    tensor = call(
        "torch._utils", "_rebuild_tensor_v2", storage, 0, (data.size,), (1,), False, call("collections", "OrderedDict")
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + tensor.data + b".")
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", data.tobytes())


def safetensors_file(file: Path, megabytes: int) -> None:
    """One tensor."""
    size = megabytes * 1_000_000
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.write(numpy.random.default_rng(0).bytes(size))


FILES: dict[str, Callable[[Path, int], None]] = {
    "pickle of arrays": pickle_of_arrays, "joblib of arrays": joblib_of_arrays, "npz": npz_of_arrays, "torch zip": torch_zip,
    "safetensors": safetensors_file, "pickle of floats, a tenth": pickle_of_floats,
}  # fmt: skip


def measure(command: list[str]) -> tuple[float, float, int]:
    """Seconds, peak MiB of the largest process, and the exit code."""
    code = (
        "import resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, done.returncode)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    seconds, peak, status = done.stdout.split()
    return float(seconds), float(peak), int(status)


def row(name: str, file: Path, pairs: int) -> None:
    """Interleaved runs, and one line of the table."""
    python = [sys.executable, "-E", "-s"]
    commands = {
        "hash": [*python, "-c", HASH, str(file)],
        "lint": [*python, str(SCRIPTS / "main.py"), "lint-model", "--model", str(file)],
        "scan": [*python, "-m", "picklescan", "-p", str(file)],
    }
    measure(commands["hash"])  # the page cache is warm for all
    runs = [{key: measure(command) for key, command in commands.items()} for _ in range(pairs)]
    assert all(run["lint"][2] == 0 for run in runs), "lint-model did not allow the file"
    seconds = {key: statistics.median(run[key][0] for run in runs) for key in commands}
    more = statistics.median(run["lint"][0] - run["hash"][0] for run in runs)
    peak = {key: max(run[key][1] for run in runs) for key in commands}
    said = {0: "clean", 1: "found", 2: "error"}.get(runs[0]["scan"][2], "error")
    print(
        f"| {name} | {file.stat().st_size / 1e6:.0f} | {seconds['hash']:.2f} | {seconds['lint']:.2f} | {more:.2f} | {peak['lint']:.0f} "
        f"| {seconds['scan']:.2f} | {peak['scan']:.0f} | {said} |", flush=True,
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="megabytes of the files of arrays (default 1000)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved runs of each (default 5)")
    parser.add_argument("--only", default="", help="a word in the name of the files to measure")
    given = parser.parse_args()
    print("| file | MB | hashlib s | lint-model s | difference s | peak MiB | picklescan s | peak MiB | says |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in FILES.items():
            if given.only in name:
                file = Path(folder) / "model.bin"
                make(file, given.size)
                row(name, file, given.pairs)
    print(f"\n{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, medians of {given.pairs} interleaved runs;")
    print(
        f"peak of the largest process (the inspecting child is one of its own); pages of {resource.getpagesize()} bytes."
    )


if __name__ == "__main__":
    main()
