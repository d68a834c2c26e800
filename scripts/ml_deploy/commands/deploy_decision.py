"""deploy-aks with `action: promote` or `reject`: what becomes of a canary that waits since an earlier job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ml_deploy.checks import cases
from ml_deploy.commands import deploy_plan
from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.deploy_report import Reporter, Result
from ml_deploy.commands.one_at_a_time import alone
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import MlDeployError, NoRelease
from ml_deploy.releases.cluster import ApiError, Cluster
from ml_deploy.releases.deployment import Deployment, Progress
from ml_deploy.releases.history import Release
from ml_deploy.releases.records import Records
from ml_deploy.releases.rejection import reject
from ml_deploy.releases.stage import Plan, Stage
from ml_deploy.releases.strategies import canary_records, canary_trial


def run(inputs: Inputs, adapters: Adapters, report: Reporter) -> Result:
    """Promote or reject. Raises NoRelease when none waits, Conflict when it is not `revision`, or what went wrong."""
    asked = cases.load(Path(inputs.cases)) if inputs.cases else []
    clock = adapters.clock
    until = clock.monotonic() + inputs.timeout
    cluster = adapters.cluster(inputs.access())
    cluster.patience = inputs.timeout
    report.tell(f"{inputs.app}: {inputs.action} in namespace {cluster.namespace} of {cluster.server}")
    with alone(inputs, adapters, cluster, report.tell, patience=until - clock.monotonic()):
        records = Records(cluster, cluster.namespace, inputs.app, clock=clock)
        history = records.all()
        nothing = Plan(app=inputs.app, objects=())
        stage = Stage(cluster, nothing, clock, until, report.tell, Progress(), records)
        release, done = _meant(inputs, history, stage)
        report.images = release.images
        stage.plan = plan = deploy_plan.of_promotion(inputs, adapters, release, asked)
        stage.progress.release = release
        if done:
            if canary_records.undecided(history) is None:  # else it is a later one's canary that is there
                canary_trial.clean(stage)  # of a run that was killed at the very end
            return _nothing_to_do(report, cluster, stage)
        if inputs.action == "reject":
            return _rejected(report, cluster, stage, f"rejected by {adapters.job.run_url or 'hand'}")
        deployment = Deployment(cluster, plan, clock=clock, until=until, tell=report.tell)
        try:
            progress = deployment.finish(release)
        except (MlDeployError, ApiError) as error:
            raise report.failed(error, deployment.progress) from error
    return report.succeeded(cluster, progress)


def _meant(inputs: Inputs, history: Sequence[Release], stage: Stage) -> tuple[Release, bool]:
    """See `canary_records.meant`. Where none is left to reject, what a promotion killed at its very end left goes, too."""
    try:
        return canary_records.meant(history, inputs.app, inputs.action, inputs.revision)
    except NoRelease:
        if inputs.action == "reject" and canary_records.any_of(history):
            canary_trial.clean(stage)
        raise


def _rejected(report: Reporter, cluster: Cluster, stage: Stage, why: str) -> Result:
    try:
        progress = reject(stage, why=why)
    except (MlDeployError, ApiError) as error:
        raise report.failed(error, stage.progress) from error
    serves = f"revision {progress.previous.revision} has" if progress.previous else "the version before has"
    told = f"revision {stage.release.revision} is rejected and its canary removed; {serves} all of the traffic"
    return report.settled(cluster, progress, told)


def _nothing_to_do(report: Reporter, cluster: Cluster, stage: Stage) -> Result:
    """A job that is run again finds its work done."""
    release, records = stage.release, stage.records
    progress = Progress(release=records.load(release), previous=records.current())
    return report.settled(cluster, progress, f"nothing to do: revision {release.revision} is {release.state} already")
