"""Owners, conflicts and managed fields: pure functions of objects as servers return them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from ml_deploy.errors import Conflict, TimedOut
from ml_deploy.releases import ownership
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Event, Object, Ref


def entry(manager: str, fields: dict[str, Any], operation: str = "Update", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": fields, **more}  # fmt: skip


def held(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
IMAGE: dict[str, Any] = {"f:spec": {"f:template": {"f:image": {}}}}


def test_what_kubectl_owns_is_joined_with_ours_and_the_rest_stays() -> None:
    status = entry("kube-controller-manager", {"f:status": {}}, subresource="status")
    fields = ownership.migrated(
        held(entry("kubectl-client-side-apply", REPLICAS), status, entry("ml-deploy", IMAGE, "Apply"))
    )
    assert fields is not None and fields[0] == status
    assert (fields[1]["manager"], fields[1]["operation"]) == ("ml-deploy", "Apply")
    assert fields[1]["fieldsV1"] == {"f:spec": {"f:replicas": {}, "f:template": {"f:image": {}}}}
    assert len(fields) == 2


@pytest.mark.parametrize(
    "entries",
    [[], [entry("ml-deploy", IMAGE, "Apply")], [entry("kubectl-edit", IMAGE)], [entry("helm", IMAGE)],
     [entry("kubectl-client-side-apply", REPLICAS, subresource="scale")]],
)  # fmt: skip
def test_there_is_nothing_to_migrate(entries: list[dict[str, Any]]) -> None:
    assert ownership.migrated(held(*entries)) is None


def test_replicas_get_a_keeper_only_where_ours_would_leave_them_to_nobody() -> None:
    ours = entry("ml-deploy", REPLICAS, "Apply")
    fields = ownership.handed_over(held(ours))
    assert fields is not None and fields[0] == ours and fields[1]["manager"] == ownership.HANDED_OVER
    assert fields[1]["fieldsV1"] == REPLICAS
    for kept in (held(ours, entry("kube-controller-manager", REPLICAS, subresource="scale")), held(ours, fields[1]),
                 held(entry("ml-deploy", IMAGE, "Apply")), held()):  # fmt: skip
        assert ownership.handed_over(kept) is None


def test_autoscalers_of_the_release_and_of_the_namespace_rule() -> None:
    keda = {"kind": "ScaledObject", "spec": {"scaleTargetRef": {"name": "a"}}}
    hpa = {"kind": "HorizontalPodAutoscaler", "spec": {"scaleTargetRef": {"kind": "StatefulSet", "name": "b"}}}
    assert ownership.autoscaled([keda, {"kind": "Service"}], [hpa]) == {("Deployment", "a"), ("StatefulSet", "b")}


class Autoscaled:
    """Two namespaces with a Deployment `web` of 5 pods each; only that in `other` has an autoscaler."""

    namespace = "ml"

    def __init__(self) -> None:
        self.applied: list[Object] = []

    def list(self, api_version: str, kind: str, namespace: str) -> list[Object]:
        assert kind == "HorizontalPodAutoscaler"
        rules = {"kind": kind, "metadata": {"name": "web", "namespace": namespace}, "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}}  # fmt: skip
        return [rules] if namespace == "other" else []

    def get(self, ref: Ref) -> Object:
        return {"kind": ref.kind, "metadata": {"name": ref.name, "namespace": ref.namespace}, "spec": {"replicas": 5}}

    def apply(self, obj: Object, *, dry_run: bool, force: bool = False) -> Applied:
        self.applied.append(obj)
        return Applied(obj)


def test_an_autoscaler_has_the_say_in_its_own_namespace() -> None:
    cluster = Autoscaled()
    two = [{"kind": "Deployment", "metadata": {"name": "web", "namespace": place}, "spec": {"replicas": 2}}
           for place in ("ml", "other")]  # fmt: skip
    applier = ownership.Applier(cast(Cluster, cluster), "wine", two, tell=lambda _: None)
    for one in two:
        applier.apply(one)
    assert [one["spec"] for one in cluster.applied] == [{"replicas": 2}, {}]


@pytest.mark.parametrize(
    ("manager", "ours"),
    [("kubectl", True), ("kubectl-client-side-apply", True), ("kubectl-patch", True), ("ml-deploy-handover", True),
     ("helm", False), ("argocd-controller", False), ("terraform", False), ("kubectl-but-not-really", False)],
)  # fmt: skip
def test_only_kubectl_may_be_forced(manager: str, ours: bool) -> None:
    assert ownership.is_kubectl(manager) is ours


def test_conflicts_are_read_from_the_servers_answer() -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "helm" using apps/v1', "field": ".spec.replicas"},
        {"reason": "Other", "message": "x", "field": ".y"},
    ]
    error = ApiError(409, "Conflict", "Apply failed", {"causes": causes})
    assert ownership.conflicts_of(error) == [("helm", ".spec.replicas")]
    assert ownership.conflicts_of(ApiError(409, "Conflict", "changed")) == []


def test_an_owner_is_named_and_adopted_only_when_told() -> None:
    live = {"kind": "Service", "metadata": {"name": "s", "annotations": {"meta.helm.sh/release-name": "shop"}}}
    with pytest.raises(Conflict, match="Service s belongs to Helm release shop"):
        ownership.check_owner(live, "wine")
    ownership.check_owner(live, "wine", adopt=True)
    ownership.check_owner(None, "wine")
    rendered_by_helm = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}
    assert ownership.owner(rendered_by_helm, "wine") == "", "charts put this label into what others apply"


def test_the_mark_is_on_the_object_and_not_on_its_pods() -> None:
    deployment = {
        "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"template": {"metadata": {"labels": {"a": "b"}}}},
    }
    marked = ownership.mark(deployment, "wine")
    assert marked["metadata"]["labels"] == {"a": "b", "ml-deploy/app": "wine"}
    assert marked["spec"] == deployment["spec"] and deployment["metadata"]["labels"] == {"a": "b"}  # type: ignore[index]


class Deleting:
    """A cluster with an object on its way out; anything else than to wait for that and to apply is a surprise."""

    namespace = "ml"

    def __init__(self, *events: Event | None) -> None:
        self.events, self.calls = events, list[str]()

    def list(self, api_version: str, kind: str, namespace: str) -> list[Object]:
        assert kind == "HorizontalPodAutoscaler"
        return []

    def get(self, ref: Ref) -> Object:
        self.calls.append("get")
        return LEAVING

    def watch(self, *where: str, name: str, seconds: float) -> Iterator[Event | None]:
        self.calls.append(f"wait {seconds:g} s for {name}")
        yield from self.events

    def apply(self, obj: Object, *, dry_run: bool) -> Applied:
        self.calls.append("apply")
        return Applied(obj)


LEAVING: Object = {
    "apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "web", "uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/lb"]},
}  # fmt: skip


def test_what_is_being_deleted_is_made_anew_once_it_is_gone() -> None:
    cluster = Deleting(Event("MODIFIED", LEAVING), Event("DELETED", LEAVING))
    told: list[str] = []
    applier = ownership.Applier(cast(Cluster, cluster), "wine", [], tell=told.append, left=lambda: 12.5)
    assert applier.apply({**LEAVING, "metadata": {"name": "web"}}).live is None
    assert cluster.calls == ["get", "wait 12.5 s for web", "apply"]
    assert told == [
        "Service web in namespace ml is being deleted and waits for example.com/lb: it is made anew once it is gone"
    ]


def test_what_does_not_go_until_the_deadline_stops_it() -> None:
    cluster = Deleting(Event("MODIFIED", LEAVING))
    applier = ownership.Applier(cast(Cluster, cluster), "wine", [], tell=lambda _: None, left=lambda: 7.0)
    with pytest.raises(TimedOut, match="is not gone at the deadline, 7 s later: it waits for example"):
        applier.apply({**LEAVING, "metadata": {"name": "web"}})
    assert "apply" not in cluster.calls
