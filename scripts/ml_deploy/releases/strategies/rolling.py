"""Rolling: one pod of the new template answers first, outside all traffic; then the cluster's own rolling update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ml_deploy.checks.cases import Report
from ml_deploy.releases import before_traffic, leftovers, rehearsal, switching
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.rbac import Right
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.stage import Stage
from ml_deploy.releases.strategies import Ending, Strategy


class Rolling:
    """The default: nothing of the release's shape is changed."""

    def shape(
        self, cluster: Cluster, manifests: Sequence[Manifest], *, app: str, images: Sequence[str]
    ) -> list[Manifest]:
        """As they are."""
        return list(manifests)

    def rights(self, cluster: Cluster, objects: Sequence[Object]) -> list[Right]:
        """None beyond."""
        return []

    def before_traffic(self, stage: Stage) -> Report | None:
        """One pod of its own, with copies of the configuration that is new; it is removed on every way out."""
        plan, cluster, revision = stage.plan, stage.cluster, stage.release.revision
        if not plan.cases:
            return None
        target = before_traffic.target(stage.objects, images=plan.images)
        stage.put_ahead(rehearsal.needed_ahead(cluster, stage.objects))
        with rehearsal.configured(cluster, target.workload, stage.objects, app=plan.app, revision=revision) as workload:
            return before_traffic.ask_before_traffic(
                cluster, replace(target, workload=workload), plan.cases, app=plan.app, revision=revision,
                wait=stage.wait_for_one, clock=stage.clock, seconds=stage.left(), tell=stage.tell,
            )  # fmt: skip

    def into_traffic(self, stage: Stage) -> Ending:
        """Apply everything; the cluster replaces pod by pod. Services that lead elsewhere follow when that is ready."""
        stage.activate()
        switch = switching.needed(stage.cluster, stage.objects)
        if switch:
            switching.carried_out(switch, stage.cluster, stage.objects, put=stage.put, ready=stage.wait_for)
        else:
            stage.put(stage.objects)
        stage.wait_for_all(stable_for=stage.plan.stable_for)
        return Ending.DONE

    def afterwards(self, stage: Stage) -> None:
        """The old pods went as the new ones came; colours of an earlier strategy go now."""
        found = leftovers.of_colours(stage.cluster, stage.plan.app)
        leftovers.remove(stage.cluster, found, tell=stage.tell)

    def withdraw(self, stage: Stage) -> None:
        """Nothing to remove: the pod that was asked is gone already."""


def strategy() -> Strategy:
    """See `strategies.named`."""
    return Rolling()
