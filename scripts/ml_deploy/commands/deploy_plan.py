"""From deploy-aks's inputs to a plan for the strategies."""

from __future__ import annotations

from collections.abc import Sequence

from ml_deploy.checks.cases import Case
from ml_deploy.commands import image_checks
from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.ports import Adapters
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.history import Release
from ml_deploy.releases.stage import CanaryPlan, Plan

_RATE = 10.0


def of_release(
    inputs: Inputs, adapters: Adapters, objects: Sequence[Object], images: Sequence[str], asked: Sequence[Case]
) -> Plan:
    """What a new release is made of."""
    return _plan(inputs, adapters, objects, images, asked, inputs.strategy, inputs.model_digest, adapters.job.commit)


def of_promotion(inputs: Inputs, adapters: Adapters, waiting: Release, asked: Sequence[Case]) -> Plan:
    """What is left to do for a release whose canary waits; its objects are in its record."""
    return _plan(inputs, adapters, (), waiting.images, asked, "promotion", waiting.model_digest, waiting.commit)


def _plan(
    inputs: Inputs, adapters: Adapters, objects: Sequence[Object], images: Sequence[str], asked: Sequence[Case],
    strategy: str, model_digest: str, commit: str,
) -> Plan:  # fmt: skip
    return Plan(
        app=inputs.app, objects=objects, strategy=strategy, images=images, model_digest=model_digest, commit=commit,
        run_url=adapters.job.run_url, cases=asked, stable_for=inputs.stable_for or 0.0, keep_old=inputs.keep_old,
        rollback_timeout=inputs.rollback_timeout if inputs.on_failure == "rollback" else None,
        history_limit=inputs.history_limit, adopt=inputs.adopt, prune=inputs.prune,
        missing_images=image_checks.missing(inputs, adapters),
        canary=CanaryPlan(
            steps=inputs.steps, pause=inputs.pause or 0.0, traffic=inputs.traffic, rate=inputs.rate or _RATE,
            open_endpoint=adapters.endpoint,
        ),
    )  # fmt: skip
