"""AKS through Azure Resource Manager, Entra's tokens and no kubelogin: the stand-in of Azure before this Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def azure(kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What DIR/azure.json says."""
    state = tmp_path_factory.mktemp("azure")
    words = [
        sys.executable,
        str(ROOT / "scripts/local/azure.py"),
        "--state",
        str(state),
        "--cluster-kubeconfig",
        kubeconfig,
    ]
    with open(state / "output", "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        for _ in range(300):
            if (state / "azure.json").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert (state / "azure.json").exists(), (state / "output").read_text()
        yield json.loads((state / "azure.json").read_text())
    finally:
        process.terminate()
        process.wait(20)


def test_a_cluster_is_reached_by_its_name(azure: dict[str, Any], namespace: str, tmp_path: Path) -> None:
    ids = azure["inputs"]
    words = [ids[name] for name in ("client-id", "tenant-id", "resource-group", "cluster-name")]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("aks_client.py")), *words, namespace],
        env=os.environ | azure["env"] | {"HOME": str(tmp_path), "KUBECONFIG": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["server"] == azure["cluster_server"]
    assert seen["events"] == ["ADDED"]
    assert seen["seconds"] < 4, "the watch streams through the proxy"
