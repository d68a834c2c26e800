"""A Deployment of many replicas: what its wait costs, beside `kubectl rollout status` on the same rollout.

usage: bench_replicas.py --kubeconfig FILE [--kubectl PATH] [--replicas N] [--rounds N]

Both wait for the same rollout at the same time, each in a process of its own. CPU seconds are user and system time: of
kubectl's process from its start, of ours while it waits, and (for comparison) of all of ours; a deployment starts Python
once, for all that it does. The pods run on nodes that kwok simulates. Goal: the wait costs at most twice kubectl's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_objects import FAKE
from tests.cluster.apps import web

from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.releases.cluster import ClusterAccess, Object, Ref
from ml_deploy.releases.wait import wait_ready

_SECONDS = 600.0


def app(number: int, replicas: int) -> Object:
    """The Deployment in one of its versions."""
    found = web("none", "big", answer=number, replicas=replicas)
    found["spec"] |= {"progressDeadlineSeconds": 600}
    found["spec"]["template"]["spec"] |= {"tolerations": [FAKE], "nodeSelector": {"type": "kwok"}}
    return found


def wait_here(kubeconfig: str, namespace: str) -> None:
    """What deploy-aks does after it has applied: this runs in a process of its own."""
    cluster = cluster_of(kubeconfig, namespace)
    live = cluster.get(Ref("apps/v1", "Deployment", namespace, "big"))
    assert live
    before = time.process_time()
    wait_ready(cluster, [live], seconds=_SECONDS, clock=time, tell=lambda line: print(line, file=sys.stderr))
    print(time.process_time() - before)


def cluster_of(kubeconfig: str, namespace: str) -> ApiServer:
    """A connection."""
    return connect(
        ClusterAccess(kubeconfig=kubeconfig, namespace=namespace), lambda: sys.exit("no Azure"), lambda _: None
    )


def cost(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """CPU seconds and the time of the end of a process that is awaited."""
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, process.args
    return used.ru_utime + used.ru_stime, time.monotonic()


def round_of(options: argparse.Namespace, cluster: ApiServer, number: int) -> tuple[float, ...]:
    """CPU seconds of kubectl, of our wait, of our process; seconds of the rollout, and how much later we noticed its end."""
    cluster.apply(app(number, options.replicas), force=True)
    started = time.monotonic()
    words = [options.kubectl, "--kubeconfig", options.kubeconfig, "--namespace", options.namespace]
    theirs = subprocess.Popen(
        [*words, "rollout", "status", "deployment/big", f"--timeout={_SECONDS:.0f}s"], stdout=subprocess.DEVNULL
    )
    ours = subprocess.Popen(
        [sys.executable, __file__, "--kubeconfig", options.kubeconfig, "--wait", options.namespace],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    kubectl, first = cost(theirs)
    own, second = cost(ours)
    assert ours.stdout
    return kubectl, float(ours.stdout.read()), own, max(first, second) - started, second - first


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--replicas", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.wait:
        wait_here(options.kubeconfig, options.wait)
        return
    options.namespace = f"bench-{os.getpid()}"
    cluster = cluster_of(options.kubeconfig, options.namespace)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": options.namespace}})
    try:
        found = [round_of(options, cluster, number) for number in range(options.rounds)]
    finally:
        cluster.delete(Ref("v1", "Namespace", "", options.namespace))
    kubectl, own, whole, seconds, later = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"{options.replicas} replicas, {options.rounds} rollouts of {seconds:.0f} s (medians)")
    print(f"CPU of kubectl rollout status  {kubectl:>7.2f} s\nCPU of our wait                {own:>7.2f} s")
    print(
        f"CPU of our process             {whole:>7.2f} s\nwait, as a ratio               {own / kubectl:>7.2f}\nour verdict after kubectl's    {later:>7.2f} s"
    )


if __name__ == "__main__":
    main()
