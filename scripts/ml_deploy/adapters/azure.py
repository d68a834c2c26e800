"""Azure: tokens through azure-cli-core, ARM through plain HTTPS. The only module that knows either.

Signing in, first match wins:
1. `client_id` + `tenant_id` and GitHub's OIDC: the assertion is a callable, asked afresh for
   every scope. A fixed one is stale five minutes after `azure/login`, and each new scope then
   fails with AADSTS700024 (https://github.com/Azure/azure-cli/issues/28708).
2. `client_id` + `tenant_id` + `client_secret`.
3. The session that `az login` or `azure/login` left.

Endpoints are those of azure-cli-core's cloud, so AZURE_CLOUD_NAME and AZURE_CONFIG_DIR
choose sovereign clouds and local stand-ins.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from ml_deploy.adapters.rest import Rest, decoded, unreachable
from ml_deploy.errors import AuthFailed, Forbidden, InputError, MlDeployError, RegistryError, Unreachable

ACR_SCOPE = "https://containerregistry.azure.net/.default"

_ACR_API = "2025-11-01"
_AKS_API = "2026-06-01"
_SUBSCRIPTIONS_API = "2022-12-01"
_RESOURCES_API = "2021-04-01"


@dataclass(frozen=True)
class Cloud:
    """Where this Azure lives."""

    name: str
    authority: str
    arm: str
    arm_scope: str
    acr_suffix: str
    instance_discovery: bool


@dataclass(frozen=True)
class AzureRegistry:
    """What ARM says of a registry."""

    login_server: str
    abac: bool
    resource_id: str


@dataclass(frozen=True)
class AksCredential:
    """How to reach an AKS cluster.

    kubeconfig: parsed, with one user. Where `scope` is set that user is empty, and every request
    needs `Authorization: Bearer <Azure.token(scope)>`; else the user holds a certificate or token.
    hint: what may be wrong when the API server does not answer (a private cluster, IP ranges).
    """

    kubeconfig: dict[str, Any]
    scope: str = ""
    hint: str = ""


class Azure:
    """One identity in one cloud. Nothing is asked before the first use."""

    def __init__(
        self,
        *,
        client_id: str = "",
        tenant_id: str = "",
        subscription_id: str = "",
        client_secret: str = "",
        assertion: Callable[[], str] | None = None,
        folder: Callable[[], Path] | None = None,
        rest: Rest | None = None,
    ) -> None:
        """assertion: fetches a fresh OIDC token from GitHub; called once per scope.

        folder: where azure-cli-core may keep its files when the user has no ~/.azure.
        """
        self._client_id = client_id
        self._tenant_id = tenant_id
        self._subscription_id = subscription_id
        self._client_secret = client_secret
        self._assertion = assertion
        self._folder = folder or (lambda: Path(tempfile.mkdtemp(prefix="ml-deploy-azure-")))
        self._subject = ""
        self._rest = rest or Rest()

    # -- tokens ----------------------------------------------------------------------------------

    @cached_property
    def cloud(self) -> Cloud:
        """The active cloud's endpoints. Raises InputError when its name is unknown."""
        config = _config(self._folder)
        from azure.cli.core.cloud import get_clouds

        name = config.get("cloud", "name", fallback="AzureCloud")
        os.environ.setdefault("AZURE_CLOUD_NAME", name)  # or azure-cli-core would write it into the config
        found = next((c for c in get_clouds(SimpleNamespace(config=config)) if c.name == name), None)
        if found is None:
            raise InputError(
                f"azure-cli-core knows no cloud named {name!r}.",
                hint="Set AZURE_CLOUD_NAME to AzureCloud, AzureUSGovernment, AzureChinaCloud, or one in clouds.config.",
            )
        return Cloud(
            name=name,
            authority=found.endpoints.active_directory.rstrip("/"),
            arm=found.endpoints.resource_manager.rstrip("/"),
            arm_scope=found.endpoints.active_directory_resource_id + "/.default",
            acr_suffix=found.suffixes.acr_login_server_endpoint,
            instance_discovery=config.getboolean("core", "instance_discovery", True),
        )

    def token(self, scope: str) -> str:
        """A bearer token for `scope` (it ends in `/.default`), cached until it expires.

        Raises AuthFailed with a remedy per AADSTS code, or Unreachable.
        """
        import requests
        from azure.cli.core.azclierror import AuthenticationError
        from knack.util import CLIError

        try:
            return self._acquire(scope)
        except MlDeployError:
            raise
        except AuthenticationError as error:
            raise _refused(str(error), self._who(), self._subject) from error
        except requests.RequestException as error:
            raise unreachable(self.cloud.authority, error) from error
        except (CLIError, ValueError) as error:  # ValueError: MSAL could not read the tenant's configuration
            raise _refused(str(error), self._who(), self._subject) from error

    @property
    def tenant(self) -> str:
        """The tenant's ID."""
        return self._tenant_id or self._session_account[1]

    @cached_property
    def subscription(self) -> str:
        """The subscription to look in: the given one, the session's, or the only one there is."""
        if self._subscription_id:
            return self._subscription_id
        if not self._client_id:
            return self._session_account[0]
        found = [s["subscriptionId"] for s in self._arm("GET", "/subscriptions", _SUBSCRIPTIONS_API).get("value", [])]
        if len(found) == 1:
            return str(found[0])
        seen = f"{len(found)} subscriptions" if found else "no subscription"
        raise InputError(f"{self._who()} sees {seen}, so it must be said which one.", hint="Set `subscription-id`.")

    def _acquire(self, scope: str) -> str:
        if self._client_id:
            return str(self._credential.acquire_token([scope])["access_token"])
        (_, token, _), _, _ = self._profile.get_raw_token(scopes=[scope], subscription=self._subscription_id or None)
        return str(token)

    @cached_property
    def _credential(self) -> Any:
        cloud = self.cloud
        from azure.cli.core.auth.msal_credentials import ServicePrincipalCredential

        return ServicePrincipalCredential(
            self._client_id,
            self._client_secret or {"client_assertion": self._fresh_assertion},
            authority=f"{cloud.authority}/{self._tenant_id}",
            instance_discovery=None if cloud.instance_discovery else False,
        )

    def _fresh_assertion(self) -> str:
        if self._assertion is None:
            raise AuthFailed(
                "There is no OIDC token to sign in with.", hint="Set `client-secret`, or run on GitHub Actions."
            )
        token = self._assertion()
        self._subject = str(claims(token).get("sub", ""))
        return token

    @cached_property
    def _profile(self) -> Any:
        _config(self._folder)
        from azure.cli.core import get_default_cli
        from azure.cli.core._profile import Profile

        return Profile(cli_ctx=get_default_cli())

    @cached_property
    def _session_account(self) -> tuple[str, str]:
        """Subscription and tenant of the Azure CLI's session."""
        from knack.util import CLIError

        try:
            account = self._profile.get_subscription(self._subscription_id or None)
        except CLIError as error:
            raise _refused(str(error), self._who(), "") from error
        return str(account["id"]), str(account["tenantId"])

    def _who(self) -> str:
        return f"The application {self._client_id}" if self._client_id else "The Azure CLI session"

    # -- ARM -------------------------------------------------------------------------------------

    def registry(self, name: str) -> AzureRegistry | None:
        """The registry called `name` in the subscription, or None when this identity sees none.

        The login server is asked for, never built from the name: registries with a domain name
        label have one that differs.
        """
        kind = "Microsoft.ContainerRegistry/registries"
        query = quote(f"resourceType eq '{kind}' and name eq '{name}'")
        path = f"/subscriptions/{self.subscription}/resources?$filter={query}"
        found = self._arm("GET", path, _RESOURCES_API).get("value", [])
        if not found:
            return None
        resource_id = str(found[0]["id"])
        properties = self._arm("GET", resource_id, _ACR_API)["properties"]
        return AzureRegistry(
            login_server=str(properties["loginServer"]),
            abac=properties.get("roleAssignmentMode") == "AbacRepositoryPermissions",
            resource_id=resource_id,
        )

    def aks(self, group: str, name: str) -> AksCredential:
        """Credentials for a managed cluster, without kubelogin and without `az`.

        Raises InputError (no such cluster), Forbidden (with the role to grant), Unreachable
        (the cluster is stopped), AuthFailed.
        """
        path = (
            f"/subscriptions/{self.subscription}/resourceGroups/{quote(group)}"
            f"/providers/Microsoft.ContainerService/managedClusters/{quote(name)}"
        )
        what = f"AKS cluster {name} (resource group {group}, subscription {self.subscription})"
        role = "Azure Kubernetes Service Cluster User Role"
        properties = self._arm("GET", path, _AKS_API, what=what, role=role).get("properties", {})
        if properties.get("powerState", {}).get("code") == "Stopped":
            raise Unreachable(
                f"The {what} is stopped.", hint=f"Start it: az aks start --resource-group {group} --name {name}"
            )
        listed = self._arm(
            "POST", f"{path}/listClusterUserCredential?format=exec", _AKS_API, what=what, role=role
        )  # fmt: skip
        return _aks_credential(listed, _aks_hint(properties), what)

    def _arm(self, method: str, path: str, version: str, *, what: str = "", role: str = "Reader") -> dict[str, Any]:
        url = f"{self.cloud.arm}{path}{'&' if '?' in path else '?'}api-version={version}"
        headers = {"Authorization": f"Bearer {self.token(self.cloud.arm_scope)}"}
        answer = self._rest.send(method, url, headers=headers)
        content = decoded(answer)
        if answer.ok and isinstance(content, dict):
            return content
        error = content.get("error", {}) if isinstance(content, dict) else {}
        detail = f"{error.get('code', answer.status_code)}: {str(error.get('message', ''))[:300]}"
        raise self._arm_error(answer.status_code, detail, what or path.partition("?")[0], role)

    def _arm_error(self, status: int, detail: str, what: str, role: str) -> MlDeployError:
        if status == 401:
            return AuthFailed(
                f"Azure Resource Manager does not accept the token of {self._who()} ({detail}).",
                hint="Check `tenant-id`: the subscription must belong to that tenant.",
            )
        if status == 403:
            return Forbidden(
                f"{self._who()} may not read {what} ({detail}).",
                hint=f"Grant it the role `{role}` there; a new assignment takes up to five minutes to count.",
            )
        if status == 404:
            return InputError(
                f"Azure has no {what} ({detail}).",
                hint="Check `resource-group`, `cluster-name` and `subscription-id`.",
            )
        if status == 429 or status >= 500:
            return Unreachable(f"Azure Resource Manager stayed unavailable for {what} ({detail}).", hint="Try later.")
        return RegistryError(f"Azure refused {what} ({detail}).", title="Azure refused")


def claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified (its receiver verifies); empty when it is none."""
    try:
        body = token.split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return content if isinstance(content, dict) else {}


def _config(folder: Callable[[], Path]) -> Any:
    """azure-cli-core's configuration. Where there is none, its files go to `folder`, not to the home."""
    if not os.environ.get("AZURE_CONFIG_DIR") and not Path("~/.azure").expanduser().is_dir():
        os.environ["AZURE_CONFIG_DIR"] = str(folder())
    os.environ.setdefault("AZURE_CORE_COLLECT_TELEMETRY", "false")
    from azure.cli.core._environment import get_config_dir
    from knack.config import CLIConfig

    return CLIConfig(config_dir=get_config_dir(), config_env_var_prefix="AZURE")


# -- AKS -------------------------------------------------------------------------------------------


def _aks_credential(listed: dict[str, Any], hint: str, what: str) -> AksCredential:
    import yaml

    configs = listed.get("kubeconfigs") or []
    if not configs:
        raise Unreachable(f"Azure gave no kubeconfig for the {what}.", hint="Check that the cluster is provisioned.")
    kubeconfig: dict[str, Any] = yaml.safe_load(base64.b64decode(configs[0]["value"]))
    user: dict[str, Any] = kubeconfig["users"][0]["user"]
    server_id = _server_id(user)
    if server_id:
        user.clear()
    return AksCredential(kubeconfig=kubeconfig, scope=f"{server_id}/.default" if server_id else "", hint=hint)


def _server_id(user: dict[str, Any]) -> str:
    """The Entra application of the API server, empty for a user with a certificate or token of its own."""
    args = [str(a) for a in user.get("exec", {}).get("args", [])]
    if "--server-id" in args[:-1]:
        return args[args.index("--server-id") + 1]
    return str(user.get("auth-provider", {}).get("config", {}).get("apiserver-id", ""))


def _aks_hint(properties: dict[str, Any]) -> str:
    access = properties.get("apiServerAccessProfile") or {}
    state = str(properties.get("provisioningState") or "Succeeded")
    if access.get("enablePrivateCluster"):
        return (
            "It is a private cluster: its API server answers inside its virtual network only. Run the job on a self-hosted "
            "runner in that network or one that is peered with it, with its private DNS zone; GitHub's own runners cannot."
        )
    if access.get("authorizedIPRanges"):
        return "Its API server answers to authorized IP ranges only: add this runner's address, or use a runner inside."
    if state not in ("Succeeded", "Updating", "Upgrading"):
        return f"Azure says that the cluster is {state}: wait until it is `Succeeded` (az aks show), or mend it first."
    return ""


# -- what Entra says ---------------------------------------------------------------------------------

_REMEDIES: dict[str, str] = {
    "700024": "The OIDC token of `azure/login` lives five minutes and has expired. Give this action `client-id` and "
    "`tenant-id` (with `permissions: id-token: write`): it then asks GitHub for a fresh one whenever it needs one.",
    "700016": "Check `client-id` and `tenant-id`: the tenant does not know that application.",
    "90002": "Check `tenant-id`: there is no such tenant in this cloud.",
    "900023": "Check `tenant-id`: it is neither a GUID nor a verified domain.",
    "7000215": "Check `client-secret`: it must be the secret's value, not its ID.",
    "7000222": "The client secret has expired: make a new one, or switch to OIDC, which stores none.",
    "7000112": "The application is disabled in the tenant: ask its administrator.",
    "53003": "A Conditional Access policy blocks this sign-in: ask the tenant's administrator.",
    "500011": "The tenant does not know the service that the token is for: check `tenant-id`.",
    "700082": "The session has expired: run `az login` again.",
    "70043": "The session has expired: run `az login` again.",
    "50173": "The session was revoked: run `az login` again.",
}
_FEDERATION = ("70021", "700211", "700212", "700213")


def _refused(text: str, who: str, subject: str) -> AuthFailed:
    """Our error for what Entra, MSAL or azure-cli-core said."""
    found = re.search(r"AADSTS(\d+)", text)
    code = found[1] if found else ""
    said = " ".join(re.split(r"\s*(?:Trace ID|Timestamp|Correlation ID):", text)[0].split())[:400]
    if code in _FEDERATION:
        mine = f" whose subject is `{subject}`" if subject else ""
        hint = (
            "Add a federated credential to the application with issuer https://token.actions.githubusercontent.com, "
            f"audience api://AzureADTokenExchange, for this job{mine}."
        )
    elif code:
        hint = _REMEDIES.get(code, f"Look up https://login.microsoftonline.com/error?code={code}.")
    elif "authority configuration" in text:
        said, hint = "the tenant has no sign-in page", _REMEDIES["90002"]
    elif "az login" in text:
        return AuthFailed(
            "Nobody is signed in to Azure: neither `client-id` and `tenant-id` are set, nor is there an Azure CLI session.",
            hint="Set them and grant the job `permissions: id-token: write`, or run `azure/login` before this step.",
        )
    else:
        hint = "Set `client-id` and `tenant-id` (OIDC), or sign in with `azure/login` or `az login` before this step."
    return AuthFailed(f"{who} cannot sign in to Azure: {said.rstrip('.')}.", hint=hint)
