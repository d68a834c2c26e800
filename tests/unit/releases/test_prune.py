"""What prune takes, and what it leaves."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.errors import NoRelease
from ml_deploy.releases import prune
from ml_deploy.releases.cluster import Cluster, Kind, Object, Ref
from ml_deploy.releases.history import Release
from ml_deploy.releases.records import Records


def obj(kind: str, name: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "ml"}}


def coloured(kind: str, name: str) -> Object:
    """An object as blue-green makes it, where its name says so."""
    made, (base, _, colour) = obj(kind, name), name.partition("-")
    if colour in ("blue", "green"):
        made["metadata"] |= {"labels": {"ml-deploy/colour": colour}, "annotations": {"ml-deploy/name": base}}
    return made


def live(kind: str, name: str, **meta: Any) -> Object:
    made = obj(kind, name)
    made["metadata"].update(
        {"uid": f"u-{name}", "creationTimestamp": "2026-01-02T00:00:00Z", "labels": {"ml-deploy/app": "wine"}, **meta}
    )
    return made


class FakeCluster:
    """Objects by kind and name; namespaces, claims and roles are what they are."""

    namespace = "ml"

    def __init__(self, *objects: Object) -> None:
        self.objects = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self.deleted: list[tuple[str, str]] = []

    def get(self, ref: Ref) -> Object | None:
        return self.objects.get((ref.kind, ref.name))

    def kind(self, api_version: str, kind: str) -> Kind | None:
        return None if kind == "Unknown" else Kind(api_version, kind, kind.lower(), kind != "ClusterRole")

    def delete(self, ref: Ref, *, uid: str, propagation: str) -> bool:
        self.deleted.append((ref.name, uid))
        return True


class FakeRecords:
    """Loads releases that are whole already."""

    namespace = "ml"

    def load(self, release: Release) -> Release:
        return release


def release(*objects: Object, revision: int = 1, state: str = "deployed", activated: int = 1) -> Release:
    uids = {f"/{one['kind']}/ml/{one['metadata']['name']}": f"u-{one['metadata']['name']}" for one in objects}
    return Release(app="wine", namespace="ml", revision=revision, state=state, activated=activated, objects=objects,
                   uids=uids)  # fmt: skip


def planned(cluster: FakeCluster, releases: list[Release], *objects: Object) -> prune.Pruning:
    return prune.planned(cast(Cluster, cluster), cast(Records, FakeRecords()), releases, objects)


def test_only_what_the_release_before_had_and_this_one_has_not() -> None:
    old = release(obj("ConfigMap", "a"), obj("ConfigMap", "b"), obj("Service", "s"))
    cluster = FakeCluster(*(live("ConfigMap", name) for name in "abc"), live("Service", "s"))
    found = planned(cluster, [old], obj("ConfigMap", "a"))
    assert [one["metadata"]["name"] for one in found.goes] == ["s", "b"] and found.stays == ()
    removed = prune.carry_out(cast(Cluster, cluster), found, tell=lambda _: None)
    assert cluster.deleted == [("s", "u-s"), ("b", "u-b")] and removed[0] == "Service s in namespace ml"


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (live("ConfigMap", "x", labels={"ml-deploy/app": "beer"}), "mark"),
        (live("ConfigMap", "x", labels={}), "mark"),
        (live("ConfigMap", "x", uid="other"), "made anew"),
        (live("ConfigMap", "x", annotations={"helm.sh/resource-policy": "keep"}), "to be kept"),
        (live("PersistentVolumeClaim", "x"), "may hold data"),
        (live("Namespace", "x"), "may hold data"),
        (live("ClusterRole", "x"), "cluster-scoped"),
    ],
)
def test_what_stays_and_why(there: Object, why: str) -> None:
    found = planned(FakeCluster(there), [release(obj(there["kind"], "x"))])
    assert found.goes == () and len(found.stays) == 1 and why in found.stays[0]
    assert found.lines() == list(found.stays)


def test_an_object_whose_uid_was_never_recorded_stays() -> None:
    old = Release("wine", "ml", 1, "deployed", objects=(obj("ConfigMap", "x"),), born="2026-01-02T00:00:00Z")
    assert planned(FakeCluster(live("ConfigMap", "x")), [old]).goes == ()


@pytest.mark.parametrize(("born", "goes"), [("2026-01-01T23:59:59Z", 1), ("2026-01-02T00:00:01Z", 0), ("", 0)])
def test_a_run_that_was_killed_recorded_no_uids_but_what_it_made_goes(born: str, goes: int) -> None:
    killed = Release("wine", "ml", 2, "failed", objects=(obj("ConfigMap", "x"),), born=born)
    assert len(planned(FakeCluster(live("ConfigMap", "x")), [killed]).goes) == goes


def test_an_incomplete_record_keeps_nobody_from_deploying() -> None:
    class Torn(FakeRecords):
        def load(self, release: Release) -> Release:
            raise NoRelease("a part of it is gone")

    found = prune.planned(cast(Cluster, FakeCluster()), cast(Records, Torn()), [release(obj("ConfigMap", "x"))], [])
    assert found.goes == () and found.lines() == ["what only revision 1 had stays: its record is incomplete"]


def test_what_is_gone_already_is_not_spoken_of() -> None:
    assert planned(FakeCluster(), [release(obj("ConfigMap", "x"), obj("Unknown", "y"))]) == prune.Pruning()


@pytest.mark.parametrize("ours", ["web", "web-green"])
@pytest.mark.parametrize("theirs", ["web", "web-blue"])
def test_colours_are_left_to_their_strategy(ours: str, theirs: str) -> None:
    found = planned(
        FakeCluster(live("Deployment", theirs)), [release(coloured("Deployment", theirs))], coloured("Deployment", ours)
    )
    assert found == prune.Pruning()


@pytest.mark.parametrize(("labels", "goes"), [({}, 1), ({"ml-deploy/role": "canary"}, 0)])
def test_a_canary_of_ours_is_left_to_its_strategy_and_what_users_called_so_goes(
    labels: dict[str, str], goes: int
) -> None:
    there = live("Deployment", "web-canary", labels={"ml-deploy/app": "wine", **labels})
    found = planned(FakeCluster(there), [release(obj("Deployment", "web-canary"))], obj("Deployment", "web"))
    assert len(found.goes) == goes and found.stays == ()


def test_a_name_in_another_namespace_is_another_object() -> None:
    elsewhere = obj("Deployment", "web")
    elsewhere["metadata"]["namespace"] = "other"
    there = live("Deployment", "web", namespace="other")
    old = Release(
        "wine", "ml", 1, "deployed", activated=1, objects=(elsewhere,), uids={"/Deployment/other/web": "u-web"}
    )
    assert planned(FakeCluster(there), [old], obj("Deployment", "web")).goes == (there,)


def test_what_stands_beside_a_users_own_canary_goes_too() -> None:
    there = live("Deployment", "web")
    found = planned(FakeCluster(there), [release(obj("Deployment", "web"))], obj("Deployment", "web-canary"))
    assert found.goes == (there,)


def test_the_release_before_and_those_behind_one_that_never_finished() -> None:
    first = release(revision=1, state="superseded", activated=1)
    good = release(revision=2, state="deployed", activated=2)
    failed = release(revision=3, state="failed", activated=3)
    never = release(revision=4, state="failed", activated=0)
    assert prune.before([never, failed, good, first]) == [failed, good]
    assert prune.before([good, first]) == [good]
    assert prune.before([]) == []


def test_after_a_rollback_it_is_the_one_that_was_restored() -> None:
    restored = release(revision=1, state="good", activated=3)
    assert prune.before([release(revision=2, state="rolled-back", activated=2), restored]) == [restored]
