"""deploy-aks beside what a user would otherwise run: kubectl's server dry run, apply and rollout status.

usage: bench_deploy.py --kubeconfig FILE --image IMAGE [--kubectl PATH] [--pairs N]

IMAGE must have /bin/sh and a busybox with httpd, and be pullable by the nodes. Each side has an app of its
own (one Deployment with one pod, one Service) and rolls out a changed environment variable each time; the
order within a pair alternates. Goal: at most 1 s more than kubectl, better 0.3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.cluster_options import lasting, parser
from tests.cluster.apps import service, web


class Bench:
    """One namespace, two apps, the same work."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._kubectl = [options.kubectl, "--kubeconfig", options.kubeconfig, "--namespace", options.namespace]
        self._env = os.environ | {"RUNNER_TEMP": str(folder), "GITHUB_ACTIONS": ""}

    def kubectl(self, manifest: Path, app: str) -> None:
        """Server dry run, apply, status: three processes, as a workflow would have them."""
        apply = [*self._kubectl, "apply", "--server-side", "--filename", str(manifest)]
        self._quiet([*apply, "--dry-run=server"])
        self._quiet(apply)
        self._quiet([*self._kubectl, "rollout", "status", f"deployment/{app}", "--timeout=120s"])

    def ours(self, manifest: Path, app: str) -> None:
        """The same by deploy-aks, with all that it does beside."""
        self._quiet([
            str(ROOT / "scripts" / "run.sh"), "deploy-aks", "--app", app, "--manifests", str(manifest),
            "--kubeconfig", self._options.kubeconfig, "--namespace", self._options.namespace,
            "--image", self._options.image,
        ])  # fmt: skip

    def manifest(self, app: str, number: int) -> Path:
        """A Deployment and a Service, different in each round."""
        path = self._folder / f"{app}.json"
        objects = [service(app), web(self._options.image, app, answer=number)]
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        return path

    def namespace(self, verb: str) -> None:
        """Create or delete the namespace of this run."""
        words = [*self._kubectl[:3], verb, "namespace", self._options.namespace]
        subprocess.run(words, check=False, capture_output=True)

    def _quiet(self, words: list[str]) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=self._env)
        if done.returncode:
            sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def timed(work: Callable[[Path, str], None], manifest: Path, app: str) -> float:
    """Seconds that one deployment takes."""
    started = time.perf_counter()
    work(manifest, app)
    return time.perf_counter() - started


def main() -> None:
    """Print medians of both sides and of the differences."""
    options_of = parser(__doc__)
    options_of.add_argument("--pairs", type=int, default=20)
    options = options_of.parse_args()
    with lasting(Bench, options) as bench:
        report(measure(bench, options.pairs))


def measure(bench: Bench, pairs: int) -> dict[str, list[float]]:
    """Interleaved pairs; the first round (pulls, caches, the environment) does not count."""
    sides = {"kubectl": bench.kubectl, "deploy-aks": bench.ours}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(pairs + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            app = f"by-{name}"
            taken = timed(sides[name], bench.manifest(app, number), app)
            if number:
                seconds[name].append(taken)
    return seconds


def report(seconds: dict[str, list[float]], title: str = "one pod rolled out") -> None:
    """The table."""
    more = [ours - theirs for theirs, ours in zip(seconds["kubectl"], seconds["deploy-aks"], strict=True)]
    rows = {
        "kubectl dry run + apply + status": seconds["kubectl"],
        "deploy-aks": seconds["deploy-aks"],
        "difference": more,
    }
    print(f"{title:<34}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, figures in rows.items():
        shown = (statistics.median(figures), min(figures), max(figures))
        print(f"{name:<34}" + "".join(f"{one:>8.2f}s" for one in shown) + f"{len(figures):>4}")


if __name__ == "__main__":
    main()
