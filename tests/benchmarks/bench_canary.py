"""A canary of 10, 50 and 100 % on 10 replicas, and its abort at 50 %, with clients watching.

usage: bench_canary.py --kubeconfig FILE --image IMAGE [--kubectl PATH] [--rounds N] [--rate R] [--gateway NAMESPACE/NAME]

IMAGE as in bench_deploy.py; the cluster must give addresses to LoadBalancers. `promoted` is a whole deploy-aks, two pauses
of 5 s included, from the start of the command to its end; Argo Rollouts, with a controller in the cluster, takes 15.4 s.
An abort is decided when deploy-aks says so: the canary's pods answer wrongly at 50 %, or crash; the figure is the time until the last
answer of the bad version to a client with a new connection. By the number of pods Argo's canary pods leave after 2.2 s;
the goal is under 1 s. On a gateway (`--gateway`, a Gateway that takes routes of other namespaces) the same is measured
for weights that kubectl sets, from the moment when it starts: no abort is faster than its gateway, and after a crash the gateway is still taking in which pods have gone. `failed` are requests.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_deploy import Bench
from tests.benchmarks.cluster_options import lasting, parser
from tests.cluster.apps import PREDICT, service
from tests.cluster.canaries import Clients, app, clients, public
from tests.cluster.drill_kinds import turning

_PAUSE = "5s"
_CODES = {"": 0, "crash": 11, "wrong answers": 12}
_AFTERWARDS = 4.0  # seconds in which answers of the bad version would still be seen
_ROUTES = "gateway.networking.k8s.io/v1"


class Canaries(Bench):
    """One app, by the number of pods or behind a gateway."""

    replicas = 10

    def objects(self, version: str, end: str = "") -> list[dict[str, Any]]:
        """The app; its pods answer wrongly or crash after some seconds when that is their `end`."""
        made = app(self._options.image, version, name="ours", replicas=self.replicas)
        if end == "wrong answers":
            turning(made)
        elif end == "crash":
            command = made["spec"]["template"]["spec"]["containers"][0]["command"]
            command[2] = command[2].replace("exec /bin/busybox httpd -f", "/bin/busybox httpd")
            command[2] += "; /bin/busybox sleep 12; exit 3"
        if not self._options.gateway:
            return [public("ours"), made]
        namespace, _, name = self._options.gateway.partition("/")
        rule = {"backendRefs": [{"name": "ours", "port": 80}]}
        spec = {"parentRefs": [{"name": name, "namespace": namespace}], "hostnames": [self.host], "rules": [rule]}
        return [service("ours"), made,
                {"apiVersion": _ROUTES, "kind": "HTTPRoute", "metadata": {"name": "ours"}, "spec": spec}]  # fmt: skip

    @property
    def host(self) -> str:
        """The name that the route answers to; empty without a gateway."""
        return f"{self._options.namespace}.example" if self._options.gateway else ""

    def url(self) -> str:
        """The address of the Service's load balancer, or of the gateway."""
        what = ["--namespace", self._options.namespace, "get", "service", "ours"]
        path = "{.status.loadBalancer.ingress[0].ip}"
        if self._options.gateway:
            namespace, _, name = self._options.gateway.partition("/")
            what = ["--namespace", namespace, "get", "gateway", name]
            path = "{.status.addresses[0].value}:{.spec.listeners[0].port}"
        command = [self._options.kubectl, "--kubeconfig", self._options.kubeconfig, *what, f"--output=jsonpath={path}"]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        return f"http://{found.stdout}{PREDICT}"

    def write(self, objects: list[dict[str, Any]]) -> Path:
        """The file of manifests."""
        path = self._folder / "app.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        return path

    def unweigh(self) -> float:
        """The canary's weights set to 0 by kubectl; when that was begun."""
        kubectl = [
            self._options.kubectl,
            "--kubeconfig",
            self._options.kubeconfig,
            "--namespace",
            self._options.namespace,
        ]
        get = [*kubectl, "get", "httproute", "ours", "--output=json"]
        route = json.loads(subprocess.run(get, check=True, capture_output=True).stdout)
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"] if len(rule["backendRefs"]) > 1 else []:
                backend["weight"] = 0 if backend["name"] == "ours-canary" else 100
        started = time.monotonic()
        subprocess.run([*kubectl, "replace", "--filename=-"], check=True, input=json.dumps(route).encode(),
                       stdout=subprocess.DEVNULL)  # fmt: skip
        return started

    def reject(self) -> None:
        """The canary that waits goes."""
        command = [str(ROOT / "scripts" / "run.sh"), "deploy-aks", "--app", "ours", "--action", "reject",
                   "--kubeconfig", self._options.kubeconfig, "--namespace", self._options.namespace]  # fmt: skip
        subprocess.run(command, env=self._env, check=True, stdout=subprocess.DEVNULL)

    def cases(self, version: str) -> str:
        """The file of one golden prediction."""
        path = self._folder / "cases.jsonl"
        path.write_text(json.dumps({"path": PREDICT, "method": "GET", "expect": {"prediction": version}}) + "\n")
        return str(path)

    def abort(self, version: str, end: str, rate: float, *options: str) -> float:
        """Seconds from the decision to the last answer `bad`."""
        with clients(self.url(), rate, self.host) as users:
            _, decided = self.deploy(version, "--strategy", "canary", "--steps", "50, 100", *options, end=end)
            time.sleep(_AFTERWARDS)
        if not decided or not _last(users, "bad"):
            sys.exit(f"no abort, or nobody met the bad version: {users.total}")
        return max(_last(users, "bad") - decided, 0.0)

    def deploy(self, version: str, *options: str, end: str = "") -> tuple[float, float]:
        """Seconds in all, and when an abort was decided (0 without one)."""
        path = self.write(self.objects(version, end))
        command = [str(ROOT / "scripts" / "run.sh"), "deploy-aks", "--app", "ours", "--manifests", str(path),
                   "--kubeconfig", self._options.kubeconfig, "--namespace", self._options.namespace, *options]  # fmt: skip
        started, decided, said = time.monotonic(), 0.0, ""
        process = subprocess.Popen(command, env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout
        for line in process.stdout:
            said += line
            decided = time.monotonic() if "canary: aborted at" in line else decided
        code = process.wait()
        if code != _CODES[end]:
            sys.exit(said)
        return time.monotonic() - started, decided


def measure(bench: Canaries, rounds: int, rate: float) -> dict[str, list[float]]:
    """Each round: a version is promoted; then a bad one is aborted at 50 %, twice."""
    seconds: dict[str, list[float]] = {
        "promoted": [],
        "wrong answers, last one": [],
        "crash, last answer": [],
        "failed": [],
    }
    bench.deploy("v1")
    steps = ["--strategy", "canary", "--pause", _PAUSE]
    for number in range(rounds):
        with clients(bench.url(), rate, bench.host) as users:
            taken, _ = bench.deploy(f"v{2 + number}", *steps, "--steps", "10, 50, 100")
            time.sleep(_AFTERWARDS)
        seconds["promoted"].append(taken)
        failed = len(users.failures())
        seconds["wrong answers, last one"].append(
            bench.abort(
                f"v{100 + number}", "wrong answers", rate, "--pause", "6s", "--cases", bench.cases(f"v{100 + number}")
            )
        )
        seconds["crash, last answer"].append(bench.abort("bad", "crash", rate, "--pause", "20s"))
        seconds["failed"].append(failed)
        if bench.host:
            bench.deploy("bad", "--strategy", "canary", "--pause", "0s", "--steps", "50")
            with clients(bench.url(), rate, bench.host) as users:
                time.sleep(_AFTERWARDS)
                begun = bench.unweigh()
                time.sleep(_AFTERWARDS)
            seconds.setdefault("weights by kubectl, last answer", []).append(_last(users, "bad") - begun)
            bench.reject()
    return seconds


def _last(users: Clients, version: str) -> float:
    return max((at for at, answer in users.times if answer == version), default=0.0)


def main() -> None:
    """Print seconds, and the number of requests that failed during promotions."""
    options_of = parser(__doc__)
    options_of.add_argument("--rounds", type=int, default=5)
    options_of.add_argument("--rate", type=float, default=50)
    options_of.add_argument("--gateway", default="")
    options = options_of.parse_args()
    with lasting(Canaries, options) as bench:
        found = measure(bench, options.rounds, options.rate)
    how = "weights of a gateway" if options.gateway else "number of pods"
    print(f"{f'canary, {Canaries.replicas} replicas, {how}':<44}{'median':>9}{'min':>9}{'max':>9}   n")
    for name, figures in found.items():
        shown = (statistics.median(figures), min(figures), max(figures))
        print(f"{name:<44}" + "".join(f"{one:>9.2f}" for one in shown) + f"{len(figures):>4}")


if __name__ == "__main__":
    main()
