"""lint-model against one hashlib pass (with the model's digest), and against other scanners (without it).

usage: python tests/benchmarks/bench_lint.py [--size MB] [--pairs N] [--only WORD] [--scanners VENV] [--torch PYTHON] [--timeout SECONDS]
                                                                                  (needs the base, lint and dev sets)

The scanners live in an environment of their own, which is made when VENV does not exist (modelscan
needs Python below 3.13). Runs are interleaved, the figures are medians, in brackets seconds of the processor; the peak is that of the
largest process (lint-model is two: the step and the child that reads). Behind a scanner's figures is
what it said: `clean` or `found` are verdicts, all else is none; then its exit code.
The torch file is made by the PYTHON that has torch, or by hand in the same layout.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.integration.models.payloads import Raw, call, named, value

SCRIPTS = ROOT / "scripts"
SCANNERS = ("picklescan==1.0.5", "modelscan==0.8.8", "modelaudit-picklescan==0.1.12", "numpy==2.2.6")
HASH = """
import hashlib, pathlib, sys
path = pathlib.Path(sys.argv[1])
buffer = memoryview(bytearray(1 << 20))
for one in sorted(path.iterdir()) if path.is_dir() else [path]:
    digest = hashlib.sha256()
    with open(one, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    print(digest.hexdigest())
"""
READ = """
import sys
sys.path.insert(0, sys.argv[1])
from ml_deploy.models import digest, findings, sandbox, terminal
found = sandbox.inspect(digest.model_files(sys.argv[2:]))
for line in terminal.lines(found):
    print(line)
sys.exit(findings.worst(f for one in found for f in one.findings).rank)
"""
#: It has no command of its own; its exit code here: 0 clean, 1 found, 2 inconclusive.
MODELAUDIT = """
import pathlib, sys
import modelaudit_picklescan as scanner
path, worst = pathlib.Path(sys.argv[1]), 0
with scanner.shared_source_sensitive_caches():
    for one in sorted(path.iterdir()) if path.is_dir() else [path]:
        report = scanner.scan_file(str(one))
        print(one, report.status.value, report.verdict.value)
        worst = max(worst, 2 if report.status.value != "complete" else report.verdict.value != "clean")
sys.exit(worst)
"""
#: Runs a command, prints seconds, those of the processor, the peak of its largest process in MiB, its exit code, and what it wrote.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
try:
    done = subprocess.run(sys.argv[2:], capture_output=True, text=True, errors="replace", timeout=float(sys.argv[1]))
    status, said = done.returncode, done.stdout + done.stderr
except subprocess.TimeoutExpired:
    status, said = 124, ""
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, status)
print(said)
"""


def pickle_of_arrays(file: Path, megabytes: int) -> None:
    """Four arrays, as pickle writes them."""
    with file.open("wb") as stream:
        pickle.dump({"weights": _arrays(megabytes)}, stream, protocol=5)


def npz_of_arrays(file: Path, megabytes: int) -> None:
    """numpy's own container."""
    with file.open("wb") as stream:
        numpy.savez(stream, *_arrays(megabytes))


def joblib_of_arrays(file: Path, megabytes: int) -> None:
    """The same through joblib, raw."""
    joblib.dump(_arrays(megabytes), file)


def torch_zip(file: Path, megabytes: int) -> None:
    """A state dict as torch.save writes it, in four tensors; by hand where there is no torch."""
    if TORCH:
        code = "import sys, torch; torch.save({f'w{n}': torch.rand(int(sys.argv[2])) for n in range(4)}, sys.argv[1])"
        subprocess.run([TORCH, "-c", code, str(file), str(megabytes * 250_000 // 4)], check=True)
        return
    pairs = []
    arrays = [array.astype("<f4") for array in _arrays(megabytes * 2)]
    for key, array in enumerate(arrays):
        storage = Raw(value(("storage", named("torch", "FloatStorage"), str(key), "cpu", array.size)) + b"Q")
        rest = (0, (array.size,), (1,), False, call("collections", "OrderedDict"))
        pairs.append(value(f"w{key}") + call("torch._utils", "_rebuild_tensor_v2", storage, *rest).data + b"s")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + b"".join(pairs) + b".")
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        for key, array in enumerate(arrays):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def safetensors_file(file: Path, megabytes: int) -> None:
    """Four tensors."""
    arrays, header, at = _arrays(megabytes), {}, 0
    for number, array in enumerate(arrays):
        header[f"w{number}"] = {"dtype": "F64", "shape": [array.size], "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for array in arrays:
            array.tofile(stream)


def pickle_of_floats(file: Path, megabytes: int) -> None:
    """No arrays at all: a list of 11 million floats, nine bytes each. (A tenth of the size: this is about opcodes.)"""
    file.write_bytes(pickle.dumps(numpy.random.default_rng(0).random(megabytes * 11_000).tolist()))


def thousand_files(folder: Path, megabytes: int) -> None:
    """A folder of a thousand fitted estimators of a kilobyte each."""
    from sklearn.linear_model import LogisticRegression

    rng = numpy.random.default_rng(0)
    folder.mkdir()
    for number in range(megabytes):
        model = LogisticRegression().fit(rng.random((20, 4)), [0, 1] * 10)
        (folder / f"{number:04}.pkl").write_bytes(pickle.dumps(model))


def _arrays(megabytes: int) -> list[numpy.ndarray]:
    return [numpy.random.default_rng(n).random(megabytes * 125_000 // 4) for n in range(4)]


TORCH = ""
FILES: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "pickle of arrays": ("model.pkl", pickle_of_arrays), "npz": ("model.npz", npz_of_arrays),
    "joblib, raw": ("model.joblib", joblib_of_arrays), "torch zip": ("model.pt", torch_zip),
    "safetensors": ("model.safetensors", safetensors_file), "pickle of floats": ("floats.pkl", pickle_of_floats),
    "folder of small pickles": ("models", thousand_files),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of one program: seconds, those of the processor, peak MiB of its largest process, exit code, what it wrote."""

    seconds: float
    work: float
    peak: float
    status: int
    said: str


def measure(command: list[str], timeout: float) -> Run:
    """Run it from a small process of its own, so that the peak is the command's."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(timeout), *command], check=True, capture_output=True, text=True)  # fmt: skip
    first, said = done.stdout.split("\n", 1)
    seconds, work, peak, status = first.split()
    return Run(float(seconds), float(work), float(peak), int(status), said)


def commands(path: Path, scanners: Path) -> dict[str, list[str]]:
    """What is run on a file, by name."""
    python, theirs, file = [sys.executable, "-E", "-s"], str(scanners / "bin" / "python"), str(path)
    return {
        "hashlib": [*python, "-c", HASH, file],
        "lint-model": [*python, str(SCRIPTS / "main.py"), "lint-model", "--model", file],
        "reading": [*python, "-c", READ, str(SCRIPTS), file],
        "picklescan": [theirs, "-m", "picklescan", "-p", file],
        "modelscan": [str(scanners / "bin" / "modelscan"), "-p", file],
        "modelaudit-picklescan": [theirs, "-c", MODELAUDIT, file],
    }


def verdict(name: str, run: Run) -> str:
    """What a scanner said of the file. A verdict is `clean` or `found`."""
    if run.status == 124:
        return "time-out"
    if name == "picklescan" and any(word in run.said for word in ("could not parse", "ERROR", "Scanned files: 0")):
        return "not read"  # and yet its exit code may be 0
    if name == "modelscan" and run.status > 1:
        return "skipped" if "Total skipped" in run.said and "Errors" not in run.said else "error"
    if name == "modelaudit-picklescan" and run.status == 2:
        return "inconclusive"
    return {0: "clean", 1: "found"}.get(run.status, "error")


def row(name: str, path: Path, scanners: Path, given: argparse.Namespace) -> tuple[str, str]:
    """Interleaved runs; a line for each of the two tables."""
    asked = commands(path, scanners)
    measure(asked["hashlib"], given.timeout)  # the page cache is warm for all
    runs = [{key: measure(command, given.timeout) for key, command in asked.items()} for _ in range(given.pairs)]
    for key in ("lint-model", "reading"):
        assert all(run[key].status == 0 for run in runs), f"{key} did not allow the file: {runs[0][key].said}"
    seconds = {key: statistics.median(run[key].seconds for run in runs) for key in asked}
    work = {key: statistics.median(run[key].work for run in runs) for key in asked}
    peak = {key: max(run[key].peak for run in runs) for key in asked}
    size = sum(one.stat().st_size for one in (path.iterdir() if path.is_dir() else [path]))
    more = statistics.median(run["lint-model"].seconds - run["hashlib"].seconds for run in runs)
    said = {key: f"{verdict(key, runs[0][key])} ({runs[0][key].status})" for key in asked}
    said["reading"] = "allow"
    figures = [f"{seconds[key]:.2f} s ({work[key]:.2f}), {peak[key]:.0f} MiB, {said[key]}" for key in list(asked)[2:]]
    first = (
        f"| {name} | {size / 1e6:.0f} | {seconds['hashlib']:.2f} ({work['hashlib']:.2f}) "
        f"| {seconds['lint-model']:.2f} ({work['lint-model']:.2f}) | {more:+.2f} | {peak['lint-model']:.0f} |"
    )
    return first, f"| {name} | " + " | ".join(figures) + " |"


def make_scanners(folder: Path) -> None:
    """The environment of the scanners, unless it is there."""
    if not (folder / "bin" / "modelscan").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *SCANNERS], check=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="megabytes of the files of arrays (default 1000)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved runs of each (default 5)")
    parser.add_argument("--only", default="", help="a word in the name of the files to measure")
    parser.add_argument("--scanners", type=Path, help="where their environment is, or shall be made and kept")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one program on one file (default 300)")
    parser.add_argument("--torch", default="", help="a Python that has torch")
    given = parser.parse_args()
    globals()["TORCH"] = given.torch
    lines: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        scanners = given.scanners or Path(folder) / "scanners"
        make_scanners(scanners)
        for name, (file, make) in FILES.items():
            if given.only in name:
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    make(Path(place) / file, given.size)
                    lines.append(row(name, Path(place) / file, scanners, given))
                    print(*lines[-1], sep="\n", flush=True)
    print("\n| file | MB | hashlib s | lint-model with digest s | difference s | peak MiB |\n|---|---|---|---|---|---|")
    print(*(first for first, _ in lines), sep="\n")
    print(
        "\n| file | lint-model without digest | picklescan | modelscan | modelaudit-picklescan |\n|---|---|---|---|---|"
    )
    print(*(second for _, second in lines), sep="\n")
    print(f"\n{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, medians of {given.pairs} interleaved runs; "
          f"{', '.join(SCANNERS)}; torch file {'by torch' if given.torch else 'by hand'}.")  # fmt: skip


if __name__ == "__main__":
    main()
