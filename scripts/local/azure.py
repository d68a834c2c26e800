"""A stand-in for what the actions ask of Azure; README.md beside it says what it lacks.

    python scripts/local/azure.py --state DIR [--cluster-kubeconfig FILE] [--port N ...]

It has GitHub's OIDC endpoint, Entra's token endpoint, Azure Resource Manager for one registry and
one AKS cluster, the registry itself (a real one, with ACR's sign-in in front), and a TLS proxy
that stands in for the AKS cluster's API server before any cluster that a kubeconfig names.
DIR/azure.json says where everything is and which environment variables lead clients there.
`/-/settings` (POST) changes its behaviour, `/-/faults` (faults.py) lets it misbehave.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: it has an azure.py

import jwt
import yaml
from aiohttp import web

from local import faults, registry, serving
from local.entra import CLIENT, SECRET, TENANT, Entra

SUBSCRIPTION = "33333333-3333-4333-8333-333333333333"
GROUP, REGISTRY, CLUSTER = "ml-local", "mllocal", "ml-local"

AKS_SERVER = "6dae42f8-4368-4678-94ff-3960e28e3630"
AKS_CLIENT = "80faf920-1908-4b52-b5ef-a8e7bedfc67a"
ACR_AUDIENCE = "https://containerregistry.azure.net"


class ResourceManager:
    """ARM, read-only: one subscription, one group, one registry, one cluster."""

    def __init__(self, base: str, entra: Entra, settings: registry.Settings, login_server: str) -> None:
        self._audience = f"{base}/"
        self._entra = entra
        self._settings = settings
        self._login_server = login_server
        self.kubeconfig = ""

    def install(self, app: web.Application) -> None:
        """Add the routes."""
        group = "/subscriptions/{subscription}/resource{_:[gG]}roups/{group}/providers"
        cluster = group + "/Microsoft.ContainerService/managedClusters/{name}"
        app.middlewares.append(self.middleware)
        app.router.add_get("/subscriptions", self._subscriptions)
        app.router.add_get("/subscriptions/{subscription}/resources", self._resources)
        app.router.add_get(group + "/Microsoft.ContainerRegistry/registries/{name}", self._registry)
        app.router.add_get(cluster, self._cluster)
        app.router.add_post(cluster + "/listClusterUserCredential", self._credential)

    @property
    def middleware(self) -> Any:
        """What ARM judges before it looks at a resource."""

        @web.middleware
        async def judge(request: web.Request, handler: faults.Handler) -> web.StreamResponse:
            if not request.path.startswith("/subscriptions"):
                return await handler(request)
            kind, _, token = request.headers.get("Authorization", "").partition(" ")
            try:
                if kind.lower() != "bearer":
                    return _arm_error(
                        401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
                    )
                self._entra.read(token, self._audience)
            except jwt.InvalidTokenError as error:
                return _arm_error(401, "InvalidAuthenticationToken", f"The access token is invalid: {error}.")
            if "api-version" not in request.query:
                return _arm_error(
                    400,
                    "MissingApiVersionParameter",
                    "The api-version query parameter (?api-version=) is required for all requests.",
                )
            return await self._in_scope(request, handler)

        return judge

    async def _in_scope(self, request: web.Request, handler: faults.Handler) -> web.StreamResponse:
        subscription, group = (request.match_info.get(n) for n in ("subscription", "group"))
        if subscription and subscription != SUBSCRIPTION:
            return _arm_error(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")
        if group and group != GROUP:
            return _arm_error(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        wanted = CLUSTER if "managedClusters" in request.path else REGISTRY
        if request.match_info.get("name", wanted) != wanted:
            path = request.path.partition("/providers/")[2].removesuffix("/listClusterUserCredential")
            return _arm_error(
                404, "ResourceNotFound", f"The Resource '{path}' under resource group '{group}' was not found."
            )
        return await handler(request)

    async def _subscriptions(self, _request: web.Request) -> web.Response:
        one = {"id": f"/subscriptions/{SUBSCRIPTION}", "subscriptionId": SUBSCRIPTION, "tenantId": TENANT,
               "displayName": "local", "state": "Enabled"}  # fmt: skip
        return web.json_response({"value": [one]})

    async def _resources(self, request: web.Request) -> web.Response:
        wanted = dict(re.findall(r"(\w+) eq '([^']*)'", request.query.get("$filter", "")))
        everything = [_resource("Microsoft.ContainerRegistry/registries", REGISTRY),
                      _resource("Microsoft.ContainerService/managedClusters", CLUSTER)]  # fmt: skip
        names = {"resourceType": "type", "name": "name"}
        found = [one for one in everything if all(one[names[k]].lower() == v.lower() for k, v in wanted.items())]
        return web.json_response({"value": found})

    async def _registry(self, _request: web.Request) -> web.Response:
        mode = "AbacRepositoryPermissions" if self._settings.abac else "LegacyRegistryPermissions"
        properties = {"loginServer": self._login_server, "provisioningState": "Succeeded", "adminUserEnabled": True,
                      "roleAssignmentMode": mode, "anonymousPullEnabled": self._settings.anonymous_pull}  # fmt: skip
        one = _resource("Microsoft.ContainerRegistry/registries", REGISTRY)
        return web.json_response({**one, "sku": {"name": "Standard", "tier": "Standard"}, "properties": properties})

    async def _cluster(self, _request: web.Request) -> web.Response:
        properties = {
            "provisioningState": "Succeeded",
            "powerState": {"code": "Stopped" if self._settings.stopped else "Running"},
            "disableLocalAccounts": not self._settings.local_accounts,
            "apiServerAccessProfile": {"enablePrivateCluster": self._settings.private},
        }
        one = _resource("Microsoft.ContainerService/managedClusters", CLUSTER)
        return web.json_response({**one, "properties": properties})

    async def _credential(self, _request: web.Request) -> web.Response:
        if not self.kubeconfig:
            return _arm_error(400, "BadRequest", "The stand-in was started without --cluster-kubeconfig.")
        kubeconfig = self.kubeconfig
        if self._settings.local_accounts:
            content = yaml.safe_load(kubeconfig)
            token = self._entra.access_token(AKS_SERVER)
            content["users"][0]["user"] = {"token": token}
            kubeconfig = yaml.safe_dump(content)
        value = base64.b64encode(kubeconfig.encode()).decode()
        return web.json_response({"kubeconfigs": [{"name": "clusterUser", "value": value}]})


def _resource(kind: str, name: str) -> dict[str, str]:
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{kind}/{name}"
    return {"id": path, "name": name, "type": kind, "location": "local"}


def _arm_error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def _login_user() -> dict[str, Any]:
    """What AKS writes into a kubeconfig for Entra users: kubelogin, as credential plugin."""
    words = ["get-token", "--environment", "AzurePublicCloud", "--server-id", AKS_SERVER,
             "--client-id", AKS_CLIENT, "--tenant-id", TENANT, "--login", "devicecode"]  # fmt: skip
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "kubelogin", "args": words,
                     "env": None, "interactiveMode": "IfAvailable", "provideClusterInfo": False}}  # fmt: skip


def _api_server(backend: faults.Backend, entra: Entra) -> web.Application:
    """The cluster's API server as AKS shows it: bearer tokens of Entra for the server application."""
    app = faults.application(backend)

    @web.middleware
    async def judge(request: web.Request, handler: faults.Handler) -> web.StreamResponse:
        try:
            entra.read(request.headers.get("Authorization", "").partition(" ")[2], AKS_SERVER)
        except jwt.InvalidTokenError:
            if not request.path.startswith("/-/"):
                content = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                           "message": "Unauthorized", "reason": "Unauthorized", "code": 401}  # fmt: skip
                return web.json_response(content, status=401)
        return await handler(request)

    app.middlewares.append(judge)
    return app


def _settings_route(app: web.Application, settings: registry.Settings) -> None:
    async def change(request: web.Request) -> web.Response:
        try:
            settings.change(await request.json())
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return web.json_response(vars(settings))

    app.router.add_post("/-/settings", change)


def _environment(state: Path, base: str, request_token: str, bundle: Path) -> dict[str, str]:
    """What leads azure-cli-core, requests, Python's TLS and the actions' OIDC to the stand-in."""
    folder = state / "azure-cli"
    folder.mkdir(exist_ok=True)
    (folder / "clouds.config").write_text(
        "[AzureLocal]\n"
        f"endpoint_active_directory = {base}\n"
        + "".join(
            f"endpoint_{name} = {base}/\n"
            for name in (
                "active_directory_resource_id",
                "active_directory_graph_resource_id",
                "management",
                "resource_manager",
            )
        )
        + "suffix_acr_login_server_endpoint = .azurecr.localhost\n"
    )
    return {
        "AZURE_CONFIG_DIR": str(folder),
        "AZURE_CLOUD_NAME": "AzureLocal",
        "AZURE_CORE_INSTANCE_DISCOVERY": "false",
        "AZURE_CORE_COLLECT_TELEMETRY": "false",
        "REQUESTS_CA_BUNDLE": str(bundle),
        "SSL_CERT_FILE": str(bundle),
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{base}/github/oidc?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": request_token,
    }


async def main(args: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    state = Path(args.state).resolve()
    state.mkdir(parents=True, exist_ok=True)
    (state / "azure.json").unlink(missing_ok=True)  # of a start that was killed
    authority = serving.Authority(state)
    settings = registry.Settings()
    port, registry_port = args.port or serving.free_port(), args.registry_port or serving.free_port()
    base, login_server = f"https://localhost:{port}", f"localhost:{registry_port}"
    entra = Entra(base, settings)
    manager = ResourceManager(base, entra, settings, login_server)
    app = web.Application()
    faults.Faults().install(app)
    entra.install(app)
    manager.install(app)
    _settings_route(app, settings)

    async with AsyncExitStack() as stack:
        signer = registry.Signer(authority, login_server, state)
        address = await stack.enter_async_context(
            registry.distribution(state, serving.free_port(), signer.auth(f"https://{login_server}/oauth2/token"))
        )
        backend = await stack.enter_async_context(faults.Backend.of_url(address))
        front = registry.Front(signer, lambda token: entra.read(token, ACR_AUDIENCE, f"{base}/"), settings)
        await stack.enter_async_context(
            serving.served_both(front.application(backend), registry_port, authority.server())
        )
        await stack.enter_async_context(serving.served(app, port, authority.server()))
        told = _told(base, login_server, authority)
        if args.cluster_kubeconfig:
            cluster = serving.cluster_address(Path(args.cluster_kubeconfig))
            behind = await stack.enter_async_context(faults.Backend.of_cluster(cluster))
            cluster_port = await stack.enter_async_context(
                serving.served(_api_server(behind, entra), args.cluster_port, authority.server())
            )
            told["cluster_server"] = f"https://localhost:{cluster_port}"
            manager.kubeconfig = serving.kubeconfig(
                told["cluster_server"], authority.ca, _login_user(), cluster.namespace
            )
        environment = _environment(state, base, entra.request_token, authority.bundle)
        await serving.ready(state / "azure.json", {**told, "env": environment})


def _told(base: str, login_server: str, authority: serving.Authority) -> dict[str, Any]:
    return {
        "azure": base,
        "login_server": login_server,
        "inputs": {
            "client-id": CLIENT,
            "tenant-id": TENANT,
            "subscription-id": SUBSCRIPTION,
            "resource-group": GROUP,
            "cluster-name": CLUSTER,
            "registry": REGISTRY,
        },
        "client_secret": SECRET,
        "username": registry.Settings.admin_user,
        "password": registry.Settings.admin_password,
        "ca": str(authority.ca),
        "bundle": str(authority.bundle),
        "settings": vars(registry.Settings()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", required=True, help="folder for azure.json, certificates and images")
    parser.add_argument("--cluster-kubeconfig", help="the cluster that stands for the AKS cluster")
    for what in ("port", "registry-port", "cluster-port"):
        parser.add_argument(f"--{what}", type=int, default=0, help="default: a free one")
    asyncio.run(main(parser.parse_args()))
