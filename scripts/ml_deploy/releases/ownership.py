"""Whose object is it: server-side apply with the field manager `ml-deploy`, and what that needs around it.

On first meeting, the fields that kubectl owns are handed to ml-deploy, so that a field that leaves the manifest
leaves the object too. Conflicts are forced over kubectl only, and said. What Helm, Argo CD or Flux made is theirs
(`adopt` takes it). Where an autoscaler rules, the number of replicas is handed over and then left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ml_deploy.errors import Conflict, TimedOut
from ml_deploy.releases import jobs, removal
from ml_deploy.releases.cluster import FIELD_MANAGER, ApiError, Applied, Cluster, Object, Ref
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.record_secrets import APP

HANDED_OVER = "ml-deploy-handover"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = re.compile(
    r"kubectl($|-client-side-apply$|-create$|-run$|-expose$|-patch$|-edit$|-set$|-scale$|-rollout$|-replace$|-annotate$|-label$)"
)
_MIGRATED = {("kubectl-client-side-apply", "Update"), ("kubectl-create", "Update"), ("kubectl", "Apply")}
_OWNERS = (
    ("annotation", "meta.helm.sh/release-name", "Helm release"),
    ("annotation", "argocd.argoproj.io/tracking-id", "Argo CD application"),
    ("label", "argocd.argoproj.io/instance", "Argo CD application"),
    ("label", "kustomize.toolkit.fluxcd.io/name", "Flux kustomization"),
    ("label", "helm.toolkit.fluxcd.io/name", "Flux Helm release"),
)  # fmt: skip
#: What an autoscaler has left behind; where one still rules, we have no number of replicas to set.
_SCALED = [(manager, ".spec.replicas") for manager in ("kube-controller-manager", "keda-operator")]
_TRIES = 5

Tell = Callable[[str], None]


def owner(live: Object | None, app: str) -> str:
    """Who else owns a live object, such as `Helm release web`; empty when nobody does."""
    meta = (live or {}).get("metadata") or {}
    ours = (meta.get("labels") or {}).get(APP)
    if ours:  # adopted for good: what another tool once wrote on it no longer counts
        return "" if ours == app else f"ml-deploy app {ours}"
    for where, name, words in _OWNERS:
        value = (meta.get("annotations" if where == "annotation" else "labels") or {}).get(name)
        if value:
            return f"{words} {str(value).split(':')[0]}"
    return ""


def check_owner(live: Object | None, app: str, *, adopt: bool = False) -> None:
    """Raises Conflict when the object belongs to somebody else and we were not told to adopt it."""
    theirs = owner(live, app)
    if theirs and live and not adopt:
        raise Conflict(
            f"{ref_of(live)} belongs to {theirs}.",
            hint="Two owners would undo each other's changes. Remove it there first, "
            "or set `adopt: true` to take it over for good.",
            title="Owned by somebody else",
        )


def mark(obj: Object, app: str) -> Object:
    """The object with our mark, the label `ml-deploy/app`, on its own metadata (never on pod templates)."""
    meta = obj.get("metadata") or {}
    return {**obj, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), APP: app}}}


def autoscaled(objects: Iterable[Object], autoscalers: Iterable[Object]) -> set[tuple[str, str]]:
    """(kind, name) of every workload whose replicas an autoscaler rules: live ones, and those of the release itself.

    objects:     the release's own, where HorizontalPodAutoscalers and KEDA ScaledObjects count.
    autoscalers: the namespace's live HorizontalPodAutoscalers (KEDA makes one for each ScaledObject).
    """
    ruled = set()
    for obj in [*objects, *autoscalers]:
        if obj.get("kind") in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = (obj.get("spec") or {}).get("scaleTargetRef") or {}
            if target.get("name"):
                ruled.add((target.get("kind") or "Deployment", target["name"]))
    return ruled


def scaled_in(objects: Iterable[Object], here: str) -> list[str]:
    """The namespaces in which objects may have an autoscaler: `here`, and where else the release has workloads."""
    workloads = [obj for obj in objects if {"replicas", "template"} & set(obj.get("spec") or {})]
    return list(dict.fromkeys([here, *(ref_of(obj, here).namespace for obj in workloads)]))


class Applier:
    """Applies a release's objects under the ownership rules; deploy-aks and rollback both use it.

    left:  seconds until the deadline; what is on its way out is waited for until then, and by default not at all.
    adopt: take over what Helm, Argo CD or Flux own.
    """

    def __init__(
        self, cluster: Cluster, app: str, objects: Sequence[Object], *, tell: Tell,
        left: Callable[[], float] = lambda: 0.0, adopt: bool = False,
    ) -> None:  # fmt: skip
        self._cluster, self._app, self._tell, self._left, self._adopt = cluster, app, tell, left, adopt
        self._ruled = {place: self._autoscaled(objects, place) for place in scaled_in(objects, cluster.namespace)}

    def apply(self, obj: Object, *, dry_run: bool = False) -> Applied:
        """Apply one object. With `dry_run` the server only tells what it would do.

        Raises Conflict (owned or changed by somebody else), ApiError (the server refuses the object), or TimedOut
        (it is being deleted, and does not go).
        """
        ref = ref_of(obj, self._cluster.namespace)
        live = self._cluster.get(ref)
        check_owner(live, self._app, adopt=self._adopt)
        if live and not dry_run and live["metadata"].get("deletionTimestamp"):
            self._wait_until_gone(ref, live)
            live = None
        wanted = mark(obj, self._app)
        if live and (ref.kind, ref.name) in self._ruled.get(ref.namespace, ()):
            wanted = self._leave_replicas(ref, live, wanted, dry_run)
        if live and not dry_run and migrated(live) is not None:
            self._migrate(ref)
        if live and ref.kind == "Job":
            return replace(self._replace_job(ref, live, wanted, dry_run), live=live)
        return replace(self._apply(ref, wanted, dry_run), live=live)

    def _wait_until_gone(self, ref: Ref, live: Object) -> None:
        """What is applied to an object on its way out would go with it: it is made anew instead."""
        self._tell(f"{ref} is being deleted and waits for {_held_by(live)}: it is made anew once it is gone")
        seconds = self._left()
        if not removal.wait_until_gone(self._cluster, ref, live["metadata"]["uid"], seconds=seconds):
            raise TimedOut(
                f"{ref} was deleted by somebody, and is not gone at the deadline, {seconds:.0f} s later: "
                f"it waits for {_held_by(self._cluster.get(ref) or live)}.",
                hint="A finalizer is removed by the controller that set it; run this again once the object is gone.",
            )

    def _replace_job(self, ref: Ref, live: Object, wanted: Object, dry_run: bool) -> Applied:
        def apply() -> Applied:
            return self._apply(ref, wanted, dry_run)

        if dry_run:
            return jobs.rehearse(self._cluster, live, wanted, apply)
        return jobs.put(self._cluster, ref, live, apply, tell=self._tell, seconds=self._left())

    def _leave_replicas(self, ref: Ref, live: Object, wanted: Object, dry_run: bool) -> Object:
        """The object without its number of replicas (a dry run, which hands nothing over, keeps the live number)."""
        if dry_run:
            return {**wanted, "spec": {**wanted["spec"], "replicas": (live.get("spec") or {}).get("replicas", 1)}}
        self._rewrite(ref, handed_over)
        return without_replicas(wanted)

    def _apply(self, ref: Ref, wanted: Object, dry_run: bool) -> Applied:
        for _ in range(_TRIES - 1):
            try:
                return self._cluster.apply(wanted, dry_run=dry_run)
            except ApiError as error:
                if error.code != 409:
                    raise
                conflicts = conflicts_of(error)
                if conflicts:
                    self._may_force(ref, conflicts, error, dry_run)
                    return self._cluster.apply(wanted, dry_run=dry_run, force=True)
        return self._cluster.apply(wanted, dry_run=dry_run)  # it changed under each of our attempts

    def _may_force(self, ref: Ref, conflicts: Sequence[tuple[str, str]], error: ApiError, dry_run: bool) -> None:
        """Over kubectl and autoscalers that are gone (or with `adopt` anybody): said. Raises Conflict otherwise."""
        others = sorted({one[0] for one in conflicts if not is_kubectl(one[0]) and one not in _SCALED})
        if others and not self._adopt:
            raise _contested(ref, others, conflicts) from error
        if dry_run:
            return
        theirs = [(manager, field) for manager, field in conflicts if not manager.startswith("ml-deploy")]
        if theirs:  # else it is what we ourselves changed between two deployments, such as a number of pods
            managers = ", ".join(sorted({manager for manager, _ in theirs}))
            self._tell(f"{ref}: taking over {', '.join(field for _, field in theirs)} from {managers}")

    def _autoscaled(self, objects: Sequence[Object], place: str) -> set[tuple[str, str]]:
        try:
            live = self._cluster.list("autoscaling/v2", "HorizontalPodAutoscaler", place)
        except ApiError as error:
            if error.code not in (403, 404):
                raise
            live = []
        return autoscaled([obj for obj in objects if ref_of(obj, self._cluster.namespace).namespace == place], live)

    def _migrate(self, ref: Ref) -> None:
        if self._rewrite(ref, migrated):
            self._tell(f"{ref}: was applied with kubectl until now; ml-deploy owns its fields from here on")

    def _rewrite(self, ref: Ref, change: Callable[[Object], list[Any] | None]) -> Object | None:
        """Change managedFields as `change` says, guarded by resourceVersion; None when nothing had to change."""
        for attempt in range(_TRIES):
            live = self._cluster.get(ref)
            fields = change(live) if live else None
            if not live or fields is None:
                return None
            version = live["metadata"]["resourceVersion"]
            patch = [{"op": "replace", "path": "/metadata/resourceVersion", "value": version},
                     {"op": "replace", "path": "/metadata/managedFields", "value": fields}]  # fmt: skip
            try:
                return self._cluster.patch(ref, patch, style="json").object
            except ApiError as error:
                if error.code not in (409, 422) or attempt == _TRIES - 1:
                    raise
        return None


def is_kubectl(manager: str) -> bool:
    """Whether a field manager is kubectl in one of its guises, or an earlier self of ours."""
    return bool(_KUBECTL.match(manager)) or manager.startswith("ml-deploy")


def conflicts_of(error: ApiError) -> list[tuple[str, str]]:
    """(manager, field) of each conflict that the server named."""
    found = []
    for cause in error.details.get("causes") or []:
        named = re.match(r'conflict with "([^"]*)"', cause.get("message", ""))
        if cause.get("reason") == "FieldManagerConflict" and named:
            found.append((named[1], cause.get("field", "")))
    return found


def migrated(live: Object) -> list[Any] | None:
    """managedFields with what kubectl's apply and create own handed to ml-deploy; None when there is nothing to do."""
    fields = copy.deepcopy((live.get("metadata") or {}).get("managedFields") or [])
    theirs = [f for f in fields if (f.get("manager"), f.get("operation")) in _MIGRATED and not f.get("subresource")]
    if not theirs:
        return None
    ours = [f for f in fields if (f.get("manager"), f.get("operation")) == (FIELD_MANAGER, "Apply")]
    merged: dict[str, Any] = {}
    for entry in [*theirs, *ours]:
        merged = _union(merged, entry.get("fieldsV1") or {})
    version = (ours or theirs)[-1].get("apiVersion")
    entry = {"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": version,
             "time": theirs[-1].get("time"), "fieldsType": "FieldsV1", "fieldsV1": merged}  # fmt: skip
    return [*(f for f in fields if f not in theirs and f not in ours), entry]


def handed_over(live: Object) -> list[Any] | None:
    """managedFields with a co-owner of `spec.replicas`; None when another manager than ours owns it already."""
    fields = copy.deepcopy((live.get("metadata") or {}).get("managedFields") or [])
    holders = [f for f in fields if "f:replicas" in ((f.get("fieldsV1") or {}).get("f:spec") or {})]
    leaving = {(FIELD_MANAGER, "Apply")} | _MIGRATED
    if not holders or any((f.get("manager"), f.get("operation")) not in leaving for f in holders):
        return None
    entry = {"manager": HANDED_OVER, "operation": "Update", "apiVersion": holders[0].get("apiVersion"),
             "time": holders[0].get("time"), "fieldsType": "FieldsV1",
             "fieldsV1": {"f:spec": {"f:replicas": {}}}}  # fmt: skip
    return [*fields, entry]


def without_replicas(obj: Object) -> Object:
    """The object without `spec.replicas`."""
    spec = obj.get("spec") or {}
    return {**obj, "spec": {name: value for name, value in spec.items() if name != "replicas"}}


def _held_by(live: Object) -> str:
    """What an object that is being deleted waits for."""
    return ", ".join(live["metadata"].get("finalizers") or ["its pods"])


def _union(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two FieldsV1 trees as one."""
    result = dict(one)
    for name, below in other.items():
        result[name] = _union(result.get(name) or {}, below or {})
    return result


def _contested(ref: Ref, others: Sequence[str], conflicts: Sequence[tuple[str, str]]) -> Conflict:
    fields = ", ".join(field for manager, field in conflicts if manager in others)
    return Conflict(
        f"{ref}: {', '.join(others)} set {fields} and would set it again.",
        hint="Remove these fields from the manifest or from the other tool, "
        "or set `adopt: true` to take them over for good.",
        title="Owned by somebody else",
    )
