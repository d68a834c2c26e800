"""What of an app goes, in which order, and what stays."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.errors import Forbidden, NoRelease, TimedOut
from ml_deploy.releases import teardown
from ml_deploy.releases.cluster import Applied, Cluster, Kind, Object, Ref
from ml_deploy.releases.history import Release
from ml_deploy.releases.records import Records
from ml_deploy.releases.teardown import Inventory


def live(kind: str, name: str, app: str = "wine", **more: Any) -> Object:
    meta = {"name": name, "namespace": "ml", "uid": f"u-{name}", "labels": {"ml-deploy/app": app}, **more}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": {}}


class FakeCluster:
    """Objects; deleted ones go after a while, or stay when their finalizers say so."""

    namespace = "ml"

    def __init__(self, *objects: Object, may_list: bool = True) -> None:
        self.objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self.calls: list[str] = []
        self.may_list = may_list

    def get(self, ref: Ref) -> Object | None:
        return self.objects.get((ref.kind, ref.name))

    def list(self, api_version: str, kind: str, namespace: str, *, selector: str = "") -> list[Object]:
        if not self.may_list:
            raise Forbidden(f"may not list {kind}")
        return [one for (which, _), one in self.objects.items() if which == kind]

    def kind(self, api_version: str, kind: str) -> Kind | None:
        return Kind(api_version, kind, kind.lower(), kind != "ClusterRole")

    def delete(self, ref: Ref, *, uid: str = "", propagation: str = "") -> bool:
        self.calls.append(f"delete {ref.kind} {ref.name}")
        one = self.objects.get((ref.kind, ref.name))
        if one and not one["metadata"].get("finalizers"):
            del self.objects[ref.kind, ref.name]
        return True

    def apply(self, obj: Object, *, force: bool) -> Applied:
        self.calls.append(f"apply {obj['kind']} {obj['metadata']['name']}")
        return Applied(obj)


class FakeRecords:
    """Two revisions; the older one's record is incomplete."""

    namespace, app = "ml", "wine"

    def __init__(self, cluster: FakeCluster, *objects: Object) -> None:
        self._cluster, self._objects = cluster, objects

    def all(self) -> list[Release]:
        return [Release("wine", "ml", 2), Release("wine", "ml", 1)]

    def load(self, release: Release) -> Release:
        if release.revision == 1:
            raise NoRelease("a part is gone")
        return Release("wine", "ml", 2, objects=self._objects)

    def remove_all(self) -> int:
        self._cluster.calls.append("records")
        return 2


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def found(cluster: FakeCluster, *recorded: Object) -> Inventory:
    return teardown.inventory(cast(Cluster, cluster), cast(Records, FakeRecords(cluster, *recorded)))


def names(inventory: Inventory) -> list[str]:
    return [one["metadata"]["name"] for one in inventory.goes]


def test_services_first_then_the_reverse_of_applying() -> None:
    objects = [live("ConfigMap", "c"), live("Service", "s"), live("Deployment", "d"), live("Ingress", "i")]
    assert names(found(FakeCluster(*objects), *objects)) == ["s", "i", "d", "c"]


def test_what_is_not_recorded_goes_by_its_mark_unless_it_has_an_owner() -> None:
    recorded = live("ConfigMap", "c")
    owned = live("Pod", "p", ownerReferences=[{"uid": "x"}])
    cluster = FakeCluster(recorded, live("ConfigMap", "forgotten"), live("Pod", "asked"), owned)
    assert sorted(names(found(cluster, recorded))) == ["asked", "c", "forgotten"]


def test_without_the_right_to_list_what_is_recorded_is_found_by_name() -> None:
    recorded = live("ConfigMap", "c")
    assert names(found(FakeCluster(recorded, live("ConfigMap", "x"), may_list=False), recorded)) == ["c"]


def test_what_stays_is_told_and_so_are_the_claims_of_a_stateful_set() -> None:
    stateful = live("StatefulSet", "db")
    stateful["spec"] = {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}
    claims = [live("PersistentVolumeClaim", name, app="") for name in ("data-db-0", "data-other-0")]
    role, taken = live("ClusterRole", "r"), live("ConfigMap", "c", app="beer")
    inventory = found(FakeCluster(stateful, *claims, role, taken), stateful, role, taken)
    assert names(inventory) == ["db"]
    assert [words.split(" in ")[0] for words in inventory.stays] == [
        "PersistentVolumeClaim data-db-0", "ClusterRole r", "ConfigMap c",
    ]  # fmt: skip


def tear_down(cluster: FakeCluster, *objects: Object) -> list[str]:
    records = FakeRecords(cluster, *objects)
    return teardown.tear_down(
        cast(Cluster, cluster), cast(Records, records), Inventory(objects), by="hand", until=2.0, clock=Clock(),
        tell=lambda _: None,
    )  # fmt: skip


def test_records_and_lock_go_last() -> None:
    objects = [live("Service", "s"), live("Deployment", "d")]
    cluster = FakeCluster(*objects)
    assert tear_down(cluster, *objects) == ["Service s in namespace ml", "Deployment d in namespace ml"]
    assert cluster.calls == [
        "delete Service s", "delete Deployment d", "apply Event ml-deploy.wine.torn-down", "records",
        "delete Lease ml-deploy.wine",
    ]  # fmt: skip


def test_what_does_not_go_keeps_the_records() -> None:
    held = live("ConfigMap", "c", finalizers=["example.com/wait"])
    cluster = FakeCluster(held)
    with pytest.raises(TimedOut, match="ConfigMap c") as caught:
        tear_down(cluster, held)
    assert "example.com/wait" in caught.value.details and cluster.calls == ["delete ConfigMap c"]
