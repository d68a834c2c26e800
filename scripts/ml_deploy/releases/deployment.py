"""One deployment, step by step: record, asked before traffic, into traffic, verdict; and the way back when told to.

This is what all strategies share. The order of the steps is what makes a run that is killed at any moment harmless:
until the release is activated nothing that users notice has changed, after it the record says what was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ml_deploy.errors import ManifestError, MlDeployError, NoRelease
from ml_deploy.releases import adoption, ahead, pod_images, prune, restore, snapshot, strategies, wait
from ml_deploy.releases.cluster import ApiError, Cluster, Object, patient_for
from ml_deploy.releases.history import DEPLOYED, FAILED, JUDGED_GOOD, WAITING, Release, Verdict, current_of, ref_of
from ml_deploy.releases.lease import Clock, LockLost
from ml_deploy.releases.records import Records
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.stage import Plan, Progress, Stage
from ml_deploy.releases.strategies import Ending, canary_records, canary_trial

#: `Plan` and `Progress` are named here, too, for those who deploy.
__all__ = ["BY", "Deployment", "Plan", "Progress", "serving"]

BY = "deploy-aks"


class Deployment:
    """Carries out a plan under a lock that the caller holds. `until` is the deadline on the clock's monotonic time."""

    def __init__(
        self, cluster: Cluster, plan: Plan, *, clock: Clock, until: float, tell: Callable[[str], None]
    ) -> None:
        self.progress = Progress()
        self._cluster, self._plan, self._clock, self._tell = cluster, plan, clock, tell
        self._strategy = strategies.named(plan.strategy)
        self._records = Records(cluster, cluster.namespace, plan.app, clock=clock)
        self._before: Sequence[Release] = ()
        self._stage = Stage(cluster, plan, clock, until, tell, self.progress, self._records)

    def run(self) -> Progress:
        """All steps. Raises what stopped it; `progress` then tells how far it came, and whether it was rolled back."""
        self._begin()
        return self._carry_out()

    def finish(self, waiting: Release) -> Progress:
        """The rest of a release that another run recorded and left waiting, by a strategy that knows what is left."""
        others = [one for one in self._records.all() if one.revision != waiting.revision]
        self._before = prune.before(others)
        self.progress.previous = current_of(others)
        self.progress.release = self._records.load(waiting)
        self.progress.changed = bool(waiting.activated)  # by a promotion that was killed
        self._stage.objects = self.progress.release.objects
        return self._carry_out()

    def _carry_out(self) -> Progress:
        try:
            self.progress.asked = self._strategy.before_traffic(self._stage)
            ending = self._strategy.into_traffic(self._stage)
        except ApiError as error:
            raise self._fail(_refused(error)) from error
        except MlDeployError as error:
            if error.reason == "cancelled":
                raise
            raise self._fail(error) from error
        if ending is Ending.WAITING:
            self.progress.release = self._records.mark(self._stage.release, WAITING, self._verdict())
            return self.progress
        return self._succeed(self._stage.release)

    def _begin(self) -> None:
        """What is live at the first meeting is kept; then the record of what will be applied is written."""
        plan, progress = self._plan, self.progress
        canary_records.refuse_waiting(history := self._records.all())
        if canary_records.any_of(history):
            canary_trial.clean(self._stage)
        self._stage.objects = objects = self._shaped()
        met = _each_once([*plan.objects, *objects], self._cluster.namespace)
        adopted = adoption.first_meeting(snapshot.listed(self._cluster, met), self._records, met)
        if adopted:
            self._tell(f"what is live now is kept as revision {adopted.revision}: it can be restored")
        history = self._records.all()
        self._before = prune.before(history)
        progress.previous = adopted or current_of(history)
        progress.release = self._records.begin(
            objects, strategy=plan.strategy, images=plan.images, model_digest=plan.model_digest,
            commit=plan.commit, run_url=plan.run_url,
        )  # fmt: skip
        self._tell(f"revision {progress.release.revision} of {plan.app} is recorded in Secret {progress.release.name}")

    def _shaped(self) -> list[Object]:
        plan = self._plan
        manifests = [Manifest(obj) for obj in plan.objects]
        shaped = self._strategy.shape(self._cluster, manifests, app=plan.app, images=plan.images)
        return [one.object for one in shaped]

    def _succeed(self, release: Release) -> Progress:
        """`deployed`; `good` where predictions were asked, or where it stayed healthy for as long as was wanted."""
        verdict, stable = self._verdict(), self._plan.stable_for
        if not verdict and stable:
            verdict = self._records.verdict(BY, True, f"healthy for {stable:g} s after the rollout")
        state = JUDGED_GOOD if verdict or release.good else DEPLOYED
        self._tidily(self._prune)  # before the record says that all is done: a run that is killed here does it again
        self.progress.release = self._records.mark(release, state, verdict)
        self._tidily(lambda: self._strategy.afterwards(self._stage))
        self._records.trim(self._plan.history_limit)
        return self.progress

    def _verdict(self) -> Verdict | None:
        """What golden predictions said, where they were asked."""
        asked = self.progress.asked
        return self._records.verdict(BY, True, asked.sentence()) if asked else None

    def _prune(self) -> None:
        if self._plan.prune:
            pruning = prune.planned(self._cluster, self._records, self._before, self._stage.objects)
            self.progress.pruned = prune.carry_out(self._cluster, pruning, tell=self._tell)

    def _tidily(self, work: Callable[[], None]) -> None:
        """The release serves: what cannot be tidied is told, and left to the next deployment."""
        try:
            work()
        except (ApiError, MlDeployError) as error:
            if isinstance(error, MlDeployError) and error.reason in ("cancelled", "conflict"):
                raise
            self._tell(f"the release serves, but what is left over could not be removed: {error.message}")

    def _fail(self, error: MlDeployError) -> MlDeployError:
        """Note the failure, and bring the last good release back when told to and needed; the first cause stays on top."""
        progress, started = self.progress, self._clock.monotonic()
        assert progress.release is not None
        self._tell(f"revision {progress.release.revision} failed: {error.message}")
        patient_for(self._cluster, self._plan.rollback_timeout or 0)
        try:
            verdict = self._records.verdict(BY, False, error.message)
            progress.release = self._records.mark(progress.release, FAILED, verdict)
            if self._plan.rollback_timeout is not None:
                self._undo(progress.release, started + self._plan.rollback_timeout, error.message)
            elif not progress.changed:
                self._tell_what_stays(ahead.kept(self._cluster, progress.release, "`on-failure: keep`"))
        except MlDeployError as second:
            if second.reason == "cancelled":
                raise
            if not (isinstance(error, LockLost) and isinstance(second, LockLost)):  # that is told once
                progress.problem = f"{second.message} {second.hint}".strip()
        except ApiError as second:
            progress.problem = second.message
        return error

    def _undo(self, failed: Release, until: float, why: str) -> None:
        if self.progress.changed:
            self._roll_back(failed, until, why)
            if canary_records.any_of([failed]):  # what it restored serves; the canary of the failed one goes last
                canary_trial.clean(self._stage)
        else:
            self._strategy.withdraw(self._stage)
            self._tell_what_stays(ahead.take_back(self._cluster, failed, clock=self._clock, tell=self._tell))

    def _tell_what_stays(self, words: tuple[str, ...]) -> None:
        self.progress.stays = words
        for one in words:
            self._tell(one)

    def _roll_back(self, failed: Release, until: float, why: str) -> None:
        progress = self.progress
        history = self._records.all()
        try:
            target = restore.choose(history, failed)
        except NoRelease:
            closed = restore.take_out_of_traffic(self._cluster, self._records, failed, tell=self._tell)
            progress.out_of_traffic = tuple(closed)
            return
        target = self._records.load(target)
        pod_images.check_retained(self._cluster, target, history, self._plan.missing_images)
        judged = "was judged good" if target.good else "served"
        self._tell(f"rolling back to revision {target.revision}, the newest before it that {judged}")
        progress.going_back_to = target
        done = restore.restore(
            self._cluster, self._records, target, failed, tell=self._tell, why=why, adopt=self._plan.adopt,
            wait=wait.Until(self._cluster, until, clock=self._clock, tell=self._tell),
        )  # fmt: skip
        progress.rolled_back_to = done.release


def _each_once(objects: Sequence[Object], namespace: str) -> list[Object]:
    return list({ref_of(obj, namespace): obj for obj in objects}.values())


def _refused(error: ApiError) -> ManifestError:
    return ManifestError(
        f"The cluster refused an object that it had accepted in the dry run: {error.message}",
        hint="Something in the cluster changed meanwhile (a quota, a policy, another deployment): run this again.",
    )


def _is_first(progress: Progress) -> bool:
    """Whether no other release was ever begun: the number of one that was is never given again."""
    return progress.previous is None and progress.release is not None and progress.release.revision == 1


def serving(progress: Progress) -> str:
    """One sentence on what users reach now."""
    release, previous = progress.release, progress.previous
    if progress.rolled_back_to:
        return f"Revision {progress.rolled_back_to.revision} serves again."
    if progress.out_of_traffic:
        services = ", ".join(progress.out_of_traffic)
        why = "It was the first release" if _is_first(progress) else "No release before it is known to be good"
        return f"{why}, so there is nothing to go back to: taken out of traffic (Service {services})."
    if progress.going_back_to:
        return f"The way back to revision {progress.going_back_to.revision} is not finished: run `rollback`."
    if progress.share:
        return (
            f"Its canary still has {progress.share} % of the traffic; `rollback`, `action: reject` or the next deployment "
            "takes it away."
        )
    if not progress.changed:
        if not previous:
            return "Nothing was deployed before; nothing is now."
        failed = ", which failed, is still the current one" if previous.state == FAILED else " serves as before"
        return f"Revision {previous.revision}{failed}."
    number = release.revision if release else "?"
    if release and release.strategy == "blue-green":
        return f"Services lead to revision {number} now, as far as it came; the version before stands beside it."
    others = "pods of the version before serve until new ones are ready" if previous else "there was none before it"
    return f"Revision {number} is in place as far as it came; {others}."
