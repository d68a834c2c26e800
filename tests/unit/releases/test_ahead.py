"""What was made ahead for a release that no user got: what of it goes, and what stays."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.clock import FakeClock

from ml_deploy.errors import Forbidden
from ml_deploy.releases import ahead
from ml_deploy.releases.cluster import Cluster, Kind, Object, Ref
from ml_deploy.releases.history import Release

BORN = "2026-01-02T00:00:00Z"


def obj(kind: str, name: str = "x") -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "ml"}}


def live(kind: str, name: str = "x", **meta: Any) -> Object:
    made = obj(kind, name)
    made["metadata"] |= {"uid": f"u-{name}", "creationTimestamp": BORN, "labels": {"ml-deploy/app": "wine"}, **meta}
    return made


def release(*objects: Object) -> Release:
    uids = {f"/{one['kind']}/ml/{one['metadata']['name']}": f"u-{one['metadata']['name']}" for one in objects}
    return Release("wine", "ml", 2, "failed", objects=objects, uids=uids, born=BORN)


class FakeCluster:
    """Objects, and pods that run under an account; each look at them sees the next of `pods`."""

    def __init__(self, *objects: Object, pods: tuple[list[Object], ...] = (), may: bool = True) -> None:
        self.objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self.pods, self.may = [*pods], may
        self.deleted: list[tuple[str, str]] = []

    def get(self, ref: Ref) -> Object | None:
        return self.objects.get((ref.kind, ref.name))

    def kind(self, api_version: str, kind: str) -> Kind:
        return Kind(api_version, kind, kind.lower(), kind != "ClusterRole")

    def list(self, api_version: str, kind: str, namespace: str, *, fields: str) -> list[Object]:
        assert (kind, namespace, fields) == ("Pod", "ml", "spec.serviceAccountName=x")
        return self.pods.pop(0) if len(self.pods) > 1 else (self.pods or [[]])[0]

    def delete(self, ref: Ref, *, uid: str, propagation: str) -> bool:
        if not self.may:
            raise Forbidden("serviceaccounts may not be deleted")
        self.deleted.append((ref.kind, uid))
        return True


def take_back(cluster: FakeCluster, of: Release, told: list[str] | None = None) -> tuple[str, ...]:
    tell = (told if told is not None else []).append
    return ahead.take_back(cast(Cluster, cluster), of, clock=FakeClock(), tell=tell)


def test_accounts_and_their_rights_go_last_made_first_and_claims_stay_with_a_word() -> None:
    kinds = ("ServiceAccount", "Role", "PersistentVolumeClaim", "ClusterRole")
    cluster, told = FakeCluster(*map(live, kinds)), list[str]()
    stays = take_back(cluster, release(*map(obj, kinds)), told)
    assert cluster.deleted == [("Role", "u-x"), ("ServiceAccount", "u-x")]
    assert told[1] == "removed ServiceAccount x in namespace ml, which was made for revision 2"
    assert stays[1] == ("PersistentVolumeClaim x in namespace ml, made for revision 2, stays: it may hold data")
    assert "it is cluster-scoped" in stays[0] and len(stays) == 2


@pytest.mark.parametrize(
    "there",
    [
        live("ServiceAccount", uid="other"),
        live("ServiceAccount", creationTimestamp="2026-01-01T23:59:59Z"),
        live("ServiceAccount", deletionTimestamp=BORN),
    ],
)
def test_what_it_did_not_make_is_not_spoken_of(there: Object) -> None:
    cluster = FakeCluster(there)
    assert take_back(cluster, release(obj("ServiceAccount"))) == () and cluster.deleted == []


def test_what_was_never_recorded_or_has_a_colour_is_left_to_others() -> None:
    cluster = FakeCluster(live("ServiceAccount"))
    assert take_back(cluster, Release("wine", "ml", 2, objects=(obj("ServiceAccount"),), born=BORN)) == ()
    coloured = obj("ConfigMap")
    coloured["metadata"] |= {"labels": {"ml-deploy/colour": "green"}, "annotations": {"ml-deploy/name": "x"}}
    assert take_back(FakeCluster(live("ConfigMap")), release(coloured)) == () and cluster.deleted == []


def pod(**meta: Any) -> Object:
    return {"metadata": {"name": "p", **meta}, "status": {"phase": "Running"}}


def test_an_account_that_somebody_uses_stays() -> None:
    used = FakeCluster(live("ServiceAccount"), pods=([pod()],))
    assert "it is used by Pod p" in take_back(used, release(obj("ServiceAccount")))[0] and used.deleted == []


def test_pods_that_are_about_to_go_use_nothing() -> None:
    leaving = FakeCluster(live("ServiceAccount"), pods=([pod()], [pod(deletionTimestamp=BORN)]))
    assert take_back(leaving, release(obj("ServiceAccount"))) == () and len(leaving.deleted) == 1


def test_what_may_not_be_deleted_is_said() -> None:
    stays = take_back(FakeCluster(live("ServiceAccount"), may=False), release(obj("ServiceAccount")))
    assert "could not be removed (serviceaccounts may not be deleted)" in stays[0]


def test_what_is_kept_is_said_too() -> None:
    cluster = FakeCluster(live("ServiceAccount"))
    words = ahead.kept(cast(Cluster, cluster), release(obj("ServiceAccount")), "`on-failure: keep`")
    assert words == ("ServiceAccount x in namespace ml, made for revision 2, stays: `on-failure: keep`",)
