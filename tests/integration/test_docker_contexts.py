"""Docker contexts: docker-py knows nothing of them, we go where the docker command goes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ml_deploy.adapters import builder, engine

ELSEWHERE = "tcp://engine.example:2375"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker context of another machine's engine is in use."""
    if not shutil.which("docker"):
        pytest.skip("needs the docker command")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    for words in (["create", "elsewhere", "--docker", f"host={ELSEWHERE}"], ["use", "elsewhere"]):
        subprocess.run(["docker", "context", *words], check=True, capture_output=True)


@pytest.mark.usefixtures("elsewhere")
def test_the_context_in_use_names_the_engine() -> None:
    assert builder.engine_environment()["DOCKER_HOST"] == ELSEWHERE
    assert ELSEWHERE in engine.unavailable("connection refused").message


@pytest.mark.usefixtures("elsewhere")
def test_a_host_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert builder.engine_environment()["DOCKER_HOST"] == "unix:///nowhere.sock"
