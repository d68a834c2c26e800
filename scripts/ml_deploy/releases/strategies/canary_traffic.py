"""The canary's share of the traffic: by the number of pods behind one Service, or by the weights of HTTPRoutes."""

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Sequence
from typing import Protocol

from ml_deploy.errors import EndpointDown
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.stage import Stage
from ml_deploy.releases.strategies import canary_cut, routes, steps
from ml_deploy.releases.strategies.canary_edge import Edge
from ml_deploy.releases.strategies.canary_objects import KINDS, SHARE, pod_labels, selector
from ml_deploy.releases.strategies.routes import Edit

_TRIES = 5
_LEAVING = 15.0  # seconds in which a canary's pods must have been told to end
_LOOK = 0.1
_AWAY = 15.0  # seconds in which a gateway must have taken in that the canary goes


class Traffic(Protocol):
    """How users are led to the canary. Each method returns when it holds."""

    def pods(self, share: int) -> int:
        """How many pods the canary needs for a share in percent."""

    def open(self) -> None:
        """The canary is ready: what else is needed before a user may be led to it."""

    def give(self, share: int) -> None:
        """Lead `share` percent of the traffic to the canary, which has the pods for it."""

    def back(self) -> None:
        """Lead all traffic to the stable version: new connections first."""

    def promoted(self) -> None:
        """The stable version is the new one, and ready: nothing leads to the canary any more."""


class ByReplicas:
    """One Service leads to the pods of both: the stable version has fewer as the canary gets more."""

    def __init__(self, stage: Stage, stable: Ref, canary: Ref, total: int) -> None:
        self.total = total
        self._stage, self._stable, self._canary = stage, stable, canary

    def pods(self, share: int) -> int:
        """Of all pods."""
        return steps.by_replicas(self.total, share).canary

    def open(self) -> None:
        """Nothing: ready pods are in the Service."""

    def give(self, share: int) -> None:
        """The canary has grown before: never fewer ready pods than there were."""
        self.stable_pods(steps.by_replicas(self.total, share).stable)

    def back(self) -> None:
        """The canary leaves the Service once the stable version has half of its pods, which it has up to 50 %.

        Then the stable version gets the rest of its pods, and the canary's go.
        """
        cluster, app = self._stage.cluster, self._stage.plan.app
        stable = cluster.get(self._stable)
        if not stable:
            return
        count = int(stable["spec"].get("replicas", 1))
        if count < (half := math.ceil(self.total / 2)):
            self.stable_pods(half)
        stable, canary = cluster.get(self._stable), cluster.get(self._canary)
        if stable and canary:
            canary_cut.close(cluster, app, stable, canary, tell=self._stage.tell)
        try:
            if count < self.total:
                self.stable_pods(self.total)
        finally:
            self._empty()
            canary_cut.reopen(cluster, app)

    def promoted(self) -> None:
        """Its pods have made room for the stable version's; the last of them go with it."""

    def at_its_size(self, release: Object) -> Object:
        """The stable Deployment of a release with the pods that it has now: a rollout that also grows starts old pods.

        It may have as many pods in excess as a rollout of the full number.
        """
        changed = copy.deepcopy(release)
        spec, live = changed["spec"], self._stage.cluster.get(self._stable)
        excess = steps.excess(release, self.wanted(release))
        spec["replicas"] = int(live["spec"].get("replicas", 1)) if live else self.total
        strategy = spec.get("strategy") or {}
        if strategy.get("type", "RollingUpdate") == "RollingUpdate":
            rolling = {**(strategy.get("rollingUpdate") or {}), "maxSurge": excess}
            spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
        return changed

    def wanted(self, release: Object) -> int:
        """The full number of pods: the manifest's, or where it leaves that open, as many as there were."""
        return int(release["spec"].get("replicas", self.total))

    def grow(self, release: Object) -> None:
        """From there to the full number of pods, by as many at a time as a rollout may have in excess."""
        stage, wanted = self._stage, self.wanted(release)
        excess = steps.excess(release, wanted)
        count = int(self.at_its_size(release)["spec"]["replicas"])
        while count < wanted:
            count = min(count + excess, wanted)
            self.stable_pods(count)
            if stage.cluster.get(self._canary):
                scaled(stage.cluster, self._canary, wanted - count)
        scaled(stage.cluster, self._stable, wanted)  # ours to keep, where the manifest leaves the number open

    def stable_pods(self, count: int) -> None:
        """Scale the stable version, and wait for it."""
        self._stage.wait_for([scaled(self._stage.cluster, self._stable, count)])

    def _empty(self) -> None:
        """The canary without pods: what is about to end does not come back into a Service."""
        stage = self._stage
        if not stage.cluster.get(self._canary):
            return
        scaled(stage.cluster, self._canary, 0)
        until = stage.clock.monotonic() + _LEAVING
        while live_pods(stage.cluster, stage.plan.app) and stage.clock.monotonic() < until:
            stage.clock.sleep(_LOOK)


class ByGateway:
    """HTTPRoutes have weights for two Services; the stable version stays as large as it is."""

    def __init__(self, stage: Stage, service: str, found: Sequence[Ref], total: int, edge: Edge) -> None:
        self._stage, self._service, self._routes, self._total, self._edge = stage, service, found, total, edge

    def pods(self, share: int) -> int:
        """Beside all of the stable version's."""
        return steps.beside(self._total, share)

    def open(self) -> None:
        """A gateway may not know a ready backend yet: it is asked, by a header that no user sends."""
        self._edit(0)

    def give(self, share: int) -> None:
        """New weights, in effect at the edge."""
        self._edit(share)

    def back(self) -> None:
        """No weight for the canary, not even for who asks for it; then the routes as they were."""
        if any(routes.is_edited(route) for route in self._live()):
            try:
                self._edit(0, away=True)
            except EndpointDown as error:  # the weights are gone, but nobody has seen the gateway heed it
                self._stage.tell(error.message)
            restore_routes(self._stage.cluster, self._live())

    def promoted(self) -> None:
        """As an abort: weights first."""
        self.back()

    def _edit(self, share: int, *, away: bool = False) -> None:
        word = f"{share}-{secrets.token_hex(4)}"
        edit = Edit(self._stage.plan.app, self._service, share, word, self._edge.request, away)
        for route in self._live():
            _patched(self._stage.cluster, route, edit)
        self._edge.wait(word, canary=not away, seconds=min(self._stage.left(), _AWAY) if away else self._stage.left())

    def _live(self) -> list[Object]:
        cluster = self._stage.cluster
        return [live for ref in self._routes if (live := cluster.get(ref))]


def live_pods(cluster: Cluster, app: str) -> list[Object]:
    """The canary's pods, without those that are about to end."""
    chosen = ",".join(f"{name}={value}" for name, value in pod_labels(app).items())
    found = cluster.list("v1", "Pod", cluster.namespace, selector=chosen)
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def scaled(cluster: Cluster, ref: Ref, count: int) -> Object:
    """A Deployment with another number of pods, as the server has it now."""
    return cluster.patch(ref, {"spec": {"replicas": count}}).object


def noted(cluster: Cluster, canary: Ref, share: int) -> None:
    """Write the canary's share down on its Deployment, for people and for later jobs."""
    cluster.patch(canary, {"metadata": {"annotations": {SHARE: str(share)}}})


def restore_routes(cluster: Cluster, live: Sequence[Object]) -> None:
    """Take our edits out of routes."""
    for route in live:
        _patched(cluster, route, None)


def remove(cluster: Cluster, app: str) -> int:
    """Delete all that an app's canary consists of; the number of objects. Traffic must be away before."""
    count = 0
    for api_version, kind in KINDS:
        for one in cluster.list(api_version, kind, cluster.namespace, selector=selector(app)):
            meta = one["metadata"]
            count += cluster.delete(Ref(api_version, kind, meta["namespace"], meta["name"]), uid=meta["uid"])
    return count


def _patched(cluster: Cluster, route: Object, edit: Edit | None) -> None:
    """Edit a route, or undo all edits; reads it again when somebody else changed it meanwhile."""
    ref = Ref(route["apiVersion"], route["kind"], route["metadata"]["namespace"], route["metadata"]["name"])
    for attempt in range(_TRIES):
        live: Object | None = route if attempt == 0 else cluster.get(ref)
        patch = (routes.edited(live, edit) if edit else routes.undone(live)) if live else None
        if patch is None:
            return
        try:
            cluster.patch(ref, patch)
            return
        except ApiError as error:
            if error.code != 409 or attempt == _TRIES - 1:
                raise
