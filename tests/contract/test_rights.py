"""The Role and the Azure role that ship say the same."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "actions" / "deploy-aks"
ROLE = next(yaml.safe_load_all((FOLDER / "rbac.yaml").read_text()))
AZURE = json.loads((FOLDER / "azure-role.json").read_text())
BUILT_IN = {"apps", "autoscaling", "policy", "batch", "networking.k8s.io", "coordination.k8s.io"}
PREFIX = "Microsoft.ContainerService/managedClusters/"


def data_action(group: str, resource: str) -> str:
    """What Azure calls a resource; a group that Azure does not know is a custom resource."""
    main = resource.partition("/")[0]  # `pods/log` is below `pods`
    if group and group not in BUILT_IN:
        return f"{PREFIX}customresources"
    return f"{PREFIX}{group}/{main}" if group else f"{PREFIX}{main}"


def test_the_azure_role_allows_what_the_role_allows() -> None:
    granted = set(AZURE["DataActions"])
    for rule in ROLE["rules"]:
        kinds = ["read"] if set(rule["verbs"]) <= {"get", "list", "watch"} else ["read", "write"]
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                action = data_action(group, resource)
                assert f"{action}/*" in granted or {f"{action}/{kind}" for kind in kinds} <= granted, resource


def test_the_azure_role_allows_no_more() -> None:
    named = {
        data_action(group, one) for rule in ROLE["rules"] for group in rule["apiGroups"] for one in rule["resources"]
    }
    assert {action.rpartition("/")[0] for action in AZURE["DataActions"]} == named
    assert AZURE["Actions"] == [PREFIX.rstrip("/") + "/read", PREFIX + "listClusterUserCredential/action"]
