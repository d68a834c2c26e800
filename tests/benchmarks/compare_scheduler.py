"""Capacity's verdicts beside those of a real scheduler, on random cases.

usage: compare_scheduler.py --kubeconfig FILE [--cases N] [--seed N]

Each case makes a few nodes without machines (they are removed again), some running pods, and the pods of a
release, and lets the cluster's own scheduler place them. YES must mean that all were placed, NO that not all
were; MAYBE is never wrong, and is counted. The cluster needs a scheduler and nothing else.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.releases.capacity.demand import Demand, demand
from ml_deploy.releases.capacity.packing import Fit
from ml_deploy.releases.capacity.verdict import Seen, judge
from ml_deploy.releases.cluster import ClusterAccess, Object, Ref
from ml_deploy.releases.rollout import condition

NOT_READY = {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}
NAMESPACE = "compare-scheduler"


class Case:
    """One random case: nodes, what runs on them, and a release of one to four apps."""

    def __init__(self, cluster: ApiServer, number: int, dice: random.Random) -> None:
        self._cluster, self._dice, self._number = cluster, dice, number
        self._label = {"compare": str(number)}
        self._made: list[Ref] = []

    def run(self) -> tuple[Fit, bool, str]:
        """Our verdict, whether the scheduler placed all, and the case in words."""
        try:
            nodes = [self._node(index) for index in range(self._dice.randint(2, 10))]
            for index in range(self._dice.randint(0, len(nodes))):
                self._pod(f"run-{index}", self._spec())
            for name in self._settle():  # what found no room does not run
                self._cluster.delete(Ref("v1", "Pod", NAMESPACE, name), grace=0)
            apps = [self._app(index) for index in range(self._dice.randint(1, 4))]
            verdict = self._judge([found for app in apps if (found := demand(app, None, None))])
            for app in apps:
                for index in range(app["spec"]["replicas"]):
                    self._pod(f"{app['metadata']['name']}-{index}", app["spec"]["template"]["spec"])
            placed = not self._settle()
            return verdict, placed, _words(nodes, apps)
        finally:
            for ref in reversed(self._made):
                self._cluster.delete(ref, grace=0)

    def _judge(self, demands: list[Demand]) -> Fit:
        nodes = self._cluster.list("v1", "Node", "", selector=f"compare={self._number}")
        found = judge(Seen(nodes, self._cluster.list("v1", "Pod", NAMESPACE), sure=True), demands)
        return max((one.fit for one in found), key=[Fit.YES, Fit.MAYBE, Fit.NO].index, default=Fit.YES)

    def _node(self, index: int) -> Object:
        cpu, memory = self._dice.choice((2, 4, 4, 8)), self._dice.choice((4, 8, 8, 16))
        room = {"cpu": str(cpu), "memory": f"{memory}Gi", "pods": str(self._dice.choice((3, 110, 110)))}
        if self._dice.random() < 0.2:
            room["nvidia.com/gpu"] = "1"
        taints = [{"key": "special", "value": "yes", "effect": "NoSchedule"}] if self._dice.random() < 0.2 else []
        labels = self._label | ({"pool": "ml"} if self._dice.random() < 0.5 else {})
        name = f"compare-{self._number}-{index}"
        return self._make({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
                           "spec": {"taints": taints}, "status": {"allocatable": room, "capacity": room}})  # fmt: skip

    def _spec(self) -> dict[str, Any]:
        asked = {"cpu": self._dice.choice(("250m", "500m", "1", "2", "3")),
                 "memory": self._dice.choice(("512Mi", "1Gi", "2Gi", "4Gi", "6Gi"))}  # fmt: skip
        spec: dict[str, Any] = {
            "nodeSelector": dict(self._label), "tolerations": [NOT_READY], "automountServiceAccountToken": False,
            "containers": [{"name": "c", "image": "none", "resources": {"requests": asked}}],
        }  # fmt: skip
        if self._dice.random() < 0.2:
            spec["nodeSelector"]["pool"] = "ml"
        if self._dice.random() < 0.3:
            spec["tolerations"].append({"key": "special", "operator": "Exists"})
        if self._dice.random() < 0.03:
            spec["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": "1"}
        return spec

    def _app(self, index: int) -> Object:
        template = {"metadata": {"labels": {"app": f"a{index}"}}, "spec": self._spec()}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"a{index}", "namespace": NAMESPACE},
                "spec": {"replicas": self._dice.randint(1, 4), "template": template}}  # fmt: skip

    def _pod(self, name: str, spec: Object) -> None:
        meta = {"name": f"c{self._number}-{name}", "namespace": NAMESPACE, "labels": {"app": "x"}}
        self._make({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def _make(self, obj: Object) -> Object:
        meta = obj["metadata"]
        self._made.append(Ref("v1", obj["kind"], meta.get("namespace", ""), meta["name"]))
        return self._cluster.create(obj).object

    def _settle(self) -> list[str]:
        """Wait until the scheduler has had its say on every pod; the pods that it did not place."""
        while True:
            pods = self._cluster.list("v1", "Pod", NAMESPACE)
            open_ = [pod for pod in pods if not pod["spec"].get("nodeName")]
            if all(condition(pod, "PodScheduled").get("reason") == "Unschedulable" for pod in open_):
                return [pod["metadata"]["name"] for pod in open_]
            time.sleep(0.05)


def _words(nodes: list[Object], apps: list[Object]) -> str:
    sizes = " ".join("/".join(node["status"]["allocatable"].values()) for node in nodes)
    asked = " ".join(
        f"{app['spec']['replicas']}x"
        + "/".join(app["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"].values())
        for app in apps
    )
    return f"nodes {sizes}; pods {asked}"


def main() -> int:
    """Print each disagreement, and how often which verdict met which outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cluster = connect(ClusterAccess(kubeconfig=options.kubeconfig), lambda: sys.exit("no Azure here"), lambda _: None)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    seen: Counter[tuple[str, bool]] = Counter()
    try:
        for number in range(options.cases):
            verdict, placed, words = Case(cluster, number, random.Random(options.seed * 100_000 + number)).run()
            seen[verdict.value, placed] += 1
            if verdict is (Fit.NO if placed else Fit.YES):
                print(
                    f"case {number}: we say {verdict.value}, the scheduler {'placed all' if placed else 'did not'}: {words}"
                )
    finally:
        cluster.delete(Ref("v1", "Namespace", "", NAMESPACE))
    wrong = seen["yes", False] + seen["no", True]
    for (verdict_, placed_), count in sorted(seen.items()):
        print(f"{verdict_:<6} {'all placed' if placed_ else 'not all placed':<16}{count:>5}")
    print(f"{options.cases} cases, {wrong} disagreements")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
