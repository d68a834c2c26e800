"""Charts that are fetched: from a real registry by oci://, signed in and not, and from a repository with an index."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.charts import HELM, chart, needs_helm
from tests.integration.conftest import AzureStandIn
from tests.steps import Step, step

from ml_deploy.adapters.tools import Tools
from ml_deploy.errors import AuthFailed, ManifestError, MlDeployError, Unreachable
from ml_deploy.releases.sources.rendering import Chart

pytestmark = needs_helm

IMAGE = "r.example.com/app:1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm's own folders, and nobody's login."""
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / name))


def helm(folder: Path, *words: str, given: str = "") -> str:
    done = subprocess.run([str(HELM), *words], cwd=folder, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def packed(folder: Path, *versions: str) -> list[Path]:
    """The chart in several versions, each of which answers with its own; no test can mix them up."""
    for version in versions:
        root = chart(folder, IMAGE, answer=f"of-{version}")
        helm(folder, "package", str(root), "--version", version, "--destination", str(folder))
    return [folder / f"app-{version}.tgz" for version in versions]


def rendered(root: Path, reference: str, version: str = "", told: list[str] | None = None) -> str:
    told = told if told is not None else []
    given = Chart(reference=reference, version=version, release="wine", namespace="ml")
    return Tools(root, told.append, lambda: root).chart(given, None)


def refused(root: Path, reference: str, version: str = "") -> MlDeployError:
    with pytest.raises(MlDeployError) as caught:
        rendered(root, reference, version)
    assert "cannot be rendered" in caught.value.message and "Usage:" not in caught.value.message
    return caught.value


@pytest.fixture
def registry(plain_registry: str, tmp_path: Path) -> str:
    """A registry that asks nobody who they are, with two versions of the chart."""
    for file in packed(tmp_path, "1.2.3", "1.3.0"):
        helm(tmp_path, "push", "--plain-http", str(file), f"oci://{plain_registry}/charts")
    return plain_registry


def test_a_chart_of_a_registry_by_version_range_tag_and_digest(registry: str, tmp_path: Path) -> None:
    address, told = f"oci://{registry}/charts/app", list[str]()
    assert "of-1.3.0" in rendered(tmp_path, address, told=told)
    (digest,) = (line.rpartition(" ")[2] for line in told if "Digest: " in line)
    assert any(f"Pulled: {registry}/charts/app:1.3.0" in line for line in told), told
    for reference, version, found in (
        (address, "1.2.3", "of-1.2.3"), (address, "~1.2", "of-1.2.3"), (f"{address}:1.2.3", "", "of-1.2.3"),
        (f"{address}@{digest}", "", "of-1.3.0"),
    ):  # fmt: skip
        assert found in rendered(tmp_path, reference, version)


def test_what_a_registry_does_not_have(registry: str, tmp_path: Path) -> None:
    address = f"oci://{registry}/charts/app"
    for reference, version in ((address, "9.9.9"), (address, ">=2"), (address, "abc"), (f"{address}:1.2.3", "1.3.0"),
                               (f"oci://{registry}/charts/none", ""), (f"oci://{registry}/charts/App", ""),
                               (f"oci://{registry}/charts/none", "1.2.3"), (f"{address}@sha256:{'0' * 64}", "")):  # fmt: skip
        error = refused(tmp_path, reference, version)
        assert isinstance(error, ManifestError) and "`chart-version`" in error.hint, error.message


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    error = refused(tmp_path, "oci://localhost:9/charts/app")
    assert isinstance(error, Unreachable) and "Check the address" in error.hint


def test_a_registry_that_wants_a_login(azure: AzureStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", azure.told["bundle"])
    azure.settings(anonymous_pull=False)
    name, password = azure.told["username"], azure.told["password"]
    address = f"oci://{azure.registry}/charts/app"
    (file,) = packed(tmp_path, "1.2.3")
    error = refused(tmp_path, address)
    assert isinstance(error, AuthFailed) and "`helm registry login HOST`" in error.hint, error.message
    helm(tmp_path, "registry", "login", azure.registry, "--username", name, "--password-stdin", given=password)
    helm(tmp_path, "push", str(file), f"oci://{azure.registry}/charts")
    assert "of-1.2.3" in rendered(tmp_path, address)
    assert "of-1.2.3" in rendered(tmp_path, address, "1.2.3")
    helm(tmp_path, "registry", "logout", azure.registry)
    assert isinstance(refused(tmp_path, address, "1.2.3"), AuthFailed)

    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    error = refused(tmp_path, address)
    assert isinstance(error, Unreachable) and "SSL_CERT_FILE" in error.hint, error.message


def test_an_azure_registry_that_lets_our_identity_in(
    azure: AzureStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", azure.told["bundle"])
    azure.settings(anonymous_pull=False)
    (file,) = packed(tmp_path, "1.2.3")
    name, password = azure.told["username"], azure.told["password"]
    helm(tmp_path, "registry", "login", azure.registry, "--username", name, "--password-stdin", given=password)
    helm(tmp_path, "push", str(file), f"oci://{azure.registry}/charts")
    helm(tmp_path, "registry", "logout", azure.registry)

    inputs = {"chart": f"oci://{azure.registry}/charts/app", **azure.oidc}
    done = rendering(tmp_path, azure.told["env"], **inputs)
    assert done.code == 0 and "of-1.2.3" in done.outputs["diff"], done.log
    assert not list(tmp_path.rglob("helm-registry.json")), "it outlives no step"

    azure.settings(unknown_to_registry=True)
    refused = rendering(tmp_path, azure.told["env"], **inputs)
    assert (refused.code, refused.outputs["reason"]) == (6, "auth"), refused.log
    assert "AcrPull" in refused.log and "401" in refused.log


class Repository(SimpleHTTPRequestHandler):
    """A folder as a chart repository; some paths are refused."""

    def do_GET(self) -> None:
        if "/status/" in self.path:
            self.send_error(int(self.path.split("/")[2]))
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A chart repository over HTTP with two versions, added under the name `ours`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for file in packed(tmp_path, "1.2.3", "1.3.0"):
        file.rename(folder / file.name)
    helm(folder, "repo", "index", ".")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Repository, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    helm(tmp_path, "repo", "add", "ours", address)
    yield address
    server.shutdown()
    server.server_close()


def test_a_chart_of_a_repository_and_one_by_its_address(repository: str, tmp_path: Path) -> None:
    for reference, version, found in (
        ("ours/app", "", "of-1.3.0"), ("ours/app", "1.2.3", "of-1.2.3"), ("ours/app", "^1", "of-1.3.0"),
        (f"{repository}/app-1.2.3.tgz", "", "of-1.2.3"),
    ):  # fmt: skip
        assert found in rendered(tmp_path, reference, version)


def test_what_a_repository_does_not_have(repository: str, tmp_path: Path) -> None:
    for reference, version in (("ours/app", "9"), ("ours/none", ""), ("ours/app", "abc")):
        error = refused(tmp_path, reference, version)
        assert isinstance(error, ManifestError) and "`chart-version`" in error.hint, error.message
        assert "`helm repo update`" in error.hint
    for reference in ("theirs/app", f"{repository}/app-9.tgz"):
        error = refused(tmp_path, reference)
        assert isinstance(error, ManifestError) and "`helm repo add`" in error.hint, error.message


@pytest.mark.parametrize(
    "status, reason", [(401, "auth"), (403, "forbidden"), (503, "unreachable"), (429, "unreachable")]
)
def test_a_repository_that_refuses(repository: str, tmp_path: Path, status: int, reason: str) -> None:
    with_password = repository.replace("://", "://me:secret-word@")
    error = refused(tmp_path, f"{with_password}/status/{status}/app.tgz")
    assert error.reason == reason and error.hint, error.message
    assert "secret-word" not in error.message


def rendering(folder: Path, environment: Mapping[str, str] | None = None, **inputs: str) -> Step:
    """deploy-aks as a step that renders only."""
    given = {name.replace("-", "_"): value for name, value in inputs.items()}
    return step(folder, "deploy-aks", environment, app="wine", image=IMAGE, dry_run="client", **given)


def test_as_a_step_of_a_job(registry: str, tmp_path: Path) -> None:
    done = rendering(tmp_path, chart=f"oci://{registry}/charts/app", chart_version="1.2.3")
    assert done.code == 0 and "of-1.2.3" in done.outputs["diff"], done.log
    assert f"Pulled: {registry}/charts/app:1.2.3" in done.log and "app/templates/web.yaml" in done.summary
    wrong = rendering(tmp_path, chart=f"oci://{registry}/charts/app", chart_version="9")
    assert (wrong.code, wrong.outputs["reason"]) == (10, "manifest") and "9" in wrong.log


def test_a_version_that_nobody_would_heed_is_an_error(repository: str, tmp_path: Path) -> None:
    (file,) = packed(tmp_path, "1.2.3")
    for reference in ("app", file.name, f"{repository}/app-1.2.3.tgz"):
        done = rendering(tmp_path, chart=reference, chart_version="1.3.0")
        assert (done.code, done.outputs["reason"]) == (2, "input") and "Leave `chart-version` out" in done.log, done.log
