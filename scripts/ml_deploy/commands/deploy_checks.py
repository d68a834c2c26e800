"""deploy-aks before anything changes: one pass that tells everything that would fail, and warns of what may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_deploy.commands import image_checks
from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.deploy_report import Reporter
from ml_deploy.commands.image_checks import ImageChecks
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import Conflict, InputError, ManifestError, MlDeployError
from ml_deploy.images.availability import Availability
from ml_deploy.releases import (
    admission,
    before_traffic,
    ownership,
    platforms,
    pod_images,
    preflight,
    prune,
    rbac,
    reach,
    snapshot,
)
from ml_deploy.releases.capacity import quota
from ml_deploy.releases.capacity import verdict as capacity
from ml_deploy.releases.capacity.demand import Demand, demand
from ml_deploy.releases.capacity.packing import Fit
from ml_deploy.releases.capacity.survey import Survey, Surveyor
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.deployment import Progress
from ml_deploy.releases.records import Records
from ml_deploy.releases.sources.manifests import Manifest, is_workload, template_of
from ml_deploy.releases.strategies import canary_setup

_SURVEY = 4.0  # seconds that nodes and pods are waited for beyond the dry run
_REGISTRY = 5.0  # seconds that each registry is waited for
_RECORD = {"apiVersion": "v1", "kind": "Secret"}  # our own, made with each release


class Checks:
    """All that is asked of the cluster ahead. It changes nothing."""

    def __init__(self, inputs: Inputs, adapters: Adapters, report: Reporter) -> None:
        self._inputs, self._adapters, self._report = inputs, adapters, report

    def run(
        self, cluster: Cluster, wanted: Sequence[Manifest], *, asks: bool, rights: Sequence[rbac.Right] = ()
    ) -> None:
        """Raises one error with all that stands in the way. rights: what the strategy needs beyond the usual."""
        objects = [one.object for one in wanted]
        deploys = self._inputs.dry_run == "none"
        needed = rbac.needed(cluster, objects, deploys=deploys, cases=asks, reads=self._inputs.prune)
        rbac.check(cluster, [*needed, *(rights if deploys else ())])
        surveyor = Surveyor(cluster) if any(is_workload(obj) for obj in objects) else None
        checked = self._report.checked = self._dry_run(cluster, wanted, objects)
        images = ImageChecks(self._inputs, self._adapters, self._new_images())
        found = [*preflight.problems(checked), *self._not_replaced(), *self._canary(cluster, objects)]
        found += self._reach(cluster, wanted)
        found += self._unasked(objects) if asks and not found else []
        pods = admission.check(cluster, wanted) if not found else []
        found += [one.problem for one in pods if one.problem]
        survey = surveyor.result(_SURVEY) if surveyor and not found else Survey()
        found += self._missing(images.result(_REGISTRY), survey)
        if surveyor and not found:
            found = self._room(cluster, survey, pods, asks=asks)
        if found:
            raise self._report.failed(preflight.together(found), Progress())
        self._tell_all(checked, pods)
        if self._inputs.prune:
            self._list_pruned(cluster, objects)

    def _dry_run(
        self, cluster: Cluster, wanted: Sequence[Manifest], objects: Sequence[Object]
    ) -> list[preflight.Checked]:
        live = snapshot.listed(cluster, objects)
        applier = ownership.Applier(live, self._inputs.app, objects, tell=self._report.tell, adopt=self._inputs.adopt)
        return preflight.check(wanted, lambda obj: applier.apply(obj, dry_run=True))

    def _not_replaced(self) -> list[MlDeployError]:
        """Workloads that would keep their old pods."""
        problems, warnings = preflight.not_replaced(self._report.checked)
        for said in warnings:
            self._adapters.console.warning(said, title="Pods are not replaced")
        return problems

    def _reach(self, cluster: Cluster, wanted: Sequence[Manifest]) -> list[ManifestError]:
        """Services that lead nowhere; those that may are warned of."""
        reached = reach.check(cluster, wanted)
        for said in reached.doubts:
            self._adapters.console.warning(said, title="Service")
        return reached.problems

    def _unasked(self, objects: Sequence[Object]) -> list[MlDeployError]:
        """Why nothing could be asked `cases`."""
        try:
            before_traffic.target(objects, images=self._inputs.images or (self._inputs.image,))
        except InputError as error:
            return [error]
        return []

    def _canary(self, cluster: Cluster, objects: Sequence[Object]) -> list[MlDeployError]:
        """What stands in the way of a canary here. Raises Forbidden for the rights that it needs beyond the others."""
        inputs = self._inputs
        if inputs.strategy != "canary":
            return []
        try:
            found = canary_setup.survey(
                cluster, objects, app=inputs.app, images=inputs.images or (inputs.image,), traffic=inputs.traffic,
                shares=inputs.steps, adopt=inputs.adopt,
            )  # fmt: skip
        except (Conflict, InputError) as error:
            return [error]
        if inputs.dry_run == "none" and isinstance(found, canary_setup.Setup):
            rbac.check(cluster, canary_setup.rights(found, cluster.namespace))
        return []

    def _tell_all(self, checked: Sequence[preflight.Checked], pods: Sequence[admission.Admitted]) -> None:
        for one in checked:
            for said in (*one.warnings, *([one.note] if one.note else [])):
                self._report.tell(f"{one.manifest.title}: {said}")
        for said in filter(None, (one.warning for one in pods)):
            self._adapters.console.warning(said, title="Pods may be refused")

    def _list_pruned(self, cluster: Cluster, objects: Sequence[Object]) -> None:
        """Tell what pruning will remove, and see that we may."""
        records = Records(cluster, cluster.namespace, self._inputs.app, clock=self._adapters.clock)
        pruning = self._report.pruning = prune.planned(cluster, records, prune.before(records.all()), objects)
        rbac.check(cluster, rbac.to_delete(cluster, pruning.goes))
        for line in pruning.lines():
            self._report.tell(f"prune: {line}")

    # images

    def _new_images(self) -> list[str]:
        """Those that no live object of the release has yet: what runs was pulled."""
        live = pod_images.of_workloads([one.live for one in self._report.checked if one.live])
        wanted = pod_images.of_workloads([one.manifest.object for one in self._report.checked])
        return [image for image in wanted if image not in live]

    def _missing(self, found: Mapping[str, Availability], survey: Survey) -> list[MlDeployError]:
        """The images that cannot be had; what is doubtful is a warning, and what could not be asked a word."""
        judged = image_checks.judge(found, {image: self._nodes_for(image, survey) for image in found})
        for said in judged.notes:
            self._report.tell(said)
        for said in judged.warnings:
            self._adapters.console.warning(said, title="Image")
        return judged.problems

    def _nodes_for(self, image: str, survey: Survey) -> set[str]:
        found: set[str] = set()
        for one in self._report.checked:
            template = template_of(one.manifest.object)
            if template and survey.seen and image in pod_images.of_workloads([one.manifest.object]):
                found |= platforms.of_nodes(survey.seen.nodes, template["spec"])
        return found

    # nodes and quotas

    def _room(
        self, cluster: Cluster, survey: Survey, pods: Sequence[admission.Admitted], *, asks: bool
    ) -> list[MlDeployError]:
        """Warns where pods may find no room; returns what no quota will ever allow."""
        demands = self._demands(pods, survey, asks=asks)
        if not demands:
            return []
        never = self._quotas(cluster, survey, demands)
        for one in capacity.judge(survey.seen, demands) if survey.seen else ():
            self._opine(one, "No room on the nodes", "May have no room on the nodes")
        if survey.why:
            self._report.tell(f"whether the nodes have room was not checked to the end: {survey.why}")
        return never

    def _demands(self, pods: Sequence[admission.Admitted], survey: Survey, *, asks: bool) -> list[Demand]:
        admitted = {one.title: one.pod for one in pods if one.pod}
        found = []
        for one in self._report.checked:
            if one.after is not None and is_workload(one.after):
                need = demand(one.after, one.live, admitted.get(one.manifest.title), asked=asks)
                if need:
                    found.append(need.of(quota.with_defaults(need.pod, survey.limit_ranges)))
        return found

    def _quotas(self, cluster: Cluster, survey: Survey, demands: Sequence[Demand]) -> list[MlDeployError]:
        made = [one.manifest.object for one in self._report.checked if one.live is None]
        kinds = {(obj["apiVersion"], obj["kind"]) for obj in [*made, _RECORD]} if survey.quotas else ()
        plurals = {key: kind.plural for key in kinds if (kind := cluster.kind(*key))}
        opinions = quota.judge(survey.quotas, demands, quota.made_by([*made, _RECORD], plurals))
        for one in opinions:
            if one.fit is not Fit.NO:
                self._opine(one, "Quota", "The quota may not allow its pods")
        return [ManifestError(one.text, hint="Lower what it asks for, or have the namespace's quota raised.")
                for one in opinions if one.fit is Fit.NO]  # fmt: skip

    def _opine(self, one: capacity.Opinion, certain: str, doubtful: str) -> None:
        if one.fit is Fit.YES:
            self._report.tell(one.text)
        else:
            self._adapters.console.warning(one.text, title=certain if one.fit is Fit.NO else doubtful)
