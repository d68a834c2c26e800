"""`action: teardown`: an app leaves its namespace, with everything that deploy-aks ever put there."""

from __future__ import annotations

from collections.abc import Sequence

from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.deploy_report import Reporter, Result
from ml_deploy.commands.one_at_a_time import alone
from ml_deploy.commands.ports import Adapters
from ml_deploy.releases import rbac, teardown
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.rbac import Right
from ml_deploy.releases.records import Records
from ml_deploy.releases.teardown import Inventory


def run(inputs: Inputs, adapters: Adapters, report: Reporter) -> Result:
    """Remove the app, or with `dry-run: server` list what would be removed.

    Raises NoRelease for an app that nobody knows, TimedOut for objects that do not go, and the lock's Conflict.
    """
    clock = adapters.clock
    cluster = adapters.cluster(inputs.access())
    cluster.patience = inputs.timeout
    until = clock.monotonic() + inputs.timeout
    records = Records(cluster, cluster.namespace, inputs.app, clock=clock)
    rbac.check(cluster, _rights(cluster.namespace, deletes=inputs.dry_run == "none"))
    if not records.all():
        said = teardown.torn_down(cluster, records)
        if not said:
            raise teardown.unknown(records)
        if inputs.dry_run == "none":  # all that a run that was killed at its end has left
            with alone(inputs, adapters, cluster, report.tell, patience=inputs.timeout):
                teardown.remove_lock(cluster, records)
        adapters.console.notice(f"{said}: nothing is left to remove.", title="Already torn down")
        return report.torn_down((), (), said)
    found = teardown.inventory(cluster, records)
    _tell(found, report)
    if inputs.dry_run == "server":
        return report.torn_down(
            [str(ref_of(obj)) for obj in found.goes], found.stays, "Nothing was removed yet.", dry=True
        )
    rbac.check(cluster, rbac.to_delete(cluster, found.goes))
    with alone(inputs, adapters, cluster, report.tell, patience=until - clock.monotonic()):
        found = teardown.inventory(cluster, records)  # a deployment may have ended meanwhile
        removed = teardown.tear_down(
            cluster, records, found, by=adapters.job.run_url or "hand", until=until, clock=clock, tell=report.tell
        )
    report.tell(f"{inputs.app} is gone from namespace {cluster.namespace}")
    return report.torn_down(removed, found.stays)


def _tell(found: Inventory, report: Reporter) -> None:
    for obj in found.goes:
        report.tell(f"{ref_of(obj)} goes")
    for words in found.stays:
        report.tell(words)


def _rights(namespace: str, *, deletes: bool) -> Sequence[Right]:
    """Those beside the deletion of the app's own objects."""
    needed = [Right(verb, "", "secrets", namespace) for verb in ("get", "list", *(("delete",) if deletes else ()))]
    verbs = ("get", "create", "update", "delete") if deletes else ()
    return [*needed, *(Right(verb, "coordination.k8s.io", "leases", namespace) for verb in verbs)]
