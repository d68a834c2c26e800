"""canary: the new version gets a growing share of the users, is judged after each step, and replaces the stable one.

The stable Deployment keeps its name; the canary is `<name>-canary` beside it. The step of 100 % is the promotion: the
stable Deployment is rolled to the new template while the canary keeps its share, and the canary goes when it is ready,
so that afterwards the cluster looks as after a rolling release. Until the promotion begins nothing of the release is
applied, and an abort only has to bring the traffic back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ml_deploy.checks.cases import Report
from ml_deploy.errors import MlDeployError
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.rbac import Right
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.stage import Stage
from ml_deploy.releases.strategies import Ending, canary_setup, routes, steps
from ml_deploy.releases.strategies.canary_setup import REPLICAS, Direct, Setup
from ml_deploy.releases.strategies.canary_traffic import ByReplicas
from ml_deploy.releases.strategies.canary_trial import Trial, failure
from ml_deploy.releases.strategies.rolling import Rolling

_BACK = 60.0  # seconds of patience for an abort where no rollback's deadline is given


class Canary:
    """The state of one run: the trial, unless there is nothing to compare with."""

    def __init__(self) -> None:
        self._setup: Setup | None = None
        self._trial: Trial | None = None
        self._rolling = Rolling()

    def shape(
        self, cluster: Cluster, manifests: Sequence[Manifest], *, app: str, images: Sequence[str]
    ) -> list[Manifest]:
        """As they are: the canary itself is no part of the release."""
        return self._rolling.shape(cluster, manifests, app=app, images=images)

    def rights(self, cluster: Cluster, objects: Sequence[Object]) -> list[Right]:
        """What is needed beyond depends on how traffic comes: see `canary_setup.rights`."""
        return self._rolling.rights(cluster, objects)

    def before_traffic(self, stage: Stage) -> Report | None:
        """On a gateway canary pods that nobody reaches are asked; else one pod of its own, as with `rolling`."""
        plan, how = stage.plan, stage.plan.canary
        found = canary_setup.survey(
            stage.cluster, stage.objects, app=plan.app, images=plan.images, traffic=how.traffic, shares=how.steps,
            adopt=plan.adopt,
        )  # fmt: skip
        if isinstance(found, Direct):
            stage.tell(f"deployed without a canary: {found.why}")
            return self._rolling.before_traffic(stage)
        self._setup, self._trial = found, Trial.begin(stage, found)
        with aborting(stage, self._trial):
            if found.by == REPLICAS:
                return self._rolling.before_traffic(stage)
            self._trial.start(found, how.steps[0])
            report = self._trial.ask()
            self._trial.traffic.open()
            return report

    def into_traffic(self, stage: Stage) -> Ending:
        """Step by step; 100 % is the promotion, and without it the canary waits for a later job."""
        if self._trial is None or self._setup is None:
            return self._rolling.into_traffic(stage)
        shares = stage.plan.canary.steps
        with aborting(stage, self._trial):
            if self._setup.by == REPLICAS:
                self._trial.start(self._setup, shares[0])
            for share in shares:
                if share < steps.ALL:
                    self._trial.step(share)
        if shares[-1] < steps.ALL:
            self._trial.close()
            return Ending.WAITING
        promote(stage, self._trial)
        return Ending.DONE

    def afterwards(self, stage: Stage) -> None:
        """The canary goes, for the stable version has all of the traffic; so do colours of an earlier strategy."""
        if self._trial:
            self._trial.remove()
            self._trial.close()
        self._rolling.afterwards(stage)

    def withdraw(self, stage: Stage) -> None:
        """An abort has brought the traffic back already, whatever is to be done on failure."""


def promote(stage: Stage, trial: Trial) -> None:
    """Apply the release and wait for the stable version; then all traffic goes there."""
    stage.tell("canary: promoted; the stable version gets the new template, and the canary stays until it is ready")
    stage.activate()
    late = [obj for obj in stage.objects if _weighed(stage.cluster, obj)]
    first = [obj for obj in stage.objects if obj not in late]
    if isinstance(trial.traffic, ByReplicas):
        _take_over(stage, trial, trial.traffic, first)
    stage.put(first)
    stage.wait_for_all()
    trial.traffic.promoted()
    stage.progress.share = 0
    stage.put(late)
    if stage.plan.stable_for:
        stage.wait_for_all(stable_for=stage.plan.stable_for)


def _take_over(stage: Stage, trial: Trial, traffic: ByReplicas, objects: Sequence[Object]) -> None:
    """The pods that the stable version has left are rolled first; then it grows as the canary shrinks."""
    names = [ref_of(obj, stage.cluster.namespace) for obj in objects]
    position = names.index(trial.stable)
    release = objects[position]
    rolled = stage.put([*objects[:position], traffic.at_its_size(release)])[-1]
    stage.wait_for([rolled])
    traffic.grow(release)


def _weighed(cluster: Cluster, obj: Object) -> bool:
    """Whether an object of the release is a route that has the canary's weights now: it is applied when they are gone."""
    if obj.get("kind") != routes.KIND:
        return False
    live = cluster.get(ref_of(obj, cluster.namespace))
    return bool(live and routes.is_edited(live))


@contextmanager
def aborting(stage: Stage, trial: Trial) -> Iterator[None]:
    """What speaks against the canary brings all traffic back first, then removes it; the cause is raised again."""
    try:
        yield
    except (MlDeployError, ApiError) as error:
        if failure(error):
            _abort(stage, trial, error)
        raise


def _abort(stage: Stage, trial: Trial, error: MlDeployError | ApiError) -> None:
    stage.tell(f"canary: aborted at {stage.progress.share} % of the traffic: {error.message}")
    stage.cluster.patience = stage.plan.rollback_timeout or _BACK
    try:
        trial.back()
        trial.remove()
        trial.close()
    except (MlDeployError, ApiError) as second:
        if not failure(second):
            raise
        stage.progress.problem = f"The canary could not be removed: {second.message}"


#: Used by the frame to name a strategy.
strategy: Callable[[], Canary] = Canary
