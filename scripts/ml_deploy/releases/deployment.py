"""One deployment, step by step: record, cases before traffic, apply, wait, verdict; and the way back when told to.

The order of the steps is what makes a run that is killed at any moment harmless: until `activate`
nothing that users notice has changed, after it the record says what was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ml_deploy.checks.cases import Case, Report
from ml_deploy.errors import ManifestError, MlDeployError, NoRelease
from ml_deploy.releases import adoption, before_traffic, records, rehearsal, restore, snapshot, wait
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Object
from ml_deploy.releases.lease import Clock
from ml_deploy.releases.ownership import Applier
from ml_deploy.releases.records import Records, Release

BY = "deploy-aks"
_LAST_WORDS = 15.0  # seconds of patience for noting a failure


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be deployed. Times are seconds; `rollback_timeout` None means: no rollback."""

    app: str
    objects: Sequence[Object] = field(repr=False)
    images: Sequence[str] = ()
    model_digest: str = ""
    commit: str = ""
    run_url: str = ""
    cases: Sequence[Case] = ()
    stable_for: float = 0.0
    rollback_timeout: float | None = None
    history_limit: int = 10
    adopt: bool = False


@dataclass
class Progress:
    """What has happened so far; it is what a failure, too, can report."""

    release: Release | None = None
    previous: Release | None = None
    applied: list[Object] = field(default_factory=list)
    ready: dict[str, str] = field(default_factory=dict)
    asked: Report | None = None
    changed: bool = False
    rolled_back_to: Release | None = None
    out_of_traffic: tuple[str, ...] = ()
    problem: str = ""
    rollout_seconds: float = 0.0


class Deployment:
    """Carries out a plan under a lock that the caller holds. `until` is the deadline on the clock's monotonic time."""

    def __init__(
        self, cluster: Cluster, plan: Plan, *, clock: Clock, until: float, tell: Callable[[str], None],
        guard: Callable[[], None],
    ) -> None:  # fmt: skip
        self._cluster, self._plan, self._clock, self._until = cluster, plan, clock, until
        self._tell, self._guard = tell, guard
        self._records = Records(cluster, cluster.namespace, plan.app, clock=clock, guard=guard)
        self.progress = Progress()

    def run(self) -> Progress:
        """All steps. Raises what stopped it; `progress` then tells how far it came, and whether it was rolled back."""
        release = self._begin()
        try:
            self._ask(release)
            release = self._switch(release)
            self._cluster.patience = self._left()
            self._wait()
        except ApiError as error:
            raise self._fail(_refused(error)) from error
        except MlDeployError as error:
            if error.reason == "cancelled" or (error.reason == "conflict" and not self.progress.applied):
                raise
            raise self._fail(error) from error
        return self._succeed(release)

    def _begin(self) -> Release:
        plan, progress = self._plan, self.progress
        adopted = adoption.first_meeting(snapshot.listed(self._cluster, plan.objects), self._records, plan.objects)
        if adopted:
            self._tell(f"what is live now is kept as revision {adopted.revision}: it can be restored")
        progress.previous = adopted or self._records.current()
        progress.release = self._records.begin(
            plan.objects, strategy="rolling", images=plan.images, model_digest=plan.model_digest,
            commit=plan.commit, run_url=plan.run_url,
        )  # fmt: skip
        self._tell(f"revision {progress.release.revision} of {plan.app} is recorded in Secret {progress.release.name}")
        return progress.release

    def _ask(self, release: Release) -> None:
        plan = self._plan
        if not plan.cases:
            return
        target = before_traffic.target(plan.objects, images=plan.images)
        applier = self._applier()
        for obj in rehearsal.needed_ahead(self._cluster, plan.objects):
            self._apply(applier, obj)
        with rehearsal.configured(
            self._cluster, target.workload, plan.objects, app=plan.app, revision=release.revision, guard=self._guard
        ) as workload:
            self.progress.asked = before_traffic.ask_before_traffic(
                self._cluster, replace(target, workload=workload), plan.cases, app=plan.app, revision=release.revision,
                wait=self._wait_for_one, clock=self._clock, seconds=self._left(), tell=self._tell, guard=self._guard,
            )  # fmt: skip

    def _switch(self, release: Release) -> Release:
        """From here on users may notice."""
        plan, progress = self._plan, self.progress
        release = progress.release = self._records.activate(release)
        progress.changed = True
        applier = self._applier()
        for done in snapshot.in_order(plan.objects, lambda obj: self._apply(applier, obj)):
            progress.applied.append(done)
            if done["kind"] == "CustomResourceDefinition":
                wait.wait_ready(self._cluster, [done], seconds=self._left(), clock=self._clock, tell=self._tell)
        progress.release = self._records.applied(release, progress.applied)
        return progress.release

    def _applier(self) -> Applier:
        plan = self._plan
        live = snapshot.listed(self._cluster, plan.objects)
        return Applier(live, plan.app, plan.objects, tell=self._tell, guard=self._guard, adopt=plan.adopt)

    def _apply(self, applier: Applier, obj: Object) -> Object:
        done: Applied = applier.apply(obj)
        for warning in done.warnings:
            self._tell(f"{obj['kind']} {obj['metadata']['name']}: the API server warns: {warning}")
        return done.object

    def _wait(self) -> None:
        started = self._clock.monotonic()
        try:
            self.progress.ready = wait.wait_ready(
                self._cluster, self.progress.applied, seconds=self._left(), clock=self._clock, tell=self._tell,
                stable_for=self._plan.stable_for,
            )  # fmt: skip
        finally:
            self.progress.rollout_seconds = self._clock.monotonic() - started

    def _succeed(self, release: Release) -> Progress:
        """`deployed`; `good` where predictions were asked, or where it stayed healthy for as long as was wanted."""
        asked, stable = self.progress.asked, self._plan.stable_for
        if asked:
            verdict = self._records.verdict(BY, True, asked.sentence())
        elif stable:
            verdict = self._records.verdict(BY, True, f"healthy for {stable:g} s after the rollout")
        else:
            verdict = None
        state = records.JUDGED_GOOD if verdict else records.DEPLOYED
        self.progress.release = self._records.mark(release, state, verdict)
        self._records.trim(self._plan.history_limit)
        return self.progress

    def _fail(self, error: MlDeployError) -> MlDeployError:
        """Note the failure, and bring the last good release back when told to and needed; the first cause stays on top."""
        progress = self.progress
        assert progress.release is not None
        self._tell(f"revision {progress.release.revision} failed: {error.message}")
        self._cluster.patience = self._plan.rollback_timeout or _LAST_WORDS
        try:
            verdict = self._records.verdict(BY, False, error.message)
            progress.release = self._records.mark(progress.release, records.FAILED, verdict)
            if progress.changed and self._plan.rollback_timeout is not None:
                self._roll_back(progress.release, self._plan.rollback_timeout, error.message)
        except MlDeployError as second:
            if second.reason == "cancelled":
                raise
            progress.problem = f"{second.message} {second.hint}".strip()
        except ApiError as second:
            progress.problem = second.message
        return error

    def _roll_back(self, failed: Release, seconds: float, why: str) -> None:
        progress = self.progress
        try:
            target = restore.choose(self._records.all(), failed)
        except NoRelease:
            closed = restore.take_out_of_traffic(
                self._cluster, self._records, failed, tell=self._tell, guard=self._guard
            )
            progress.out_of_traffic = tuple(closed)
            return
        judged = "was judged good" if target.good else "served"
        self._tell(f"rolling back to revision {target.revision}, the newest before it that {judged}")

        def ready(objects: Sequence[Object]) -> None:
            wait.wait_ready(self._cluster, objects, seconds=seconds, clock=self._clock, tell=self._tell)

        done = restore.restore(
            self._cluster, self._records, target, failed, wait=ready, tell=self._tell, why=why, guard=self._guard
        )
        progress.rolled_back_to = done.release

    def _wait_for_one(self, obj: Object, seconds: float) -> None:
        wait.wait_ready(self._cluster, [obj], seconds=seconds, clock=self._clock, tell=self._tell)

    def _left(self) -> float:
        return max(self._until - self._clock.monotonic(), 0.0)


def _refused(error: ApiError) -> ManifestError:
    return ManifestError(
        f"The cluster refused an object that it had accepted in the dry run: {error.message}",
        hint="Something in the cluster changed meanwhile (a quota, a policy, another deployment): run this again.",
    )


def serving(progress: Progress) -> str:
    """One sentence on what users reach now."""
    release, previous = progress.release, progress.previous
    if progress.rolled_back_to:
        return f"Revision {progress.rolled_back_to.revision} serves again."
    if progress.out_of_traffic:
        services = ", ".join(progress.out_of_traffic)
        return (
            f"It was the first release, so there is nothing to go back to: taken out of traffic (Service {services})."
        )
    if not progress.changed:
        return (
            f"Revision {previous.revision} serves as before."
            if previous
            else "Nothing was deployed before; nothing is now."
        )
    number = release.revision if release else "?"
    return (
        f"Revision {number} is in place as far as it came; pods of the version before serve until new ones are ready."
    )
