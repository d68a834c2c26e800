"""One canary's life: started, asked, given more of the traffic step by step, judged after each, and removed."""

from __future__ import annotations

from collections.abc import Sequence

from ml_deploy.checks.cases import Report, judge
from ml_deploy.checks.versus import Comparison
from ml_deploy.errors import EndpointDown, MlDeployError, RolloutFailed, TimedOut, TooSlow
from ml_deploy.releases import before_traffic, newpods, rehearsal
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.record_secrets import REVISION
from ml_deploy.releases.stage import Stage, Taken
from ml_deploy.releases.strategies import canary_cut, canary_objects, canary_records, canary_setup, routes
from ml_deploy.releases.strategies.canary_edge import Edge
from ml_deploy.releases.strategies.canary_setup import GATEWAY, ROUTE_API, Setup
from ml_deploy.releases.strategies.canary_traffic import (
    ByGateway,
    ByReplicas,
    Traffic,
    live_pods,
    noted,
    remove,
    scaled,
)

_BACK = 60.0  # seconds in which the stable version should have all of its pods again
_LOOK = 1.0  # seconds between two looks at the pods while a step lasts
_ASKED = 3  # pods that are asked after each step


class Trial:
    """A canary beside the stable version. `begin` prepares a new one, `resume` finds one that another run left."""

    def __init__(self, stage: Stage, stable: Ref, traffic: Traffic, edge: Edge | None) -> None:
        self.stable, self.traffic, self.edge = stable, traffic, edge
        self._stage = stage
        self.canary = _beside(stable)

    @classmethod
    def begin(cls, stage: Stage, setup: Setup) -> Trial:
        """The canary of a release, as it can be had here. Nothing is changed yet."""
        stable, service = ref_of(setup.stable), setup.service
        if setup.by == GATEWAY:
            edge = _edge(stage, setup.routes, service)
            return cls(stage, stable, ByGateway(stage, service, setup.routes, setup.total, edge), edge)
        return cls(stage, stable, ByReplicas(stage, stable, _beside(stable), setup.total), None)

    @classmethod
    def resume(cls, stage: Stage) -> Trial | None:
        """The app's canary that is in the cluster, or None."""
        cluster, app = stage.cluster, stage.plan.app
        found = cluster.list("apps/v1", "Deployment", cluster.namespace, selector=canary_objects.selector(app))
        edited = [one for one in canary_setup.live_routes(cluster) if routes.edited_for(one)[0] == app]
        if not found and not edited:
            return None
        notes = found[0]["metadata"]["annotations"] if found else {}
        stable = Ref("apps/v1", "Deployment", cluster.namespace, notes.get(canary_objects.OF, app))
        stage.progress.share = int(notes.get(canary_objects.SHARE, 0))
        if canary_objects.STABLE_PODS in notes:
            total = int(notes[canary_objects.STABLE_PODS])
            return cls(stage, stable, ByReplicas(stage, stable, _beside(stable), total), None)
        refs = tuple(Ref(ROUTE_API, routes.KIND, cluster.namespace, one["metadata"]["name"]) for one in edited)
        service = routes.edited_for(edited[0])[1] if edited else ""
        edge = _edge(stage, refs, service)
        return cls(stage, stable, ByGateway(stage, service, refs, 1, edge), edge)

    def close(self) -> None:
        """Close the connections to the gateway."""
        if self.edge:
            self.edge.close()

    def start(self, setup: Setup, share: int) -> None:
        """Make the canary with the pods for its first share, and wait until they are ready."""
        stage, by_gateway = self._stage, setup.by == GATEWAY
        app, revision = stage.plan.app, stage.release.revision
        labels = canary_objects.labels(app, revision)
        stage.put_ahead(rehearsal.needed_ahead(stage.cluster, stage.objects))
        workload, copies = rehearsal.with_copies(
            stage.cluster, setup.workload, stage.objects, ending=f"-r{revision}-canary", labels=labels
        )
        canary = canary_objects.deployment(
            workload, self.canary.namespace, app=app, revision=revision, pods=self.traffic.pods(share),
            stable_pods=None if by_gateway else setup.total, apart_from=setup.services if by_gateway else (),
        )  # fmt: skip
        led = [one for one in setup.services if by_gateway and one["metadata"]["name"] == setup.service]
        services = [canary_objects.service(one, app=app, revision=revision) for one in led]
        stage.tell(f"canary: starting {_pods(canary['spec']['replicas'])} as {canary['metadata']['name']}")
        done = [stage.cluster.apply(obj, force=True).object for obj in (*copies, *services, canary)]
        stage.wait_for(done[-1:])

    def step(self, share: int) -> None:
        """Give it `share` percent of the traffic, wait a pause, and judge. Raises what speaks against going on."""
        stage, pause = self._stage, self._stage.plan.canary.pause
        pods = self.traffic.pods(share)
        stage.wait_for([scaled(stage.cluster, self.canary, pods)])
        stage.progress.share = share
        self.traffic.give(share)
        noted(stage.cluster, self.canary, share)
        stage.tell(
            f"canary: {share} % of the traffic, {_pods(pods)}" + (f"; watching for {pause:g} s" if pause else "")
        )
        before = restarts(self._live_pods())
        compared = self._pause(pause, before)
        taken = Taken(share, pods, tuple(self._found(compared)), compared)
        stage.progress.taken.append(taken)
        for words in taken.found:
            stage.tell(f"canary: {words}")
        if compared and compared.bad:
            raise TooSlow(
                f"The canary, at {share} % of the traffic, is worse than the stable version: {compared.sentence()}.",
                hint="Compare the two versions' resources, libraries and model size; more samples come with a longer "
                "`pause` or a higher `rate`.",
                title="Canary is worse",
            )

    def ask(self, limit: int = _ASKED) -> Report | None:
        """Ask some of the canary's pods the golden predictions, through the API server; None when there are none."""
        stage, report = self._stage, None
        if not stage.plan.cases:
            return None
        port = before_traffic.target(stage.objects, images=stage.plan.images).port
        for pod in [one for one in self._live_pods() if newpods.is_ready(one)][:limit]:
            ask = before_traffic.asker(stage.cluster, pod, port)
            report = judge(stage.plan.cases, before_traffic.first_patiently(ask, stage.clock, stage.until))
            if report.failures:
                raise before_traffic.wrong(report, f"The canary (pod {pod['metadata']['name']})", "")
        if report is None:
            raise RolloutFailed(
                f"No pod of {self.canary} is ready to be asked.", hint=f"Look at {self.canary.name}'s pods."
            )
        return report

    def back(self) -> None:
        """All traffic to the stable version. If that one does not get ready for it soon, this is told, and goes on."""
        stage = self._stage
        until, stage.until = stage.until, stage.clock.monotonic() + _BACK
        try:
            self.traffic.back()
        except (RolloutFailed, EndpointDown) as error:
            stage.tell(f"the stable version does not have all of its pods yet: {error.message}")
        finally:
            stage.until = until
        stage.progress.share = 0

    def is_empty(self) -> bool:
        """Whether it has no pods, and is to have none."""
        canary = self._stage.cluster.get(self.canary)
        return not canary or not canary["spec"].get("replicas", 1)

    def is_promoted(self) -> bool:
        """Whether its release serves all users: what is left of such a canary has no traffic to give back."""
        live = self._stage.cluster.get(self.canary)
        number = live["metadata"]["labels"].get(REVISION) if live else None
        return number is not None and canary_records.is_promoted(self._stage.records.find(int(number)))

    def remove(self) -> None:
        """Delete it. Traffic must be away before."""
        remove(self._stage.cluster, self._stage.plan.app)

    def _pause(self, seconds: float, before: dict[str, int]) -> Comparison | None:
        stage = self._stage
        if seconds > stage.left():
            raise TimedOut(
                f"The pause of {seconds:g} s does not fit into what is left of `timeout` ({stage.left():.0f} s).",
                hint="Raise `timeout`, or shorten `pause`.",
            )
        until = stage.clock.monotonic() + seconds
        compared = self.edge.compare(stage.plan.canary.rate, seconds) if self.edge else None
        while (left := until - stage.clock.monotonic()) > 0:
            self._refuse_crashed(before)
            stage.clock.sleep(min(_LOOK, left))
        self._refuse_crashed(before)
        live = stage.cluster.get(self.canary)
        if live is None:
            raise RolloutFailed(f"{self.canary} was deleted by somebody else.")
        stage.wait_for([live])
        self._refuse_crashed(before)  # it may have been ready again by now
        return compared

    def _refuse_crashed(self, before: dict[str, int]) -> None:
        for pod in self._live_pods():
            uid, now = pod["metadata"]["uid"], restarts([pod])
            if now[uid] > before.get(uid, 0):
                raise RolloutFailed(
                    f"A container of the canary's pod {pod['metadata']['name']} crashed while it served{_exit(pod)}.",
                    hint="Its log before the crash: kubectl logs --previous. It was healthy before it had users.",
                    title="Canary crashed",
                )

    def _found(self, compared: Comparison | None) -> Sequence[str]:
        """What the analysis says, in words. Raises WrongAnswers or EndpointDown."""
        report = self.ask()
        said = [f"{report.sentence()} ({_pods(min(len(self._live_pods()), _ASKED))} asked)"] if report else []
        return [*said, *([compared.sentence()] if compared else [])]

    def _live_pods(self) -> list[Object]:
        return live_pods(self._stage.cluster, self._stage.plan.app)


def clean(stage: Stage) -> bool:
    """Bring the traffic back from whatever canary an earlier run left, and remove it; whether there was one."""
    trial = Trial.resume(stage)
    if trial:
        try:
            if trial.is_promoted():
                stage.tell("what is left of a promoted canary is removed")
                stage.progress.share = 0
            else:
                stage.tell("a canary is taken out of traffic and removed")
                trial.back()
        finally:
            trial.close()
    canary_cut.reopen(stage.cluster, stage.plan.app)  # in case somebody deleted the canary while it left
    return remove(stage.cluster, stage.plan.app) > 0 or trial is not None


def _beside(stable: Ref) -> Ref:
    return stable._replace(name=canary_objects.name_of(stable.name))


def _edge(stage: Stage, found: Sequence[Ref], service: str) -> Edge:
    live = next((one for ref in found if (one := stage.cluster.get(ref))), None)
    return Edge(
        stage.cluster, live or {"metadata": {}}, service, stage.plan.cases, clock=stage.clock, tell=stage.tell,
        open_endpoint=stage.plan.canary.open_endpoint,
    )  # fmt: skip


def restarts(pods: Sequence[Object]) -> dict[str, int]:
    """How often containers have ended, by the pod's UID; one that has ended counts before it is started again."""
    return {pod["metadata"]["uid"]: sum(map(_ends, _containers(pod))) for pod in pods}


def _containers(pod: Object) -> list[Object]:
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def _ends(container: Object) -> int:
    return int(container.get("restartCount") or 0) + ("terminated" in (container.get("state") or {}))


def _exit(pod: Object) -> str:
    for one in _containers(pod):
        ended = (one.get("state") or {}).get("terminated") or (one.get("lastState") or {}).get("terminated")
        if ended:
            return f" ({one.get('name')}: {ended.get('reason') or 'ended'}, exit code {ended.get('exitCode')})"
    return ""


def _pods(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"


def failure(error: BaseException) -> bool:
    """Whether an error speaks against the canary; a cancelled run, and one that lost its lock, only stop."""
    return not (isinstance(error, MlDeployError) and error.reason in ("cancelled", "conflict"))
