"""What a rollback may remove and may write back: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases import restore
from ml_deploy.releases.history import Release


def obj(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "ml"}}


TARGET = Release(app="wine", namespace="ml", revision=1, born="2026-01-01T00:00:00Z", objects=(obj("Service", "s"),))
UNDONE = Release(
    app="wine", namespace="ml", revision=2, uids={"/ConfigMap/ml/c": "u1"},
    objects=(obj("ConfigMap", "c"), obj("Service", "s"), obj("Secret", "x")),
)  # fmt: skip


def live(kind: str = "ConfigMap", **meta: Any) -> dict[str, Any]:
    made = {"name": "c", "uid": "u1", "creationTimestamp": "2026-01-02T00:00:00Z", "labels": {"ml-deploy/app": "wine"}}
    return {"kind": kind, "metadata": {**made, **meta}}


def test_extra_is_what_only_the_undone_release_had_last_applied_first() -> None:
    assert [one["metadata"]["name"] for one in restore.extra(TARGET, UNDONE)] == ["x", "c"]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (live(), ""),
        (live(uid="u2"), "made anew"),
        (live(labels={}), "mark"),
        (live(labels={"ml-deploy/app": "other"}), "mark"),
        (live(creationTimestamp="2025-12-31T00:00:00Z"), "before"),
    ],
)
def test_only_what_it_made_itself_is_removed(there: dict[str, Any], words: str) -> None:
    reason = restore.untouchable(obj("ConfigMap", "c"), there, TARGET, UNDONE, namespaced=True)
    assert words in reason and bool(reason) == bool(words)


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"])
def test_what_may_hold_data_is_never_removed(kind: str) -> None:
    assert restore.untouchable(obj(kind, "c"), live(kind), TARGET, UNDONE, namespaced=True)


def test_nothing_cluster_scoped_is_removed() -> None:
    assert "cluster" in restore.untouchable(
        obj("ClusterRole", "c"), live("ClusterRole"), TARGET, UNDONE, namespaced=False
    )


@pytest.mark.parametrize(
    ("kind", "there", "revision", "words"),
    [
        ("Job", None, 1, "left"), ("PersistentVolumeClaim", live(), 1, "left"), ("PersistentVolumeClaim", None, 1, ""),
        ("ConfigMap", live(), 1, ""), ("ConfigMap", None, 0, ""), ("ConfigMap", live(), 0, ""),
        ("ConfigMap", live(labels={}, annotations={"meta.helm.sh/release-name": "shop"}), 0, "belongs to Helm release shop"),
        ("ConfigMap", live(labels={}, annotations={"meta.helm.sh/release-name": "shop"}), 1, ""),
    ],
)  # fmt: skip
def test_what_a_rollback_leaves_alone(kind: str, there: dict[str, Any] | None, revision: int, words: str) -> None:
    reason = restore.left_alone(obj(kind, "c"), there, Release(app="wine", namespace="ml", revision=revision))
    assert words in reason and bool(reason) == bool(words)


@pytest.mark.parametrize(
    ("recorded", "held", "rotated"),
    [
        ({"data": {"a": "MQ=="}}, {"data": {"a": "MQ=="}}, False),
        ({"stringData": {"a": "1"}}, {"data": {"a": "MQ=="}}, False),
        ({"data": {"a": "MA=="}, "stringData": {"a": "1"}}, {"data": {"a": "MQ=="}}, False),
        ({"stringData": {"a": "1"}}, {"data": {"a": "Mg=="}}, True),
        ({"stringData": {"a": "1"}}, {"data": {"a": "MQ==", "b": "MQ=="}}, True),
        ({}, {}, False),
    ],
)
def test_a_secret_is_rotated_when_its_values_differ(
    recorded: dict[str, Any], held: dict[str, Any], rotated: bool
) -> None:
    assert restore.rotated(recorded, held) is rotated
