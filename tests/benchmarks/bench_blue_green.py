"""Blue-green on 4 replicas, beside kubectl doing the same by hand, with clients watching.

usage: bench_blue_green.py --kubeconfig FILE --image IMAGE [--kubectl PATH] [--pairs N] [--rate R]

IMAGE as in bench_deploy.py; the cluster must give addresses to LoadBalancers. Each side has an app of its own. A round
brings a new version in (in all: from the start of the command to its end) and goes back to the one before (from the start
of the command to the last answer of the newer version to a client with a new connection). `decided` counts from the line
in which ours says that it goes back. By hand means: apply, rollout status and patch of the Service, one process each;
and one patch for the way back. Goal: under 1 s from the decision; Argo Rollouts takes 2.1 s for bringing it in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_deploy import Bench
from tests.cluster.apps import PREDICT
from tests.cluster.canaries import app, clients, public

_REPLICAS = 4
_AFTERWARDS = 3.0  # seconds in which answers of the newer version would still be seen


class Colours(Bench):
    """Two apps; one goes by deploy-aks and rollback, the other by kubectl."""

    def deploy(self, version: str) -> float:
        """Ours: a new version, all in all."""
        objects = [public("ours"), app(self._options.image, version, name="ours", replicas=_REPLICAS)]
        return self._timed(
            [*self._run("deploy-aks"), "--manifests", str(self._written(objects)), "--strategy", "blue-green"]
        )

    def back(self) -> tuple[float, float]:
        """Ours: when `rollback` started, and when it said that it goes back."""
        command = [*self._run("rollback"), "--to-revision", "1"]
        started = time.monotonic()
        process = subprocess.Popen(command, env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout
        decided = next(time.monotonic() for line in process.stdout if "restoring" in line)
        rest = process.stdout.read()
        assert process.wait() == 0, rest
        return started, decided

    def deploy_by_hand(self, version: str) -> float:
        """kubectl: the other colour, its status, the Service."""
        coloured = app(self._options.image, version, name="theirs", replicas=_REPLICAS)
        coloured["metadata"]["name"] = f"theirs-{version}"
        coloured["spec"]["selector"]["matchLabels"]["version"] = version
        coloured["spec"]["template"]["metadata"]["labels"] = {"app": "theirs", "version": version}
        apply = [*self._kubectl, "apply", "--server-side", "--filename", str(self._written([coloured]))]
        status = [*self._kubectl, "rollout", "status", f"deployment/theirs-{version}", "--timeout=120s"]
        return self._timed(apply) + self._timed(status) + self._timed(self._patch(version))

    def back_by_hand(self, version: str) -> float:
        """kubectl: when the patch started."""
        started = time.monotonic()
        self._timed(self._patch(version))
        return started

    def services(self) -> None:
        """Theirs, which leads nowhere yet."""
        service = public("theirs")
        service["spec"]["selector"]["version"] = "none"
        self._timed([*self._kubectl, "apply", "--server-side", "--filename", str(self._written([service]))])

    def remove(self, version: str) -> None:
        """Clear theirs for the next round, as ours does it."""
        self._timed([*self._kubectl, "delete", "deployment", f"theirs-{version}", "--wait=true"])

    def url(self, name: str) -> str:
        """The endpoint of a Service."""
        path = "{.status.loadBalancer.ingress[0].ip}"
        found = subprocess.run([*self._kubectl, "get", "service", name, "--output", f"jsonpath={path}"], check=True,
                               capture_output=True, text=True)  # fmt: skip
        return f"http://{found.stdout}{PREDICT}"

    def _patch(self, version: str) -> list[str]:
        patch = {"spec": {"selector": {"app": "theirs", "version": version}}}
        return [*self._kubectl, "patch", "service", "theirs", "--patch", json.dumps(patch)]

    def _run(self, command: str) -> list[str]:
        return [str(ROOT / "scripts" / "run.sh"), command, "--app", "ours", "--kubeconfig", self._options.kubeconfig,
                "--namespace", self._options.namespace]  # fmt: skip

    def _written(self, objects: list[dict[str, object]]) -> Path:
        path = self._folder / "app.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        return path

    def _timed(self, command: list[str]) -> float:
        started = time.monotonic()
        self._quiet(command)
        return time.monotonic() - started


def measure(bench: Colours, pairs: int, rate: float) -> dict[str, list[float]]:
    """Each round: both bring v2 in, and go back to v1 under the eyes of clients. The first does not count."""
    seconds: dict[str, list[float]] = {}
    bench.services()
    bench.deploy("v1")
    bench.deploy_by_hand("v1")
    for number in range(pairs + 1):
        found = {"in, ours": bench.deploy("v2"), "in, by hand": bench.deploy_by_hand("v2")}
        with clients(bench.url("ours"), rate) as users:
            started, decided = bench.back()
            time.sleep(_AFTERWARDS)
            users.finish()
        last = max((at for at, answer in users.times if answer == "v2"), default=started)
        found |= {"back, ours": last - started, "back, ours, decided": max(last - decided, 0.0)}
        found["failed, ours"] = sum(users.total.failed.values())
        with clients(bench.url("theirs"), rate) as users:
            started = bench.back_by_hand("v1")
            time.sleep(_AFTERWARDS)
            users.finish()
        found["back, by hand"] = max((at for at, answer in users.times if answer == "v2"), default=started) - started
        bench.remove("v2")
        for name, figure in found.items() if number else ():
            seconds.setdefault(name, []).append(figure)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """The table."""
    print(f"{f'blue-green, {_REPLICAS} replicas':<28}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, figures in seconds.items():
        shown = (statistics.median(figures), min(figures), max(figures))
        print(f"{name:<28}" + "".join(f"{one:>9.2f}" for one in shown) + f"{len(figures):>4}")


def main() -> None:
    """Print seconds, and the number of failed requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--namespace", default=f"bench-{os.getpid()}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Colours(options, Path(folder))
        bench.namespace("create")
        try:
            report(measure(bench, options.pairs, options.rate))
        finally:
            bench.namespace("delete")


if __name__ == "__main__":
    main()
