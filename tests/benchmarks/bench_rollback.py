"""rollback beside what a user would otherwise run: kubectl rollout undo and rollout status.

usage: bench_rollback.py --kubeconfig FILE --image IMAGE [--kubectl PATH] [--pairs N]

IMAGE as in bench_deploy.py. Each side has an app of its own with two revisions and goes from one to the
other and back; ours restores the Service, too, waits as kubectl does, and writes the record. The order within a pair
alternates. Goal: at most 1 s more than kubectl, better 0.3 s.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_deploy import Bench
from tests.benchmarks.cluster_options import lasting, parser


class Back(Bench):
    """Two apps with two revisions each."""

    def prepare(self) -> None:
        """Both revisions of both apps."""
        for number in (1, 2):
            self.ours(self.manifest("by-rollback", number), "by-rollback")
            self.kubectl(self.manifest("by-kubectl", number), "by-kubectl")

    def undo(self, _number: int) -> None:
        """kubectl's way: the Deployment alone."""
        self._quiet([*self._kubectl, "rollout", "undo", "deployment/by-kubectl"])
        self._quiet([*self._kubectl, "rollout", "status", "deployment/by-kubectl", "--timeout=120s"])

    def restore(self, number: int) -> None:
        """Ours: to the other revision."""
        self._quiet([
            str(ROOT / "scripts" / "run.sh"), "rollback", "--app", "by-rollback", "--to-revision", str(1 + number % 2),
            "--kubeconfig", self._options.kubeconfig, "--namespace", self._options.namespace,
        ])  # fmt: skip


def measure(bench: Back, pairs: int) -> dict[str, list[float]]:
    """Interleaved pairs; the first round does not count."""
    sides: dict[str, Callable[[int], None]] = {"kubectl": bench.undo, "rollback": bench.restore}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(pairs + 1):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            sides[name](number)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """The table."""
    more = [ours - theirs for theirs, ours in zip(seconds["kubectl"], seconds["rollback"], strict=True)]
    rows = {"kubectl rollout undo + status": seconds["kubectl"], "rollback": seconds["rollback"], "difference": more}
    print(f"{'one pod rolled back':<34}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, figures in rows.items():
        shown = (statistics.median(figures), min(figures), max(figures))
        print(f"{name:<34}" + "".join(f"{one:>8.2f}s" for one in shown) + f"{len(figures):>4}")


def main() -> None:
    """Print medians of both sides and of the differences."""
    options_of = parser(__doc__)
    options_of.add_argument("--pairs", type=int, default=20)
    options = options_of.parse_args()
    with lasting(Back, options) as bench:
        bench.prepare()
        report(measure(bench, options.pairs))


if __name__ == "__main__":
    main()
