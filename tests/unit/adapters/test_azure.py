"""What the Azure adapter reads: kubeconfigs, tokens, Entra's error codes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from ml_deploy.adapters.azure import _aks_credential, _aks_hint, _refused, claims
from ml_deploy.errors import Unreachable


def listed(user: dict[str, Any]) -> dict[str, Any]:
    config = {"users": [{"name": "clusterUser", "user": user}]}
    return {
        "kubeconfigs": [{"name": "clusterUser", "value": base64.b64encode(yaml.safe_dump(config).encode()).decode()}]
    }


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"command": "kubelogin", "args": ["get-token", "--server-id", "the-server", "--login", "devicecode"]}},
        {"auth-provider": {"name": "azure", "config": {"apiserver-id": "the-server", "tenant-id": "t"}}},
    ],
    ids=["kubelogin", "auth-provider"],
)
def test_users_of_entra_become_empty_and_the_scope_is_the_servers(user: dict[str, Any]) -> None:
    credential = _aks_credential(listed(user), "", "cluster")
    assert credential.scope == "the-server/.default"
    assert credential.kubeconfig["users"][0]["user"] == {}


def test_local_accounts_keep_their_credential() -> None:
    user = {"client-certificate-data": "Y2VydA==", "client-key-data": "a2V5", "token": "t"}
    credential = _aks_credential(listed(user), "", "cluster")
    assert (credential.scope, credential.kubeconfig["users"][0]["user"]) == ("", user)


def test_no_credential_at_all_is_an_error() -> None:
    with pytest.raises(Unreachable):
        _aks_credential({"kubeconfigs": []}, "", "AKS cluster x")


def test_why_an_api_server_may_be_silent() -> None:
    assert "private cluster" in _aks_hint({"apiServerAccessProfile": {"enablePrivateCluster": True}})
    assert "Starting" in _aks_hint({"provisioningState": "Starting"})
    assert _aks_hint({"provisioningState": "Updating"}) == _aks_hint({}) == ""
    assert "authorized IP ranges" in _aks_hint({"apiServerAccessProfile": {"authorizedIPRanges": ["10.0.0.0/8"]}})
    assert _aks_hint({"apiServerAccessProfile": None}) == ""


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.!!!.c", "a." + base64.urlsafe_b64encode(b"[1]").decode() + ".c"])
def test_what_is_no_token_has_no_claims(token: str) -> None:
    assert claims(token) == {}


def test_claims_of_a_token() -> None:
    body = base64.urlsafe_b64encode(json.dumps({"sub": "repo:o/r"}).encode()).decode().rstrip("=")
    assert claims(f"x.{body}.y") == {"sub": "repo:o/r"}


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("AADSTS700024: Client assertion is not within its valid time range.", "five minutes"),
        ("AADSTS700213: No matching federated identity record found", "`repo:o/r:ref:refs/heads/main`"),
        ("AADSTS90002: Tenant 'x' not found.", "`tenant-id`"),
        ("AADSTS7000222: The provided client secret keys are expired.", "switch to OIDC"),
        ("AADSTS53003: Access has been blocked by Conditional Access policies.", "administrator"),
        ("AADSTS999999: never seen", "login.microsoftonline.com/error?code=999999"),
        ("Please run 'az login' to setup account.", "`azure/login`"),
        ("something else", "OIDC"),
    ],
)
def test_entra_s_codes_come_with_a_remedy(said: str, hint: str) -> None:
    error = _refused(
        f"{said} Trace ID: 1-2 Correlation ID: 3 Timestamp: 4", "The application c", "repo:o/r:ref:refs/heads/main"
    )
    assert hint in error.hint
    assert "Trace ID" not in error.message
