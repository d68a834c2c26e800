"""Blue-green on 4 replicas, beside kubectl doing the same by hand, with clients watching.

usage: bench_blue_green.py --kubeconfig FILE --image IMAGE [--kubectl PATH] [--pairs N] [--rate R]

IMAGE as in bench_deploy.py; the cluster must give addresses to LoadBalancers. Each side has an app of its own. A round
brings a new version in and goes back to the one before, under the eyes of clients with new connections:

in      from the start of the command to its end
switch  from the line that says that the new pods are ready to the last answer of the version before
back    from the start of the command to the last answer of the newer version; `decided`: from the line that says so
failed  requests without a right answer in the whole round, of all that were sent

By hand means: apply, rollout status and patch of the Service, one process each; and one patch for the way back.
Goal: switch and decided under 1 s, failed 0; Argo Rollouts takes 2.1 s for bringing it in.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_deploy import Bench
from tests.benchmarks.cluster_options import lasting, parser
from tests.cluster.apps import PREDICT
from tests.cluster.canaries import Clients, app, clients, public

_REPLICAS = 4
_AFTERWARDS = 3.0  # seconds in which answers of the newer version would still be seen


class Colours(Bench):
    """Two apps; one goes by deploy-aks and rollback, the other by kubectl."""

    def deploy(self, version: str) -> tuple[float, float]:
        """Ours: how long it took in all, and when the new pods were ready."""
        objects = [public("ours"), app(self._options.image, version, name="ours", replicas=_REPLICAS)]
        manifests = str(self._written(objects))
        started, ready = self._watched(
            [*self._run("deploy-aks"), "--manifests", manifests, "--strategy", "blue-green"],
            f"{_REPLICAS} of {_REPLICAS} ready",
        )
        return time.monotonic() - started, ready

    def back(self) -> tuple[float, float]:
        """Ours: when `rollback` started, and when it said that it goes back."""
        return self._watched([*self._run("rollback"), "--to-revision", "1"], "restoring")

    def _watched(self, command: list[str], words: str) -> tuple[float, float]:
        """Run it: when it started, and when it first said these words."""
        started = time.monotonic()
        process = subprocess.Popen(command, env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout
        said = [(time.monotonic(), line) for line in process.stdout]
        assert process.wait() == 0, "".join(line for _, line in said)
        return started, next(at for at, line in said if words in line)

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
    """The rounds; the first does not count."""
    seconds: dict[str, list[float]] = {}
    bench.services()
    bench.deploy("v1")
    bench.deploy_by_hand("v1")
    for number in range(pairs + 1):
        for name, figure in {**ours(bench, rate), **theirs(bench, rate)}.items() if number else ():
            seconds.setdefault(name, []).append(figure)
    return seconds


def ours(bench: Colours, rate: float) -> dict[str, float]:
    """A round of ours."""
    with clients(bench.url("ours"), rate) as users:
        took, ready = bench.deploy("v2")
        time.sleep(_AFTERWARDS)
        started, decided = bench.back()
        time.sleep(_AFTERWARDS)
        users.finish()
    switched = last(users, "v1", before=started)
    back = last(users, "v2")
    return {
        "in, ours": took, "switch, ours": switched - ready, "back, ours": back - started,
        "back, ours, decided": max(back - decided, 0.0), "failed, ours": float(sum(users.total.failed.values())),
        "sent, ours": float(len(users.times)),
    }  # fmt: skip


def theirs(bench: Colours, rate: float) -> dict[str, float]:
    """A round by hand."""
    with clients(bench.url("theirs"), rate) as users:
        took = bench.deploy_by_hand("v2")
        time.sleep(_AFTERWARDS)
        started = bench.back_by_hand("v1")
        time.sleep(_AFTERWARDS)
        users.finish()
    bench.remove("v2")
    return {"in, by hand": took, "back, by hand": last(users, "v2") - started}


def last(users: Clients, version: str, *, before: float = float("inf")) -> float:
    """When the last request left that a version answered."""
    return max(at for at, answer in users.times if answer == version and at < before)


def report(seconds: dict[str, list[float]]) -> None:
    """The table."""
    print(f"{f'blue-green, {_REPLICAS} replicas':<28}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, figures in seconds.items():
        shown = (statistics.median(figures), min(figures), max(figures))
        print(f"{name:<28}" + "".join(f"{one:>9.2f}" for one in shown) + f"{len(figures):>4}")


def main() -> None:
    """Print seconds, and the number of failed requests."""
    options_of = parser(__doc__)
    options_of.add_argument("--pairs", type=int, default=10)
    options_of.add_argument("--rate", type=float, default=50)
    options = options_of.parse_args()
    with lasting(Colours, options) as bench:
        report(measure(bench, options.pairs, options.rate))


if __name__ == "__main__":
    main()
