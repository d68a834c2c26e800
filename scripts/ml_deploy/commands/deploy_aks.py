"""deploy-aks: an image by digest into a cluster, verified, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ml_deploy.checks import cases
from ml_deploy.commands import deploy_decision, deploy_plan, deploy_sources, deploy_teardown
from ml_deploy.commands.deploy_checks import Checks
from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.deploy_report import Reporter, Result
from ml_deploy.commands.one_at_a_time import alone
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import MlDeployError
from ml_deploy.releases import preflight, strategies
from ml_deploy.releases.cluster import ApiError, Cluster
from ml_deploy.releases.deployment import Deployment, Progress
from ml_deploy.releases.sources.manifests import Manifest

__all__ = ["DESCRIPTION", "ICON", "TITLE", "Inputs", "Result", "run"]

TITLE = "Deploy to AKS"
DESCRIPTION = (
    "Deploys an image by digest to AKS (or any Kubernetes): checks everything on the server first, asks the new version "
    "golden predictions before users reach it, waits, explains what goes wrong, and goes back when told to."
)
ICON = "upload"


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Deploy. Raises what stands in the way before anything changes, or RolloutFailed and the like after.

    Whatever stops it, outputs and report tell.
    """
    report = Reporter(inputs, adapters, inputs.images or ((inputs.image,) if inputs.image else ()))
    try:
        if inputs.action in ("promote", "reject"):
            return deploy_decision.run(inputs, adapters, report)
        if inputs.action == "teardown":
            return deploy_teardown.run(inputs, adapters, report)
        return _Run(inputs, adapters, report).run()
    except (MlDeployError, ApiError) as error:
        if getattr(error, "result", None) is None:
            raise report.failed(error, Progress()) from error
        raise


class _Run:
    def __init__(self, inputs: Inputs, adapters: Adapters, report: Reporter) -> None:
        self._inputs, self._adapters, self._report = inputs, adapters, report
        self._started = adapters.clock.monotonic()
        self._images, self._tell = report.images, report.tell

    def run(self) -> Result:
        inputs = self._inputs
        asked = cases.load(Path(inputs.cases)) if inputs.cases else []
        connect = None if inputs.dry_run == "client" else lambda: self._cluster
        wanted = deploy_sources.prepared(inputs, self._adapters, self._images, self._tell, connect)
        if inputs.dry_run == "client":
            return self._report.rendered(wanted)
        cluster = self._cluster
        self._tell(f"{inputs.app}: {len(wanted)} objects for namespace {cluster.namespace} of {cluster.server}")
        strategy = strategies.named(inputs.strategy)
        wanted = preflight.place(cluster, wanted)
        shaped = strategy.shape(cluster, wanted, app=inputs.app, images=self._images)
        beyond = strategy.rights(cluster, [one.object for one in shaped])
        Checks(inputs, self._adapters, self._report).run(cluster, shaped, asks=bool(asked), rights=beyond)
        if inputs.dry_run == "server":
            return self._report.compared(cluster)
        return self._deploy(cluster, wanted, asked)

    @cached_property
    def _cluster(self) -> Cluster:
        cluster = self._adapters.cluster(self._inputs.access())
        cluster.patience = self._inputs.timeout
        return cluster

    def _deploy(self, cluster: Cluster, wanted: Sequence[Manifest], asked: Sequence[cases.Case]) -> Result:
        inputs, clock = self._inputs, self._adapters.clock
        until = self._started + inputs.timeout
        self._make_namespace(cluster, wanted)
        with alone(inputs, self._adapters, cluster, self._tell, patience=until - clock.monotonic()):
            objects = [one.object for one in wanted]
            plan = deploy_plan.of_release(inputs, self._adapters, objects, self._images, asked)
            deployment = Deployment(cluster, plan, clock=clock, until=until, tell=self._tell)
            try:
                progress = deployment.run()
            except (MlDeployError, ApiError) as error:
                raise self._report.failed(error, deployment.progress) from error
        return self._report.succeeded(cluster, progress)

    def _make_namespace(self, cluster: Cluster, wanted: Sequence[Manifest]) -> None:
        """The namespace that holds lock and records, when the release brings it along."""
        for one in wanted:
            if one.object["kind"] == "Namespace" and one.object["metadata"]["name"] == cluster.namespace:
                cluster.apply(one.object, force=True)
