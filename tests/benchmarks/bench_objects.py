"""Three hundred objects by deploy-aks, beside kubectl's server dry run, apply and rollout status.

usage: bench_objects.py --kubeconfig FILE [--kubectl PATH] [--pairs N] [--objects N] [--image IMAGE] [--fake]

A fifteenth of the objects are Deployments with one pod, as many Services, the rest ConfigMaps; each round changes all
of them. Each side has a namespace of its own; the order within a pair alternates. --fake: the pods run on nodes that
kwok simulates, so that the cluster's own work is small. Goal: no slower than kubectl.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_deploy import Bench
from tests.benchmarks.bench_deploy import report as printed
from tests.cluster.apps import config, service, web

from ml_deploy.releases.cluster import Object

FAKE = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}


class Many(Bench):
    """One namespace with many objects, by one side."""

    def kubectl_all(self, manifest: Path) -> None:
        """Server dry run, apply, and status of all Deployments: three processes."""
        apply = [*self._kubectl, "apply", "--server-side", "--filename", str(manifest)]
        self._quiet([*apply, "--dry-run=server"])
        self._quiet(apply)
        names = [f"deployment/a{number}" for number in range(self._options.objects // 15)]
        self._quiet([*self._kubectl, "rollout", "status", *names, "--timeout=300s"])

    def ours_all(self, manifest: Path) -> None:
        """The same by deploy-aks, with its record and all else."""
        self._quiet([
            str(ROOT / "scripts" / "run.sh"), "deploy-aks", "--app", "many", "--manifests", str(manifest),
            "--kubeconfig", self._options.kubeconfig, "--namespace", self._options.namespace,
        ])  # fmt: skip

    def write(self, number: int) -> Path:
        """All objects of one round."""
        path = self._folder / f"{self._options.namespace}.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": self._objects(number)}))
        return path

    def _objects(self, number: int) -> list[Object]:
        apps = self._options.objects // 15
        found: list[Object] = []
        for index in range(apps):
            app, led_to = web(self._options.image, f"a{index}", answer=number), service(f"a{index}")
            led_to["metadata"]["annotations"] = {"round": str(number)}
            if self._options.fake:
                app["spec"]["template"]["spec"] |= {"tolerations": [FAKE], "nodeSelector": {"type": "kwok"}}
            found += [app, led_to]
        return found + [config(f"c{index}", round=str(number), text="x" * 500) for index in range(13 * apps)]


def main() -> None:
    """Print medians of both sides and of the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--image", default="none")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--fake", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            name: Many(argparse.Namespace(**vars(options), namespace=f"bench-{os.getpid()}-{name[:4]}"), Path(folder))
            for name in ("kubectl", "deploy-aks")
        }
        for side in sides.values():
            side.namespace("create")
        try:
            printed(measure(sides, options.pairs), f"{options.objects} objects applied")
        finally:
            for side in sides.values():
                side.namespace("delete")


def measure(sides: dict[str, Many], pairs: int) -> dict[str, list[float]]:
    """Interleaved pairs; the first round, which creates all, does not count."""
    work: dict[str, Callable[[Path], None]] = {
        "kubectl": sides["kubectl"].kubectl_all,
        "deploy-aks": sides["deploy-aks"].ours_all,
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(pairs + 1):
        for name in list(work)[:: 1 if number % 2 else -1]:
            manifest = sides[name].write(number)
            started = time.perf_counter()
            work[name](manifest)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
