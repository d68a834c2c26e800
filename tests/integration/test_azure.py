"""The Azure adapter and azure-cli-core, unmodified, against the stand-in."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from tests.integration.conftest import AzureStandIn, clean_environment, start_local

ACR = "https://containerregistry.azure.net/.default"
PROBE = Path(__file__).with_name("azure_probe.py")


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))  # type: ignore[no-any-return]


class Ask:
    """Runs the probe with the stand-in's environment."""

    def __init__(self, azure: AzureStandIn, folder: Path) -> None:
        self.azure = azure
        self.env = clean_environment(folder) | azure.told["env"]
        ids = azure.told["inputs"]
        self.oidc = {"client_id": ids["client-id"], "tenant_id": ids["tenant-id"]}

    def __call__(
        self, *do: tuple[Any, ...], who: dict[str, str] | None = None, env: dict[str, str] | None = None
    ) -> list[Any]:
        told = {"azure": self.oidc if who is None else who, "do": do}
        done = subprocess.run(
            [sys.executable, str(PROBE), json.dumps(told)], env=self.env | (env or {}), capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture
def ask(azure: AzureStandIn, tmp_path: Path) -> Ask:
    return Ask(azure, tmp_path)


def test_github_signs_in_for_every_audience(ask: Ask) -> None:
    arm, acr, aks, subscription, registry = ask(
        ("token", f"{ask.azure.told['azure']}//.default"), ("token", ACR), ("token", "6dae42f8/.default"),
        ("subscription",), ("registry", "mllocal"),
    )  # fmt: skip
    assert [claims(token)["aud"] for token in (arm, acr, aks)] == [
        f"{ask.azure.told['azure']}/",
        ACR.removesuffix("/.default"),
        "6dae42f8",
    ]
    assert subscription == ask.azure.told["inputs"]["subscription-id"]
    assert (registry["login_server"], registry["abac"]) == (ask.azure.registry, False)


def test_a_secret_signs_in(ask: Ask) -> None:
    who = ask.oidc | {"client_secret": ask.azure.told["client_secret"]}
    (token,) = ask(("token", ACR), who=who, env={"ACTIONS_ID_TOKEN_REQUEST_URL": ""})
    assert claims(token)["aud"] == "https://containerregistry.azure.net"


def test_an_expired_github_token_does_no_harm_since_each_scope_gets_a_fresh_one(ask: Ask) -> None:
    ask.azure.settings(oidc_lifetime=1)
    first, _, second = ask(("token", "first/.default"), ("sleep", 1.5), ("token", "second/.default"))
    assert claims(first)["aud"] == "first"
    assert claims(second)["aud"] == "second"


def test_the_same_token_for_two_scopes_would_have_failed(ask: Ask, tmp_path: Path) -> None:
    """The fault that the test above survives: what `azure/login` leaves behind."""
    ask.azure.settings(oidc_lifetime=1)
    make_session(ask, tmp_path / "azure-cli")
    time.sleep(1.5)
    env = {"AZURE_CONFIG_DIR": str(tmp_path / "azure-cli")}
    (refused,) = ask(("token", ACR), who={}, env=env)
    assert refused["error"] == "AuthFailed"
    assert "AADSTS700024" in refused["message"]
    assert "`client-id` and `tenant-id`" in refused["hint"]


def test_a_session_of_the_azure_cli_is_used(ask: Ask, tmp_path: Path) -> None:
    make_session(ask, tmp_path / "azure-cli")
    env = {"AZURE_CONFIG_DIR": str(tmp_path / "azure-cli")}
    token, subscription, tenant = ask(("token", ACR), ("subscription",), ("tenant",), who={}, env=env)
    ids = ask.azure.told["inputs"]
    assert claims(token)["appid"] == ids["client-id"]
    assert (subscription, tenant) == (ids["subscription-id"], ids["tenant-id"])


def make_session(ask: Ask, folder: Path) -> None:
    """What `az login --service-principal --federated-token` leaves: its files, in their formats."""
    folder.mkdir()
    ids, env = ask.azure.told["inputs"], ask.azure.told["env"]
    (folder / "clouds.config").write_text((Path(env["AZURE_CONFIG_DIR"]) / "clouds.config").read_text())
    (folder / "config").write_text("[cloud]\nname = AzureLocal\n")
    answer = requests.get(
        env["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=api://AzureADTokenExchange", timeout=10, verify=ask.azure.told["bundle"],
        headers={"Authorization": f"bearer {env['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
    )  # fmt: skip
    entry = {"client_id": ids["client-id"], "tenant": ids["tenant-id"], "client_assertion": answer.json()["value"]}
    (folder / "service_principal_entries.json").write_text(json.dumps([entry]))
    account = {
        "id": ids["subscription-id"], "name": "local", "state": "Enabled", "isDefault": True, "environmentName": "AzureLocal",
        "tenantId": ids["tenant-id"], "user": {"name": ids["client-id"], "type": "servicePrincipal"},
    }  # fmt: skip
    profile = {"installationId": "1", "subscriptions": [account]}
    (folder / "azureProfile.json").write_text(json.dumps(profile), encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("who", "said", "hint"),
    [
        ({"tenant_id": "no-such-tenant"}, "sign-in page", "`tenant-id`"),
        ({"client_id": "no-such-client"}, "AADSTS700016", "`client-id` and `tenant-id`"),
        ({"client_secret": "wrong"}, "AADSTS7000215", "`client-secret`"),
    ],
)
def test_who_entra_does_not_know_is_told_what_to_change(ask: Ask, who: dict[str, str], said: str, hint: str) -> None:
    (refused,) = ask(("token", ACR), who=ask.oidc | who)
    assert refused["error"] == "AuthFailed"
    assert said in refused["message"]
    assert hint in refused["hint"]
    assert "Trace ID" not in refused["message"]


def test_a_subject_without_federated_credential_is_named(ask: Ask) -> None:
    ask.azure.settings(federated_subject="repo:org/other:ref:refs/heads/main")
    (refused,) = ask(("token", ACR))
    assert "AADSTS700213" in refused["message"]
    assert "`repo:org/ml-deploy-example:ref:refs/heads/main`" in refused["hint"]


def test_nobody_signed_in_is_told_both_ways(ask: Ask) -> None:
    (refused,) = ask(("token", ACR), who={})
    assert "Nobody is signed in to Azure" in refused["message"]
    assert "`azure/login`" in refused["hint"]


def test_a_job_without_id_token_permission_is_told_so(ask: Ask) -> None:
    (refused,) = ask(("token", ACR), env={"ACTIONS_ID_TOKEN_REQUEST_URL": ""})
    assert "`permissions: id-token: write`" in refused["hint"]


def test_an_unknown_cloud_is_named(ask: Ask) -> None:
    (refused,) = ask(("cloud",), env={"AZURE_CLOUD_NAME": "Cumulus"})
    assert refused["error"] == "InputError"
    assert "'Cumulus'" in refused["message"]


def test_an_untrusted_certificate_is_no_mystery(ask: Ask) -> None:
    (refused,) = ask(("token", ACR), env={"REQUESTS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt"})
    assert refused["error"] == "Unreachable"
    assert "REQUESTS_CA_BUNDLE" in refused["hint"]


def test_the_home_folder_stays_clean(ask: Ask) -> None:
    """Where there is no ~/.azure, azure-cli-core would make one with nine files."""
    (cloud,) = ask(("cloud",), env={"AZURE_CONFIG_DIR": "", "AZURE_CLOUD_NAME": "AzureUSGovernment"})
    assert cloud["arm"] == "https://management.usgovcloudapi.net"
    ask(("token", ACR), who={}, env={"AZURE_CONFIG_DIR": "", "AZURE_CLOUD_NAME": "AzureCloud"})
    assert list(Path(ask.env["HOME"]).iterdir()) == []
    assert list(Path(ask.env["RUNNER_TEMP"]).iterdir()) == []


# -- Azure Resource Manager ---------------------------------------------------------------------------


def test_arm_wants_an_api_version_and_a_token(azure: AzureStandIn, ask: Ask) -> None:
    (token,) = ask(("token", f"{azure.told['azure']}//.default"))
    url, bundle = f"{azure.told['azure']}/subscriptions", azure.told["bundle"]
    bearer = {"Authorization": f"Bearer {token}"}
    without = requests.get(url, headers=bearer, verify=bundle, timeout=10)
    assert (without.status_code, without.json()["error"]["code"]) == (400, "MissingApiVersionParameter")
    assert requests.get(url + "?api-version=2022-12-01", verify=bundle, timeout=10).status_code == 401
    (other,) = ask(("token", ACR))
    wrong = {"Authorization": f"Bearer {other}"}
    assert requests.get(url + "?api-version=2022-12-01", headers=wrong, verify=bundle, timeout=10).status_code == 401


def test_what_is_not_there_is_named(ask: Ask) -> None:
    unknown, elsewhere, no_registry = ask(
        ("aks", "ml-local", "nope"), ("aks", "nope", "ml-local"), ("registry", "nope")
    )
    assert (unknown["error"], elsewhere["error"], no_registry) == ("InputError", "InputError", None)
    assert "AKS cluster nope (resource group ml-local" in unknown["message"]
    assert "ResourceGroupNotFound" in elsewhere["message"]
    (subscription,) = ask(("aks", "ml-local", "ml-local"), who=ask.oidc | {"subscription_id": "5" * 8})
    assert "SubscriptionNotFound" in subscription["message"]
    assert "`subscription-id`" in subscription["hint"]


def test_a_missing_right_names_its_role(ask: Ask) -> None:
    ask.azure.fault("azure", fault="error", status=403, path="/managedClusters/", times=0)
    (refused,) = ask(("aks", "ml-local", "ml-local"))
    assert refused["error"] == "Forbidden"
    assert "`Azure Kubernetes Service Cluster User Role`" in refused["hint"]
    assert ask.azure.hits("azure") == [1], "403 is not tried again"


def test_arm_that_throttles_is_asked_again_after_retry_after(ask: Ask) -> None:
    ask.azure.fault("azure", fault="throttle", path="/subscriptions", times=2, retry_after=1)
    began = time.monotonic()
    (subscription,) = ask(("subscription",))
    assert subscription == ask.azure.told["inputs"]["subscription-id"]
    assert ask.azure.hits("azure") == [2]
    assert time.monotonic() - began > 2


def test_a_connection_that_breaks_is_made_again(ask: Ask) -> None:
    ask.azure.fault("azure", fault="refuse", path="/subscriptions")
    (subscription,) = ask(("subscription",))
    assert subscription == ask.azure.told["inputs"]["subscription-id"]
    assert ask.azure.hits("azure") == [1]


def test_a_stopped_cluster_says_how_to_start_it(ask: Ask) -> None:
    ask.azure.settings(stopped=True)
    (refused,) = ask(("aks", "ml-local", "ml-local"))
    assert refused["error"] == "Unreachable"
    assert "az aks start" in refused["hint"]


# -- AKS: a cluster behind the stand-in ----------------------------------------------------------------


class FakeApiServer(BaseHTTPRequestHandler):
    """Answers with who asked; a watch gives one line now and one later."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in (self.headers.get("Authorization", ""), self.path):
            data = json.dumps(line).encode() + b"\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
            if "watch" in self.path:
                time.sleep(1)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def fake_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a server that is no cluster, but tells what reaches it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeApiServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "b", "user": {"token": "the-real-credential"}}],
            "contexts": [{"name": "c", "context": {"cluster": "a", "user": "b", "namespace": "ml"}}],
            "current-context": "c",
        }
        path = tmp_path_factory.mktemp("fake") / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        yield path
        server.shutdown()


@pytest.fixture(scope="module")
def aks_process(fake_cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureStandIn]:
    server = start_local(
        "azure.py", "azure.json", tmp_path_factory.mktemp("aks"), "--cluster-kubeconfig", str(fake_cluster)
    )
    yield AzureStandIn(server.told, server.process)
    server.stop()


@pytest.fixture
def aks(aks_process: AzureStandIn, tmp_path: Path) -> Ask:
    aks_process.heal()
    return Ask(aks_process, tmp_path)


def test_aks_credentials_need_no_kubelogin(aks: Ask) -> None:
    credential, token = aks(("aks", "ml-local", "ml-local"), ("token", "6dae42f8-4368-4678-94ff-3960e28e3630/.default"))
    assert credential["scope"] == "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
    assert credential["kubeconfig"]["users"][0]["user"] == {}
    server = credential["kubeconfig"]["clusters"][0]["cluster"]["server"]
    bundle = aks.azure.told["bundle"]
    answer = requests.get(f"{server}/version", headers={"Authorization": f"Bearer {token}"}, verify=bundle, timeout=10)
    assert [json.loads(line) for line in answer.text.splitlines()] == ["Bearer the-real-credential", "/version"]
    for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {aks(('token', ACR))[0]}"}):
        assert requests.get(f"{server}/version", headers=wrong, verify=bundle, timeout=10).status_code == 401


def test_a_watch_streams_through(aks: Ask) -> None:
    (token,) = aks(("token", "6dae42f8-4368-4678-94ff-3960e28e3630/.default"))
    began = time.monotonic()
    with requests.get(
        f"{aks.azure.told['cluster_server']}/api/v1/pods?watch=1", headers={"Authorization": f"Bearer {token}"},
        verify=aks.azure.told["bundle"], timeout=10, stream=True,
    ) as answer:  # fmt: skip
        times = [time.monotonic() - began for _ in answer.iter_lines()]
    assert times[0] < 0.8 < times[1]


def test_clusters_with_local_accounts_and_private_ones(aks: Ask) -> None:
    aks.azure.settings(local_accounts=True, private=True)
    (credential,) = aks(("aks", "ml-local", "ml-local"))
    assert credential["scope"] == ""
    assert credential["kubeconfig"]["users"][0]["user"]["token"]
    assert "private cluster" in credential["hint"]


# -- the registry's front --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nodes_pull_without_sign_in_with_and_without_tls(azure: AzureStandIn, scheme: str) -> None:
    """containerd comes to `localhost` without TLS, the Docker engine with it; the realm follows."""
    bundle = azure.told["bundle"]
    answer = requests.get(f"{scheme}://{azure.registry}/v2/a/manifests/b", verify=bundle, timeout=10)
    assert answer.status_code == 401
    realm = f"{scheme}://{azure.registry}/oauth2/token"
    assert f'Bearer realm="{realm}"' in answer.headers["WWW-Authenticate"]
    query = {"service": azure.registry, "scope": "repository:a:pull,push"}
    token = requests.get(realm, params=query, verify=bundle, timeout=10).json()["token"]
    assert claims(token)["access"] == [{"type": "repository", "name": "a", "actions": ["pull"]}]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{scheme}://{azure.registry}/v2/a/manifests/b"
    assert requests.get(url, headers=headers, verify=bundle, timeout=10).status_code == 404
    assert requests.put(url, headers=headers, data=b"{}", verify=bundle, timeout=10).status_code == 401
