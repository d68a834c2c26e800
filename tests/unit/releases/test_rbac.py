"""Rights are asked for ahead, and the missing ones named."""

from __future__ import annotations

from typing import cast

import pytest

from ml_deploy.errors import Forbidden
from ml_deploy.releases import rbac
from ml_deploy.releases.cluster import Cluster, Kind, Object

KINDS = {
    "ConfigMap": Kind("v1", "ConfigMap", "configmaps", True),
    "Namespace": Kind("v1", "Namespace", "namespaces", False),
    "Deployment": Kind("apps/v1", "Deployment", "deployments", True),
}


class Fake:
    """Knows kinds and rights."""

    namespace = "ml"

    def __init__(self, missing: tuple[str, ...]) -> None:
        self._missing = missing

    def kind(self, api_version: str, kind: str) -> Kind:
        return KINDS[kind]

    def allowed(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> bool:
        assert namespace in ("ml", "")
        return f"{verb} {resource}" not in self._missing


def fake(*missing: str) -> Cluster:
    return cast(Cluster, Fake(missing))


def deployment() -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ml"}}


def test_missing_rights_are_named_with_a_role() -> None:
    needed = rbac.needed(fake(), [deployment()], deploys=True, cases=True)
    rbac.check(fake(), needed)
    with pytest.raises(Forbidden) as caught:
        rbac.check(fake("create leases", "update leases", "watch deployments"), needed)
    assert "deployments (watch), leases (create, update) in namespace ml." in caught.value.message
    assert '{apiGroups: ["coordination.k8s.io"], resources: [leases], verbs: [create, update]}' in caught.value.details
    assert '{apiGroups: ["apps"], resources: [deployments], verbs: [watch]}' in caught.value.details


def test_rights_for_cases_are_needed_only_with_cases() -> None:
    with_cases, without = (rbac.needed(fake(), [], deploys=True, cases=asks) for asks in (True, False))
    assert rbac.Right("create", "", "pods/proxy", "ml") in with_cases
    assert not [one for one in without if one.resource == "pods/proxy"]


def test_copies_of_configuration_that_cases_need_are_asked_for_ahead() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ml"}}
    needed = rbac.needed(fake(), [config], deploys=True, cases=True)
    assert {one.verb for one in needed if one.resource == "configmaps"} == {"get", "create", "patch", "list", "delete"}


def test_a_dry_run_needs_no_right_to_keep_records() -> None:
    needed = rbac.needed(fake(), [deployment()], deploys=False, cases=False)
    assert {one.resource for one in needed} == {"deployments", "horizontalpodautoscalers"}


def test_what_is_cluster_scoped_needs_a_cluster_role() -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}}
    needed = rbac.needed(fake(), [namespace], deploys=False, cases=False)
    with pytest.raises(Forbidden, match=r"namespaces \(create\) in the whole cluster") as caught:
        rbac.check(fake("create namespaces"), needed)
    assert "kind: ClusterRole" in caught.value.details
