"""`action: reject`: a canary that waits is taken away again, and the stable version has all of the traffic."""

from __future__ import annotations

from ml_deploy.releases import ahead, restore, wait
from ml_deploy.releases.history import ROLLED_BACK, current_of
from ml_deploy.releases.stage import Progress, Stage
from ml_deploy.releases.strategies import canary_trial


def reject(stage: Stage, *, why: str) -> Progress:
    """Traffic back, canary removed, record `rolled-back`. A promotion that was begun and killed is undone, too.

    `stage.progress.release` is the release whose canary waits. Raises NoRelease or RolloutFailed when a release that
    had begun to be promoted cannot be undone.
    """
    progress, release = stage.progress, stage.release
    others = [one for one in stage.records.all() if one.revision != release.revision]
    progress.previous = current_of(others)
    if release.activated:
        _undo_promotion(stage, why)
    canary_trial.clean(stage)
    progress.release = stage.records.load(release)
    if not release.activated:
        progress.stays = ahead.take_back(stage.cluster, progress.release, clock=stage.clock, tell=stage.tell)
    release = stage.records.update(progress.release, why=why)
    progress.release = stage.records.mark(release, ROLLED_BACK)
    return progress


def _undo_promotion(stage: Stage, why: str) -> None:
    target = restore.choose(stage.records.all(), stage.release)
    done = restore.restore(
        stage.cluster, stage.records, target, stage.release, tell=stage.tell, why=why,
        wait=wait.Until(stage.cluster, stage.until, clock=stage.clock, tell=stage.tell),
    )  # fmt: skip
    stage.progress.rolled_back_to = done.release
