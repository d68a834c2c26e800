"""The root action's whole way: all six parts in one step, against the stand-ins of Azure, its registry and its cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.act.conftest import Act

from local.stack import Options, Ready, Stack
from local.state import State

INPUTS = {
    "client-id": "${{ vars.AZURE_CLIENT_ID }}", "tenant-id": "${{ vars.AZURE_TENANT_ID }}",
    "subscription-id": "${{ vars.AZURE_SUBSCRIPTION_ID }}", "resource-group": "${{ vars.AKS_RESOURCE_GROUP }}",
    "cluster-name": "${{ vars.AKS_CLUSTER_NAME }}", "namespace": "${{ vars.AKS_NAMESPACE }}",
    "registry": "${{ vars.ACR_NAME }}", "build-args": "${{ vars.DOCKER_BUILD_ARGS }}",
    "app": "wine", "model": "model/wine.joblib", "image": "wine", "repository": "wine", "manifests": "k8s",
    "cases": "tests/cases.jsonl", "rate": "50", "duration": "2s",
}  # fmt: skip


@pytest.fixture
def ready(tmp_path: Path, base_image: str) -> Iterator[Ready]:
    """A cluster, Azure and a registry of the test's own."""
    state = State(tmp_path / "state")
    stack = Stack(state, lambda _line: None)
    try:
        yield stack.up(Options())
    finally:
        stack.down()


def test_all_six_parts_in_one_step_and_back_when_the_endpoint_is_not_good(act: Act, ready: Ready) -> None:
    good = {"id": "good", "uses": "org/ml-deploy@v1", "with": {**INPUTS, "tags": "${{ github.sha }}"}}
    slow = {"tags": "too-slow", "labels": "round=2", "max-p50": "1ms"}  # no endpoint answers that fast
    bad = {"id": "bad", "uses": "org/ml-deploy@v1", "with": {**INPUTS, **slow}, "continue-on-error": True}
    ran = act([good, bad], variables=ready.variables, env=ready.env)
    assert ran.state("good") == "success", ran.log
    assert (ran.output("good", "verdict"), ran.output("good", "healthy")) == ("allow", "true")
    assert (ran.output("good", "revision"), ran.output("good", "reason")) == ("1", "")
    assert ran.state("bad") == "failure", ran.log
    assert (ran.output("bad", "healthy"), ran.output("bad", "rolled-back")) == ("false", "true"), ran.log
    assert ran.output("bad", "digest") != ran.output("good", "digest")
    assert ran.output("bad", "reason"), ran.log
    assert len(ran.progress.summaries) == 5 + 6
