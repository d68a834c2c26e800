"""The root action's whole way: all six parts in one step, against the stand-ins of Azure, its registry and its cluster."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.act.conftest import Act

from local.stack import Ready

INPUTS = {
    "client-id": "${{ vars.AZURE_CLIENT_ID }}", "tenant-id": "${{ vars.AZURE_TENANT_ID }}",
    "subscription-id": "${{ vars.AZURE_SUBSCRIPTION_ID }}", "resource-group": "${{ vars.AKS_RESOURCE_GROUP }}",
    "cluster-name": "${{ vars.AKS_CLUSTER_NAME }}", "namespace": "${{ vars.AKS_NAMESPACE }}",
    "registry": "${{ vars.ACR_NAME }}", "build-args": "${{ vars.DOCKER_BUILD_ARGS }}",
    "app": "wine", "model": "model/wine.joblib", "image": "wine", "repository": "wine", "manifests": "k8s",
    "cases": "tests/cases.jsonl", "rate": "50", "duration": "2s",
}  # fmt: skip


def said(step: str, **expected: str) -> dict[str, Any]:
    """A step that reads another one's outputs, as a consumer does: what `act` logs are those of the parts."""
    names = {name: f"${{{{ steps.{step}.outputs.{name.replace('_', '-')} }}}}" for name in expected}
    told = " ".join(f"{name}=${name}" for name in expected)
    wanted = " ".join(f"{name}={value}" for name, value in expected.items())
    run = f'echo "{told}" && test "{told}" = "{wanted}"'
    return {"id": f"said-{step}", "if": "always()", "env": names, "run": run}


@pytest.mark.skipif(not os.environ.get("ML_DEPLOY_WHOLE_WAY"), reason="by hand, over a minute: ML_DEPLOY_WHOLE_WAY=1")
def test_all_six_parts_in_one_step_and_back_when_the_endpoint_is_not_good(act: Act, ready: Ready) -> None:
    good = {"id": "good", "uses": "org/ml-deploy@v1", "with": {**INPUTS, "tags": "${{ github.sha }}"}}
    slow = {"tags": "too-slow", "labels": "round=2", "max-p50": "1ms"}  # no endpoint answers that fast
    bad = {"id": "bad", "uses": "org/ml-deploy@v1", "with": {**INPUTS, **slow}, "continue-on-error": True}
    ran = act(
        [good, said("good", verdict="allow", revision="1", healthy="true", rolled_back="false", reason=""),
         bad, said("bad", verdict="allow", revision="1", healthy="false", rolled_back="true", reason="limits")],
        variables=ready.variables, env=ready.env,
    )  # fmt: skip
    assert (ran.state("good"), ran.state("bad")) == ("success", "failure"), ran.log
    assert (ran.state("said-good"), ran.state("said-bad")) == ("success", "success"), ran.log
    assert "revision 1 serves again" in ran.log
