"""Blue-green: a complete second set of pods beside the live one, asked before the Services are switched to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import cycle

from ml_deploy.checks import http
from ml_deploy.checks.cases import Report, judge
from ml_deploy.errors import Conflict, Forbidden, ManifestError, RolloutFailed
from ml_deploy.releases import before_traffic, colours, leftovers, newpods
from ml_deploy.releases.before_traffic import Target
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.colouring import coloured
from ml_deploy.releases.colours import COLOUR, Colouring
from ml_deploy.releases.history import DEPLOYED, FAILED, ROLLED_BACK, Release, ref_of
from ml_deploy.releases.ownership import autoscaled
from ml_deploy.releases.rbac import Right
from ml_deploy.releases.sources.manifests import Manifest, rank
from ml_deploy.releases.stage import Stage
from ml_deploy.releases.strategies import Ending, Strategy

_SLOWEST_LEAVING = 30.0  # seconds that pods of a deleted Deployment may take until they are on their way out
_SWITCHED = ("Service", "HorizontalPodAutoscaler", "ScaledObject", "VerticalPodAutoscaler")


class BlueGreen:
    """One run of it. The colour is chosen when the release is shaped; `_was` is what served until the switch."""

    def __init__(self) -> None:
        self._by = Colouring("", (), ())
        self._was: list[Object] = []
        self._begun = False

    def shape(
        self, cluster: Cluster, manifests: Sequence[Manifest], *, app: str, images: Sequence[str]
    ) -> list[Manifest]:
        """In the colour that no user reaches. Raises ManifestError for what cannot be deployed this way."""
        objects = [one.object for one in manifests]
        ours = colours.chosen(objects, images)
        live = _Live(cluster, objects, ours)
        keys = colours.keys(ours, [*objects, *live.services])
        free = colours.free(ours, live.services, live.deployments)
        self._by = Colouring(free, ours, keys, _live_numbers(objects, ours, live))
        _refuse_strangers(colours.strangers(self._by, objects, live.all))
        return coloured(manifests, self._by)

    def rights(self, cluster: Cluster, objects: Sequence[Object]) -> list[Right]:
        """To see what is live, and to remove a colour."""
        here = cluster.namespace
        needed = [Right("list", "", "services", here), Right("list", "apps", "deployments", here)]
        for api_version, kind in leftovers.KINDS:
            known = cluster.kind(api_version, kind)
            if known and any(
                obj["kind"] == kind and COLOUR in (obj["metadata"].get("labels") or {}) for obj in objects
            ):
                needed.append(Right("delete", api_version.rpartition("/")[0], known.plural, here))
        return needed

    def before_traffic(self, stage: Stage) -> Report | None:
        """Start the new colour beside the live one, outside all traffic; ready, its pods are asked `cases`."""
        plan = stage.plan
        target = before_traffic.target(stage.objects, images=plan.images) if plan.cases else None
        self._settle(stage)
        self._begun = True
        self._make_room(stage)
        ahead = [obj for obj in stage.objects if self._goes_ahead(stage.cluster, obj)]
        stage.tell(f"blue-green: starting {self._by.colour} beside what is live")
        put = stage.put(ahead)
        deployments = [obj for obj in put if obj["kind"] == "Deployment"]
        started = stage.clock.monotonic()
        stage.wait_for(deployments)
        stage.progress.rollout_seconds += stage.clock.monotonic() - started
        return self._ask(stage, deployments, target) if target else None

    def into_traffic(self, stage: Stage) -> Ending:
        """Each Service in one patch, then the autoscalers, then what is left; and a look at it for as long as wanted."""
        plan = stage.plan
        self._was = self._serving(stage)
        stage.activate()
        switched = sorted(
            (o for o in stage.objects if o["kind"] in _SWITCHED), key=lambda o: _SWITCHED.index(o["kind"])
        )
        stage.put(switched)
        names = ", ".join(o["metadata"]["name"] for o in colours.services_of(switched))
        stage.tell(f"blue-green: Service {names} leads to {self._by.colour} now")
        since = stage.clock.monotonic()
        stage.put([obj for obj in stage.objects if obj["kind"] not in _SWITCHED and not _is_put(stage, obj)])
        stage.wait_for_all(stable_for=plan.stable_for)
        left = (plan.keep_old or 0.0) - (stage.clock.monotonic() - since)
        if left > 0:
            stage.progress.release = stage.records.mark(stage.release, DEPLOYED)
            stage.tell(f"the old colour is kept for {plan.keep_old:g} s from the switch")
            stage.wait_for_all(stable_for=round(left, 1))
        return Ending.DONE

    def afterwards(self, stage: Stage) -> None:
        """The old colour goes when `keep_old` has passed, or stays as the way back; what is older goes in any case."""
        cluster, app, history = stage.cluster, stage.plan.app, stage.records.all()
        stays = {self._by.colour}
        if stage.plan.keep_old is None:  # where nothing served, nobody knows which of the others is the way back
            back = _way_back(self._was, history)
            stays |= {_colour(one) for one in back} or {*colours.COLOURS, ""}
            for one in back:
                stage.tell(f"{ref_of(one)} stays as the way back until the next deployment")
        found = leftovers.of_colours(cluster, app)
        old = [obj for obj in found if _colour(obj) not in stays]
        if "" not in stays:
            recorded = {uid for release in history for uid in release.uids.values()}
            mine = [obj for obj in found if _colour(obj) == self._by.colour]
            old += leftovers.plain(cluster, app, mine, recorded)
        leftovers.remove(cluster, old, tell=stage.tell)

    def withdraw(self, stage: Stage) -> None:
        """The new colour goes: no user has reached it. Policies that were changed for it are what they were."""
        if not self._begun:
            return
        found = leftovers.of_colours(stage.cluster, stage.plan.app, colour=self._by.colour)
        leftovers.remove(stage.cluster, found, tell=stage.tell)
        before = stage.records.load(stage.progress.previous).objects if stage.progress.previous else ()
        changed = [one for one in before if one["kind"] == "NetworkPolicy" and _is_put(stage, one)]
        stage.put_ahead(changed)

    def _settle(self, stage: Stage) -> None:
        """Services or autoscalers that a killed run left at the chosen colour go back to what serves beside it."""
        live = _Live(stage.cluster, stage.objects, self._by.deployments)
        taken = [one for one in live.deployments if _colour(one) == self._by.colour and colours.base_of(one)]
        names = {one["metadata"]["name"] for one in taken}
        stray = [s for s in live.services if colours.led_to(s, taken)] + [
            a for a in live.autoscalers if colours.scaled(a) in names and any(colours.same(a, o) for o in stage.objects)
        ]
        if not stray:
            return
        owner = _owner(stage, [one for one in self._serving(stage) if one["metadata"]["name"] not in names])
        stage.tell(f"an interrupted deployment is undone first: {', '.join(str(ref_of(one)) for one in stray)}")
        stage.put_ahead([obj for obj in owner if any(colours.same(obj, one) for one in stray)])

    def _serving(self, stage: Stage) -> list[Object]:
        """The live Deployments that the live Services of this release lead to."""
        live = _Live(stage.cluster, stage.objects, self._by.deployments)
        return [d for d in live.deployments if any(colours.led_to(s, [d]) for s in live.services)]

    def _make_room(self, stage: Stage) -> None:
        """What an older release left in the chosen colour goes, pods first."""
        old = leftovers.of_colours(stage.cluster, stage.plan.app, colour=self._by.colour)
        if old:
            gone = leftovers.remove(stage.cluster, old, tell=stage.tell)
            deployments = [one for one in gone if one["kind"] == "Deployment"]
            seconds = min(stage.left(), _SLOWEST_LEAVING)
            if not leftovers.wait_until_leaving(stage.cluster, deployments, clock=stage.clock, seconds=seconds):
                raise Conflict(
                    f"Pods of an older {self._by.colour} do not go, though their Deployment is deleted.",
                    hint="Look at them (kubectl get pods --show-labels): does something else own them?",
                )

    def _goes_ahead(self, cluster: Cluster, obj: Object) -> bool:
        """What the new pods need: all of their colour, policies that speak of it, and what is not there yet."""
        if obj["kind"] in _SWITCHED or (
            obj["kind"] in colours.PODS and COLOUR not in (obj["metadata"].get("labels") or {})
        ):
            return False
        if colours.base_of(obj) or obj["kind"] == "NetworkPolicy":
            return True
        return rank(obj["kind"]) < rank("Service") and cluster.get(ref_of(obj, cluster.namespace)) is None

    def _ask(self, stage: Stage, deployments: Sequence[Object], target: Target) -> Report:
        plan = stage.plan
        live = next(one for one in deployments if colours.same(one, target.workload))
        pods = newpods.ready(stage.cluster, live, clock=stage.clock, seconds=stage.left())
        if not pods:
            raise RolloutFailed(
                f"{ref_of(live)}: none of its pods stays ready long enough to be asked.",
                hint="Look at its pods (kubectl describe pod) and their readiness probe.",
            )
        asks = [self._patient(stage, pod, target.port) for pod in pods]
        report = judge(plan.cases, _in_turn(asks))
        if report.failures:
            serving = "No user has reached it: the old version serves as before."
            raise before_traffic.wrong(report, f"The new version of {plan.app}", serving)
        stage.tell(f"before traffic: {report.sentence()}")
        return report

    def _patient(self, stage: Stage, pod: Object, port: int) -> http.Ask:
        ask = before_traffic.asker(stage.cluster, pod, port)
        return before_traffic.first_patiently(ask, stage.clock, stage.until)


class _Live:
    """What is live where the coloured Deployments are. services: those of the release; all: whoever's they are."""

    def __init__(self, cluster: Cluster, objects: Sequence[Object], ours: Sequence[Object]) -> None:
        places = dict.fromkeys(ref_of(one, cluster.namespace).namespace for one in ours)

        def listed(api_version: str, kind: str, *, must: bool = True) -> list[Object]:
            read = cluster.list if must else partial(_if_allowed, cluster)
            return [one for place in places for one in read(api_version, kind, place)]

        everything = listed("v1", "Service")
        self.deployments = listed("apps/v1", "Deployment")
        self.services = [one for one in everything if any(colours.same(one, obj) for obj in objects)]
        self.autoscalers = listed("autoscaling/v2", "HorizontalPodAutoscaler", must=False)
        if any(obj["kind"] == "ScaledObject" for obj in objects):
            self.autoscalers += listed("keda.sh/v1alpha1", "ScaledObject", must=False)
        self.all = [*everything, *self.autoscalers, *listed("networking.k8s.io/v1", "NetworkPolicy", must=False)]


def _if_allowed(cluster: Cluster, api_version: str, kind: str, namespace: str) -> list[Object]:
    try:
        return cluster.list(api_version, kind, namespace)
    except ApiError as error:
        if error.code in (403, 404):
            return []
        raise
    except Forbidden:
        return []


def _live_numbers(objects: Sequence[Object], ours: Sequence[Object], live: _Live) -> dict[str, int]:
    """Pods of each Deployment by the live one's number, where an autoscaler rules it or the manifest names none."""
    ruled, found = autoscaled(objects, ()), {}
    for one in ours:
        name = one["metadata"]["name"]
        if ("Deployment", name) not in ruled and "replicas" in one["spec"]:
            continue
        versions = [d for d in live.deployments if colours.same(d, one) or colours.base_of(d) == name]
        serving = [d for d in versions if any(colours.led_to(s, [d]) for s in live.services)]
        numbers = [int(d["spec"].get("replicas", 1)) for d in serving] + [int(one["spec"].get("replicas") or 1)]
        found[name] = max(numbers)
    return found


def _refuse_strangers(found: Sequence[Object]) -> None:
    if not found:
        return
    names = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in found)
    raise ManifestError(
        f"{names}: goes by the pods of this release, but is not part of it. With blue-green these pods get other labels "
        "and names, and it would be left behind.",
        hint="Add it to the release, remove it, or deploy with `strategy: rolling`.",
        title="Not for blue-green",
    )


def _owner(stage: Stage, serving: Sequence[Object]) -> Sequence[Object]:
    """The objects of the release that made what serves."""
    uids = {one["metadata"]["uid"] for one in serving}
    for release in stage.records.all():
        if uids & set(release.uids.values()):
            return stage.records.load(release).objects
    raise Conflict(
        "Services of this release lead to both colours, and no record tells which of the two is right.",
        hint="Give them one selector (kubectl edit service), that of the version that is to serve, and run this again.",
    )


def _way_back(was: Sequence[Object], history: Sequence[Release]) -> Sequence[Object]:
    """Of what served until the switch, what is not of a failed release: a run that was killed may have left both."""
    failed = {uid for release in history if release.state in (FAILED, ROLLED_BACK) for uid in release.uids.values()}
    fine = {uid for release in history if release.state not in (FAILED, ROLLED_BACK) for uid in release.uids.values()}
    return [one for one in was if one["metadata"]["uid"] not in failed - fine] or was


def _colour(obj: Object) -> str:
    return str((obj["metadata"].get("labels") or {}).get(COLOUR) or "")


def _is_put(stage: Stage, obj: Object) -> bool:
    return any(colours.same(obj, one) for one in stage.progress.applied)


def _in_turn(asks: Sequence[http.Ask]) -> http.Ask:
    """Each request to the next pod."""
    turn = cycle(asks)
    return lambda request: next(turn)(request)


def strategy() -> Strategy:
    """See `strategies.named`."""
    return BlueGreen()
