"""What integration tests stand on: the local stack's servers, each started once, and the Docker engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class LocalServer:
    """A process of the local stack, and its control endpoint."""

    told: dict[str, Any]
    process: subprocess.Popen[bytes]

    def control(self, method: str, base: str, what: str, content: Any = None) -> Any:
        """Ask `/-/what` of the server at `base`."""
        answer = requests.request(
            method, f"{base}/-/{what}", json=content, verify=self.told.get("bundle", True), timeout=10
        )
        assert answer.ok, answer.text
        return answer.json()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)


def start_local(script: str, file: str, state: Path, *words: str) -> LocalServer:
    """Start scripts/local/SCRIPT and read the file in which it says where it is."""
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "output", "ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts/local" / script), "--state", str(state), *words],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    for _ in range(300):
        if (state / file).exists():
            return LocalServer(json.loads((state / file).read_text()), process)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(f"{script} did not start:\n{(state / 'output').read_text()}")


class AzureStandIn(LocalServer):
    """scripts/local/azure.py: Entra, ARM, ACR."""

    @property
    def registry(self) -> str:
        """The registry's login server."""
        return str(self.told["login_server"])

    @property
    def oidc(self) -> dict[str, str]:
        """The inputs that sign in with GitHub's token."""
        return {name: self.told["inputs"][name] for name in ("client-id", "tenant-id")}

    def settings(self, **told: Any) -> None:
        """Change how it behaves."""
        self.control("POST", self.told["azure"], "settings", told)

    def fault(self, where: str, **rule: Any) -> None:
        """Inject a fault; where: azure or registry."""
        self.control("POST", self._base(where), "faults", rule)

    def hits(self, where: str) -> list[int]:
        """How often each rule struck, oldest first."""
        return [rule["hits"] for rule in self.control("GET", self._base(where), "faults")]

    def heal(self) -> None:
        """No more faults, first settings."""
        for where in ("azure", "registry"):
            self.control("DELETE", self._base(where), "faults")
        self.settings(**self.told["settings"])

    def _base(self, where: str) -> str:
        return str(self.told["azure"]) if where == "azure" else f"https://{self.registry}"


@pytest.fixture(scope="session")
def azure_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureStandIn]:
    """The Azure stand-in, without a cluster."""
    server = start_local("azure.py", "azure.json", tmp_path_factory.mktemp("azure"))
    yield AzureStandIn(server.told, server.process)
    server.stop()


@pytest.fixture
def azure(azure_process: AzureStandIn) -> Iterator[AzureStandIn]:
    """The Azure stand-in, in its first state."""
    azure_process.heal()
    yield azure_process
    azure_process.heal()


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry without TLS and without sign-in."""
    server = start_local("registry.py", "registry.json", tmp_path_factory.mktemp("registry"))
    yield str(server.told["registry"])
    server.stop()


@pytest.fixture(scope="session")
def docker_engine() -> Any:
    """A docker-py client of the engine; skips where none answers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    return client


def clean_environment(folder: Path) -> dict[str, str]:
    """An environment with nothing of ours or the user's in it; HOME and RUNNER_TEMP are in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ML_DEPLOY_", "GITHUB_", "ACTIONS_", "AZURE_"))}
    home, temp = folder / "home", folder / "temp"
    home.mkdir(exist_ok=True)
    temp.mkdir(exist_ok=True)
    return kept | {"HOME": str(home), "RUNNER_TEMP": str(temp)}


@pytest.fixture(scope="session")
def basic_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry with Basic authentication: somebody, registry-password."""
    hashed = "somebody:$2b$05$abcdefghijklmnopqrstuux7DVfxfgfXTmp/9Tsk6HzX2QQGjxePG\n"
    folder = tmp_path_factory.mktemp("basic")
    (folder / "htpasswd").write_text(hashed)
    server = start_local("registry.py", "registry.json", folder, "--htpasswd", str(folder / "htpasswd"))
    yield str(server.told["registry"])
    server.stop()
