"""What is killed: every command under every strategy, by pods and at a gateway, and what each leaves behind."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.cluster.apps import PREDICT, config, job, service, web
from tests.cluster.canaries import Clients, Runner, app, clients, host, public, route, untouched
from tests.cluster.drills import RATE, Drill, done, lasting
from tests.cluster.test_teardown import ours
from tests.steps import Step

from ml_deploy.releases.before_traffic import remove_leftovers
from ml_deploy.releases.cluster import Object


class Rolling(Drill):
    """With a Job that runs again, a config map that changes, and one that is pruned."""

    writes = 16

    def objects(self, version: str) -> list[Object]:
        made = [config("settings", mode=version), config(f"only-{version}", x="1")]
        return [*made, job(self.place.image, f"echo {version}"), *super().objects(version)]

    def deploy(self, runner: Runner, version: str, *more: Object, **inputs: str) -> Step:
        return super().deploy(runner, version, *more, **{"prune": "true", **inputs})

    def settled(self, version: str) -> None:
        super().settled(version)
        found = self.runner.cluster.list("v1", "ConfigMap", self.runner.cluster.namespace, selector="ml-deploy/app")
        assert {one["metadata"]["name"] for one in found} == {"settings", f"only-{version}"}
        ran = self.live("batch/v1", "Job", "migrate")
        assert ran["spec"]["template"]["spec"]["containers"][0]["command"][2] == f"echo {version}"
        assert ran["status"].get("succeeded") == 1


class Rollback(Drill):
    """Killed, it is run once more."""

    writes = 9

    def prepare(self) -> None:
        super().prepare()
        done(self.deploy(self.runner, self.new, config("extra", x="1")))
        self._undone = str(self.revision())

    def run(self, runner: Runner) -> Step:
        return runner.run("rollback", from_revision=self._undone)

    def again(self, when: str) -> str:
        done(self.run(self.runner))
        return self.old


class Failing(Drill):
    """Runs that fail. What comes next fails likewise, or is the deployment of a good version."""

    ends = 0, ""  # the exit code, and words of the log

    def again(self, when: str) -> str:
        if when == "before":
            done(self.run(self.runner), *self.ends)
            return self.old
        self.new = self.version()
        done(self.deploy(self.runner, self.new))
        return self.new


class AutomaticRollback(Failing):
    """A Job of the release fails when its pods are in place already."""

    ends = 11, "serves again"
    writes, first = 18, 8

    def run(self, runner: Runner) -> Step:
        return self.deploy(runner, self.new, job(self.place.image, "exit 4", "fails"))


class BlueGreen(Drill):
    """Two Services, an autoscaler, a budget and a config map, each of which has its way with colours."""

    strategy, beside = "blue-green", 1
    writes = 14

    def objects(self, version: str) -> list[Object]:
        peers = service("peers")
        peers["spec"]["selector"] = {"app": "web"}
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
                  "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}  # fmt: skip
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
                  "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}}  # fmt: skip
        made = lasting(app(self.place.image, version))
        made["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
        return [config("settings", mode=version), peers, public(), made, budget, scaler]

    def settled(self, version: str) -> None:
        super().settled(version)
        leads = self.live("v1", "Service")["spec"]["selector"]
        assert self.live("v1", "Service", "peers")["spec"]["selector"] == leads
        scaler = self.live("autoscaling/v2", "HorizontalPodAutoscaler")
        assert scaler["spec"]["scaleTargetRef"]["name"] == leads["app"]
        assert self.live("v1", "ConfigMap", leads["app"].replace("web", "settings"))["data"] == {"mode": version}


class Adoption(BlueGreen):
    """From pods without a colour, which go at once."""

    beside = 0
    writes = 18

    def prepare(self) -> None:
        self.start(strategy="rolling")

    def deploy(self, runner: Runner, version: str, *more: Object, **inputs: str) -> Step:
        how = {} if "strategy" in inputs else {"keep_old": "1s"}
        return super().deploy(runner, version, *more, **how, **inputs)


class BackToRolling(BlueGreen):
    """From a colour to pods without one."""

    strategy, beside = "rolling", 0
    writes = 21

    def prepare(self) -> None:
        self.start(strategy="blue-green")


class WayBack(Rollback, BlueGreen):
    """A rollback to the colour that stands ready."""

    writes = 16


class AutomaticWayBack(AutomaticRollback, BlueGreen):
    """After the switch."""

    writes, first = 29, 12


class Canary(Drill):
    """By the number of pods, and promoted."""

    strategy = "canary"
    writes = 22

    def deploy(self, runner: Runner, version: str, *more: Object, **inputs: str) -> Step:
        how = {"steps": "50, 100", "pause": "0s"} if inputs.get("strategy", self.strategy) == "canary" else {}
        return super().deploy(runner, version, *more, **{**how, **inputs})


class OverCanary(Canary):
    """What comes next is another strategy, or a rollback."""

    def prepare(self) -> None:
        super().prepare()
        self._undone = str(self.revision() + 1)

    def again(self, when: str) -> str:
        if when == "before":
            done(self.runner.run("rollback", from_revision=self._undone))
            return self.old
        self.new = self.version()
        done(self.deploy(self.runner, self.new, strategy="rolling"))
        return self.new

    def settled(self, version: str) -> None:
        if version == self.old:  # a rollback leaves the pod that a killed run asked to its own deadline
            remove_leftovers(self.runner.cluster, "web", self.runner.cluster.namespace)
        super().settled(version)


class Abort(Failing, Canary):
    """Its pods begin to answer wrongly when they have users."""

    ends = 12, "aborted at 50 %"
    writes, first = 14, 8

    def run(self, runner: Runner) -> Step:
        objects = [turning(one) if one["kind"] == "Deployment" else one for one in self.objects(self.new)]
        return runner.canary(*objects, pause="4s", cases=runner.cases(self.new))

    def answers(self) -> set[str]:
        return {*super().answers(), "bad"}


class Promotion(Canary):
    """Of a canary that waits. Killed, it is run once more, or the canary is rejected after all."""

    writes = 15

    def prepare(self) -> None:
        super().prepare()
        done(self.deploy(self.runner, self.new, steps="50"))
        self._waits = str(self.revision())

    def run(self, runner: Runner) -> Step:
        return runner.decide("promote", revision=self._waits, cases=runner.cases(self.new))

    def again(self, when: str) -> str:
        if when == "before":
            done(self.run(self.runner))
            return self.new
        rejected = self.runner.decide("reject", revision=self._waits)
        if rejected.code == 15:  # there is nothing to reject any more: the promotion is what is run again
            done(self.run(self.runner))
            return self.new
        done(rejected)
        return self.old


class Rejection(Promotion):
    """Killed, it is run once more, or the canary is promoted after all."""

    writes = 8

    def run(self, runner: Runner) -> Step:
        return runner.decide("reject", revision=self._waits)

    def again(self, when: str) -> str:
        if when == "before":
            done(self.run(self.runner))
            return self.old
        promoted = self.runner.decide("promote", revision=self._waits)
        if promoted.code == 15:  # there is nothing to promote any more
            return self.old
        done(promoted)
        return self.new


class FailedPromotion(AutomaticRollback, Canary):
    """After the canary's steps."""

    writes, first = 29, 19


class AtGateway(Drill):
    """Clients come by an HTTPRoute."""

    keeps = True

    def objects(self, version: str) -> list[Object]:
        return [*super().objects(version), route(self.runner, self.place.gateway)]

    def users(self) -> AbstractContextManager[Clients]:
        return clients(self.place.gateway, RATE, host(self.runner))

    def settled(self, version: str) -> None:
        super().settled(version)
        untouched(self.runner)


class CanaryAtGateway(AtGateway, Canary):
    writes = 21


class OverCanaryAtGateway(AtGateway, OverCanary):
    writes = 20


class AbortAtGateway(AtGateway, Abort):
    writes, first = 13, 8


class PromotionAtGateway(AtGateway, Promotion):
    writes = 14


class RejectionAtGateway(AtGateway, Rejection):
    writes = 7


class Teardown(Drill):
    """Killed, it is run once more, or the app is deployed again. Another app serves all the while."""

    beside = 1
    writes = 7

    def objects(self, version: str) -> list[Object]:
        return [config("settings", mode=version), *super().objects(version)]

    def prepare(self) -> None:
        if not self.url:
            other = web(self.place.image, "other", answer="other")
            self.url = done(self.runner.deploy(public("other"), other, app="other")).outputs["endpoint"] + PREDICT
        super().prepare()

    def run(self, runner: Runner) -> Step:
        return runner.decide("teardown")

    def again(self, when: str) -> str:
        if when == "before":
            done(self.run(self.runner))
            return ""
        self.new = self.version()
        done(self.deploy(self.runner, self.new))
        return self.new

    def answers(self) -> set[str]:
        return {"other"}

    def settled(self, version: str) -> None:
        if version:
            super().settled(version)
        else:
            assert ours(self.runner.cluster) == set()


def turning(deployment: Object) -> Object:
    """A Deployment whose pods answer `bad` three seconds after they have started."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    answers = "/www/cgi-bin/predict"
    turn = f'/bin/busybox sed \'s/: "v.*"/: "bad"/\' {answers} > /bad; /bin/busybox chmod +x /bad'
    late = f"(/bin/busybox sleep 3; {turn}; /bin/busybox mv /bad {answers}) & exec "
    container["command"][2] = container["command"][2].replace("exec ", late)
    return deployment


#: Each with a sample of its writes.
DRILLS: dict[type[Drill], tuple[int, ...]] = {
    Rolling: (9, 13),
    Rollback: (4,),
    AutomaticRollback: (12,),
    BlueGreen: (4, 8),
    Adoption: (8,),
    BackToRolling: (12,),
    WayBack: (2,),
    AutomaticWayBack: (15,),
    Canary: (8, 12),
    OverCanary: (12,),
    Abort: (9,),
    Promotion: (4,),
    Rejection: (2,),
    FailedPromotion: (24,),
    Teardown: (3,),
}
AT_GATEWAY: dict[type[Drill], tuple[int, ...]] = {
    CanaryAtGateway: (7,),
    OverCanaryAtGateway: (13,),
    AbortAtGateway: (9,),
    PromotionAtGateway: (6,),
    RejectionAtGateway: (2,),
}
