"""What tests of canaries share: deploying as a step of a job, clients that count answers by version, gateways."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.cluster.apps import PREDICT, service, web
from tests.steps import MAIN, Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.strategies import routes

RATE = 50
GATEWAY_API = "gateway.networking.k8s.io/v1"
_DYING = Path(__file__).with_name("dying.py")


def app(image: str, answer: str = "v1", *, replicas: int = 2, delay: str = "", **how: Any) -> Object:
    """An app whose pods go only after load balancers have noticed; `delay` makes each answer late by so many seconds."""
    obj = web(image, answer=answer, replicas=replicas, **how)
    spec = obj["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 10
    container = spec["containers"][0]
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 3}}}
    if delay:
        container["command"][2] = container["command"][2].replace('"echo', f'"/bin/busybox sleep {delay}; echo', 1)
    obj["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}
    return obj


def public(name: str = "web") -> Object:
    """A Service that is reached from outside."""
    made = service(name)
    made["spec"]["type"] = "LoadBalancer"
    return made


@dataclass
class Runner:
    """Runs deploy-aks and rollback as steps of a job, for one app in one namespace."""

    folder: Path
    kubeconfig: str
    cluster: ApiServer
    program: Sequence[str | Path] = (MAIN,)

    def dying(self, when: str, at: int | str) -> Runner:
        """One whose runs are killed `before` or `after` a write: the N-th, or the first that begins so."""
        return replace(self, program=(_DYING, when, str(at)))

    def deploy(self, *objects: Object, **inputs: str) -> Step:
        """deploy-aks of objects; `on-failure: rollback` and 50 s unless told otherwise."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        (self.folder / "app.json").write_text(json.dumps(items))
        return self.run("deploy-aks", **{"manifests": "app.json", **inputs})

    def canary(self, *objects: Object, steps: str = "50, 100", pause: str = "1s", **inputs: str) -> Step:
        """The same as a canary."""
        return self.deploy(*objects, strategy="canary", steps=steps, pause=pause, **inputs)

    def decide(self, action: str, **inputs: str) -> Step:
        """deploy-aks with `action`."""
        return self.run("deploy-aks", action=action, **inputs)

    def run(self, command: str, **inputs: str) -> Step:
        """A command with the inputs that all have in common."""
        for name in ("output", "summary"):
            (self.folder / name).unlink(missing_ok=True)
        common = {"kubeconfig": self.kubeconfig, "namespace": self.cluster.namespace, "app": "web", "timeout": "50s"}
        return step(self.folder, command, program=self.program, **{**common, **inputs})

    def cases(self, answer: str) -> str:
        """A file of golden predictions that expects one answer."""
        path = self.folder / f"cases-{answer}.jsonl"
        path.write_text(json.dumps({"path": PREDICT, "method": "GET", "expect": {"prediction": answer}}) + "\n")
        return str(path)

    def live(self, kind: str, name: str) -> Object | None:
        """A live object."""
        api = {"Deployment": "apps/v1", "Service": "v1", "HTTPRoute": "gateway.networking.k8s.io/v1"}[kind]
        return self.cluster.get(Ref(api, kind, self.cluster.namespace, name))

    def plain(self, answer: str, replicas: int, *, name: str = "web") -> None:
        """Assert that the cluster looks as after a rolling release: one Deployment with its pods, and nothing of ours."""
        live = self.live("Deployment", name)
        assert live and live["spec"]["replicas"] == replicas
        assert live["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == json.dumps(
            {"prediction": answer}
        )
        assert self.live("Deployment", f"{name}-canary") is None
        assert self.live("Service", f"{name}-canary") is None
        users = self.live("Service", name)
        assert users is None or users["spec"]["selector"] == {"app": name}


class Counted(Counter[str]):
    """Answers by version, and what failed in words."""

    @property
    def failed(self) -> dict[str, int]:
        """What was not answered."""
        return {words: count for words, count in self.items() if words.startswith("failed")}

    def share(self, version: str) -> float:
        """The percent of all answers that a version gave."""
        answered = sum(count for words, count in self.items() if not words.startswith("failed"))
        return 100 * self[version] / answered if answered else 0.0


class Clients:
    """A process of clients; `so_far` is what they have seen, and what since when."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.total = Counted()
        self.times: list[tuple[float, str]] = []

    def finish(self) -> Counted:
        """Stop them, and tell what they saw."""
        if self.process.stdout and not self.process.stdout.closed:
            self.process.terminate()
            self.times = [(float(at), words) for at, words in json.loads(self.process.stdout.read())]
            self.process.stdout.close()
            self.process.wait(10)
            self.total = Counted(words for _, words in self.times)
        return self.total

    def failures(self) -> list[str]:
        """What was not answered, with seconds since the first request."""
        return [f"{at - self.times[0][0]:.1f} s: {words}" for at, words in self.times if words.startswith("failed")]

    def between(self, start: float, end: float) -> Counted:
        """What they saw between two times of `time.monotonic`."""
        return Counted(words for at, words in self.times if start <= at < end)


@contextmanager
def clients(url: str, rate: float = RATE, host: str = "", *, keep: bool = False) -> Iterator[Clients]:
    """Clients of an endpoint, each request on a connection of its own, or on one that is kept alive."""
    command = [sys.executable, str(Path(__file__).with_name("versions.py")), url, str(rate), host, *["keep"] * keep]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "started\n"
    found = Clients(process)
    try:
        yield found
    finally:
        found.finish()


def host(runner: Runner) -> str:
    """One controller serves the Gateways of all tests, also of those whose namespaces are on their way out."""
    return f"{runner.cluster.namespace}.example"


def route(runner: Runner, gateway: str) -> Object:
    refs = [{"name": "web", "port": 80}]
    rules = [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": refs}]
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {"name": "web"},
            "spec": {"parentRefs": [{"name": gateway.partition("#")[2], "namespace": "default"}], "hostnames": [host(runner)], "rules": rules}}  # fmt: skip


def untouched(runner: Runner) -> None:
    """The route leads to one Service again."""
    live = runner.live("HTTPRoute", "web")
    assert live and not routes.is_edited(live)
    assert [[ref["name"] for ref in rule["backendRefs"]] for rule in live["spec"]["rules"]] == [["web"]]


def wait_for(condition: Any, seconds: float = 20) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not come to be"
        time.sleep(0.1)
