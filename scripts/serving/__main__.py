"""Load the model, then serve it. Settings come from the environment; the image has them set.

MODEL_PATH, MODEL_KIND (sklearn or onnx), MODEL_NAME, MODEL_VERSION, PORT, MAX_REQUEST_BYTES (default 32 MiB),
THREADS (predictions at the same time, default: the CPUs that this container may use).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def cpus() -> int:
    """The CPUs that this container may use, rounded up: its limit, not the machine's cores."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return available
    if not quota.isdigit() or not int(period):  # "max" or -1: no limit
        return available
    return max(1, min(available, -(-int(quota) // int(period))))


def main() -> int:
    """The exit code: 0 after SIGTERM with all requests answered, 1 when the model cannot be loaded."""
    threads = int(os.environ.get("THREADS") or cpus())
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before numpy is imported
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    from serving import models

    path, name = Path(os.environ["MODEL_PATH"]), os.environ.get("MODEL_NAME", "model")
    start = time.monotonic()
    try:
        model = models.load(os.environ["MODEL_KIND"], path, threads)
    except Exception as error:
        print(
            f"serving: the model {path} cannot be loaded: {type(error).__name__}: {error}", file=sys.stderr, flush=True
        )
        return 1
    print(f"serving: loaded {name} in {time.monotonic() - start:.2f} s, {threads} threads", flush=True)
    return _serve(model, name, threads)


def _serve(model: object, name: str, threads: int) -> int:
    import uvicorn

    from serving.app import make

    app = make(model, name, os.environ.get("MODEL_VERSION", "1"), threads=threads,  # type: ignore[arg-type]
               max_bytes=int(os.environ.get("MAX_REQUEST_BYTES") or 32 * 2**20))  # fmt: skip
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT") or 8000), log_level="warning",  # noqa: S104
                access_log=False, timeout_graceful_shutdown=25, server_header=False)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
