"""Runs that are killed at a write, and what comes after them, while clients ask the app.

No request of the clients may be answered by another version than those that are there, and no two may fail: so it is
seen that something serves whenever a run was killed, and until the next one has finished the work. One refused connection
in some dozens of cases is told with `-rP` and forgiven: where the address of a load balancer is the node's own, a connection is
refused that comes in the milliseconds while kube-proxy rewrites `KUBE-SERVICES` for some other Service (traced). That none
fails while nothing is killed is for the tests of traffic.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.cluster.apps import PREDICT
from tests.cluster.canaries import Clients, Runner, app, clients, public
from tests.cluster.releasing import names
from tests.steps import Step

from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.colours import led_to
from ml_deploy.releases.history import DEPLOYED, JUDGED_GOOD
from ml_deploy.releases.records import Records

RATE = 20  # requests a second
_LOOK = 0.5  # seconds for which clients look at what is left
_LEARNT = 2.0  # seconds in which all nodes have learnt of what the run before switched
_KINDS = (("apps/v1", "Deployment"), ("v1", "Service"), ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Pod"))


@dataclass
class Place:
    """Where a drill runs. `gateway` is the URL of a Gateway with its name as fragment, where there is one."""

    runner: Runner
    image: str
    gateway: str = ""


class Drill:
    """Runs of one kind, one after the other in one namespace: `old` serves, the killed one is to bring `new`.

    writes: how many each has at least. first: the one to begin with.
    beside: how many Deployments may stay beside the one that serves.
    keeps: whether what is before the app keeps connections to pods that are leaving.
    """

    writes, first = 0, 1
    beside = 0
    strategy = "rolling"
    keeps = False

    def __init__(self, place: Place) -> None:
        self.place, self.runner = place, place.runner
        self.old = self.new = self.url = ""
        self.before: set[str] = set()  # what was answered in the run before
        self._versions = 0

    def objects(self, version: str) -> list[Object]:
        """A release."""
        return [public(), lasting(app(self.place.image, version))]

    def prepare(self) -> None:
        """Have `old` serve."""
        if not self.old:
            self.start()

    def run(self, runner: Runner) -> Step:
        """What is killed: by default the deployment of `new`."""
        return self.deploy(runner, self.new)

    def again(self, when: str) -> str:
        """What comes next: after half of the kills the same run, after the others that of another version.

        Returns what is to serve then.
        """
        if when == "after":
            self.new = self.version()
        done(self.run(self.runner))
        return self.new

    def settled(self, version: str) -> None:
        """Assert that this version serves alone, and that the record says so."""
        cluster = self.runner.cluster
        history = Records(cluster, cluster.namespace, "web", clock=time)
        current = history.current()
        assert current and current.state in (DEPLOYED, JUDGED_GOOD), current
        recorded = {obj["kind"]: obj for obj in history.load(current).objects}
        service = self.live("v1", "Service")
        assert service["spec"]["selector"] == recorded["Service"]["spec"]["selector"]
        (leads,) = led_to(service, cluster.list("apps/v1", "Deployment", cluster.namespace))
        assert leads["metadata"]["name"] == recorded["Deployment"]["metadata"]["name"]
        assert answer(leads) == answer(recorded["Deployment"]) == version
        assert size(leads) == size(recorded["Deployment"])
        assert len(names(cluster)) <= 1 + self.beside
        assert self._for_a_while() == []

    def users(self) -> AbstractContextManager[Clients]:
        """Clients of the app."""
        return clients(self.url, RATE)

    def answers(self) -> set[str]:
        """What they may be answered."""
        return {self.old, self.new}

    def go(self, when: str, at: int) -> str:
        """One run that is killed, and the next one; in a line."""
        self.new = self.version()
        self.prepare()
        begun = time.monotonic()
        with self.users() as users:
            killed = self.run(self.runner.dying(when, at))
            died, start = killed.code == -signal.SIGKILL, time.monotonic()
            assert died or at > self.writes, killed.log
            time.sleep(_LOOK)
            allowed, end = self.answers(), time.monotonic()
            serves = self.again(when)
            seconds = time.monotonic() - end
            time.sleep(_LOOK)
        allowed |= self.answers()
        served = "/".join(sorted(users.between(start, end)))
        later = Counter() if self.keeps else users.between(begun + _LEARNT, time.monotonic())
        learnt = {words for words in later if not words.startswith("failed")}
        failed = users.failures()
        assert served and len(failed) <= 1 and learnt <= allowed, f"{users.total} {killed.log}"
        assert set(users.total) - set(users.total.failed) <= allowed | self.before, f"{users.total} {killed.log}"
        self.settled(serves)
        self.old, self.before = serves, allowed
        last = killed.log.strip().rpartition("\n")[2]
        return (
            f"killed {when} {last if died else 'all'}: {served} served; {seconds:.1f} s later: {serves or 'gone'}"
            + "".join(failed)
        )

    # what runs are made of

    def start(self, **inputs: str) -> None:
        """Deploy `old`."""
        self.old = self.old or self.version()
        first = done(self.deploy(self.runner, self.old, **inputs))
        self.url = self.url or first.outputs["endpoint"] + PREDICT

    def version(self) -> str:
        """The next version."""
        self._versions += 1
        return f"v{self._versions}"

    def deploy(self, runner: Runner, version: str, *more: Object, **inputs: str) -> Step:
        """A release of a version, which has to answer like it."""
        how = {"strategy": self.strategy, "cases": runner.cases(version), **inputs}
        return runner.deploy(*self.objects(version), *more, **how)

    def live(self, api_version: str, kind: str, name: str = "web") -> Object:
        found = self.runner.cluster.get(Ref(api_version, kind, self.runner.cluster.namespace, name))
        assert found, f"{kind} {name}"
        return found

    def revision(self) -> int:
        """The newest one that is recorded."""
        history = Records(self.runner.cluster, self.runner.cluster.namespace, "web", clock=time).all()
        return history[0].revision

    def _for_a_while(self) -> list[str]:
        """What is there only while something is asked before traffic, or shares it."""
        cluster = self.runner.cluster
        found = [one for kind in _KINDS for one in cluster.list(*kind, cluster.namespace, selector="ml-deploy/role")]
        return [one["metadata"]["name"] for one in found if not one["metadata"].get("deletionTimestamp")]


def lasting(deployment: Object) -> Object:
    """A Deployment whose pods serve for long after they were told to go: nodes may learn of it late while all is busy."""
    spec = deployment["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 20
    spec["containers"][0]["lifecycle"]["preStop"] = {"sleep": {"seconds": 10}}
    spec["containers"][0]["readinessProbe"]["timeoutSeconds"] = 5
    return deployment


def done(step: Step, code: int = 0, words: str = "") -> Step:
    """A run that came to this end."""
    assert step.code == code and words in step.log, step.log
    return step


def answer(deployment: Object) -> str:
    """The version that its pods answer with."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return str(json.loads(container["env"][0]["value"])["prediction"])


def size(deployment: Object) -> tuple[int, str]:
    """How many pods it has, and how many more while it is rolled."""
    spec = deployment["spec"]
    return spec["replicas"], spec["strategy"]["rollingUpdate"]["maxSurge"]
