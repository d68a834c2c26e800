"""`action: promote`: what is left to do for a canary that waits since an earlier run."""

from __future__ import annotations

from collections.abc import Callable

from ml_deploy.checks.cases import Report
from ml_deploy.releases.stage import Stage
from ml_deploy.releases.strategies import Ending, canary_cut
from ml_deploy.releases.strategies.canary import Canary, aborting, promote
from ml_deploy.releases.strategies.canary_traffic import remove
from ml_deploy.releases.strategies.canary_trial import Trial


class Promotion(Canary):
    """A canary's last step, in a job of its own."""

    def before_traffic(self, stage: Stage) -> Report | None:
        """Golden predictions, where there are any, are asked once more. A rejection that was killed is forgotten.

        A canary that has no pods any more, for a run was killed that had begun to remove it, cannot be asked.
        """
        canary_cut.reopen(stage.cluster, stage.plan.app)
        self._trial = Trial.resume(stage)
        if self._trial is None or self._trial.is_empty():
            return self._rolling.before_traffic(stage)
        with aborting(stage, self._trial):
            return self._trial.ask()

    def into_traffic(self, stage: Stage) -> Ending:
        """The promotion; where somebody removed the canary, or a killed promotion did, the rest of it."""
        if self._trial is None:
            stage.tell("the canary is gone: the release is deployed without it")
            return self._rolling.into_traffic(stage)
        promote(stage, self._trial)
        return Ending.DONE

    def afterwards(self, stage: Stage) -> None:
        """What is left of the canary goes, also of one that a killed run has removed in part."""
        if self._trial is None:
            remove(stage.cluster, stage.plan.app)
        super().afterwards(stage)


strategy: Callable[[], Promotion] = Promotion
