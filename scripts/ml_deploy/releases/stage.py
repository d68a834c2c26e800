"""What a strategy works with: the plan, how far things have come, and the few moves that every strategy is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ml_deploy.checks.cases import Case, Report
from ml_deploy.checks.http import Endpoint, EndpointAccess
from ml_deploy.checks.versus import Comparison
from ml_deploy.releases import snapshot, stuck_pods, wait
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Object, patient_for
from ml_deploy.releases.definitions import defined, kind_of
from ml_deploy.releases.history import Release, ref_of
from ml_deploy.releases.lease import Clock
from ml_deploy.releases.ownership import Applier
from ml_deploy.releases.pod_images import Missing
from ml_deploy.releases.records import Records


@dataclass(frozen=True, kw_only=True)
class CanaryPlan:
    """How a canary gets its users.

    steps:         its shares of the traffic in percent; after each one `pause` seconds pass before it is judged.
    traffic:       auto, replicas or gateway.
    rate:          requests a second that both versions are compared under, where the gateway can be asked.
    open_endpoint: opens an address from where we run; None where there is no way to.
    """

    steps: Sequence[int] = (10, 50, 100)
    pause: float = 0.0
    traffic: str = "auto"
    rate: float = 10.0
    open_endpoint: Callable[[EndpointAccess], Endpoint] | None = None


@dataclass(frozen=True)
class Taken:
    """A step that a canary has taken: its share in percent, its pods, and what the analysis found."""

    share: int
    pods: int
    found: tuple[str, ...] = ()
    compared: Comparison | None = None


_LEARNING = 10.0  # seconds in which a definition may not be known everywhere yet
_PAUSE = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be deployed. Times are seconds.

    rollback_timeout: None means no rollback. keep_old: None means until the next deployment.
    missing_images: asked before a rollback, see `pod_images.check_retained`.
    """

    app: str
    objects: Sequence[Object] = field(repr=False)
    strategy: str = "rolling"
    images: Sequence[str] = ()
    model_digest: str = ""
    commit: str = ""
    run_url: str = ""
    cases: Sequence[Case] = ()
    stable_for: float = 0.0
    keep_old: float | None = None
    rollback_timeout: float | None = None
    history_limit: int = 10
    adopt: bool = False
    missing_images: Missing = lambda _images: ()
    prune: bool = False
    canary: CanaryPlan = field(default_factory=CanaryPlan)


@dataclass
class Progress:
    """What has happened so far; it is what a failure, too, can report."""

    release: Release | None = None
    previous: Release | None = None
    applied: list[Object] = field(default_factory=list)
    ready: dict[str, str] = field(default_factory=dict)
    asked: Report | None = None
    changed: bool = False
    going_back_to: Release | None = None
    rolled_back_to: Release | None = None
    out_of_traffic: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()  # what was made for a release that no user got, and why it is still there
    problem: str = ""
    pruned: tuple[str, ...] = ()
    rollout_seconds: float = 0.0
    share: int = 0  # percent of the traffic that a canary of this release has
    taken: list[Taken] = field(default_factory=list)


@dataclass
class Stage:
    """One deployment under a lock that the caller holds. `until` is the deadline on the clock's monotonic time.

    objects: what is recorded and applied, as the strategy has shaped it.
    """

    cluster: Cluster
    plan: Plan
    clock: Clock
    until: float
    tell: Callable[[str], None]
    progress: Progress
    records: Records
    objects: Sequence[Object] = ()

    @property
    def release(self) -> Release:
        """The record of this deployment."""
        assert self.progress.release is not None
        return self.progress.release

    def left(self) -> float:
        """Seconds until the deadline, never less than 0."""
        return max(self.until - self.clock.monotonic(), 0.0)

    def activate(self) -> None:
        """From here on users may notice: the record becomes the current one."""
        self.progress.release = self.records.activate(self.release)
        self.progress.changed = True

    def put(self, objects: Sequence[Object]) -> list[Object]:
        """Apply objects in their order, note them with their UIDs, and return them as the server has them."""
        patient_for(self.cluster, self.left())
        applier, done = self._applier(objects), []
        for one in snapshot.in_order(objects, lambda obj: self._apply(applier, obj).object):
            done.append(one)
            self._note(one)
            if one["kind"] == "CustomResourceDefinition":
                self.wait_for([one])
        if done:
            self.progress.release = self.records.applied(self.release, done)
            stuck_pods.free(self.cluster, done, tell=self.tell)
        return done

    def put_ahead(self, objects: Sequence[Object]) -> None:
        """Apply objects that pods of the new version need and that change nothing for users; new ones are recorded."""
        applier = self._applier(objects)
        for obj in objects:
            done = self._apply(applier, obj)
            if done.live is None:
                self.progress.release = self.records.applied(self.release, [done.object])

    def wait_for(self, objects: Sequence[Object], *, stable_for: float = 0.0) -> dict[str, str]:
        """Wait until objects (as the server has them) are ready, until the deadline; a word on each."""
        patient_for(self.cluster, self.left())
        return wait.wait_ready(
            self.cluster, objects, seconds=self.left(), clock=self.clock, tell=self.tell, stable_for=stable_for
        )

    def wait_for_all(self, *, stable_for: float = 0.0) -> None:
        """Wait until everything that was put is ready, and stays so for `stable_for` seconds. It is what is reported."""
        started, applied = self.clock.monotonic(), self.progress.applied
        try:
            self.progress.ready = self.wait_for(applied, stable_for=max(stable_for, wait.settling(applied)))
        finally:
            self.progress.rollout_seconds += self.clock.monotonic() - started

    def wait_for_one(self, obj: Object, seconds: float) -> None:
        """Wait until one object is ready, for at most so many seconds."""
        wait.wait_ready(self.cluster, [obj], seconds=seconds, clock=self.clock, tell=self.tell)

    def _applier(self, objects: Sequence[Object]) -> Applier:
        live = snapshot.listed(self.cluster, objects)
        return Applier(live, self.plan.app, self.objects, tell=self.tell, left=self.left, adopt=self.plan.adopt)

    def _apply(self, applier: Applier, obj: Object) -> Applied:
        done = self._applied(applier, obj)
        for warning in done.warnings:
            self.tell(f"{obj['kind']} {obj['metadata']['name']}: the API server warns: {warning}")
        return done

    def _applied(self, applier: Applier, obj: Object) -> Applied:
        """An API server takes a moment until it goes by a definition that has just been applied."""
        until = self.clock.monotonic() + min(_LEARNING, self.left())
        while True:
            try:
                return applier.apply(obj)
            except ApiError as error:
                if kind_of(obj) not in defined(self.objects) or self.clock.monotonic() >= until:
                    raise
                if error.code not in (400, 404, 422):
                    raise
            self.clock.sleep(_PAUSE)

    def _note(self, done: Object) -> None:
        ref, applied = ref_of(done), self.progress.applied
        applied[:] = [*(one for one in applied if ref_of(one) != ref), done]
