"""The starter workflows: actionlint's word on them, and what act can run of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.act.conftest import Act, Ran

from local.base import OFFICIAL
from local.consumer import Consumer
from local.stack import NAMESPACE, Ready
from ml_deploy.adapters.cluster import connect
from ml_deploy.releases.cluster import ClusterAccess

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "workflows-templates"
WORKFLOWS = [*sorted(TEMPLATES.glob("*.yml")), ROOT / "example-repo" / ".github" / "workflows" / "deploy.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_actionlint_has_nothing_to_say(path: Path) -> None:
    actionlint = shutil.which("actionlint")
    if not actionlint:
        pytest.skip("actionlint is not on the PATH (https://github.com/rhysd/actionlint)")
    done = subprocess.run([actionlint, "-no-color", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def use(consumer: Consumer, name: str) -> None:
    """Copy a template into the consumer's repository and set its variables, as its users do."""
    text = (TEMPLATES / name).read_text()
    for template, own in (("model/model.joblib", "model/wine.joblib"), (": my-model", ": wine")):
        text = text.replace(template, own)
    (consumer.workflow.parent / name).write_text(text)
    consumer.commit(f"Use {name}")


def test_a_pull_request_needs_no_rights(act: Act, consumer: Consumer, base_image: str) -> None:
    use(consumer, "pull-request.yml")
    arguments = "" if base_image == OFFICIAL else f"BASE_IMAGE={base_image}"
    ran = act(workflow="pull-request.yml", event="pull_request", variables={"DOCKER_BUILD_ARGS": arguments})
    assert ran.job == "success", ran.log
    assert {step.state for step in ran.progress.steps} == {"success"}


def pull_request(action: str, number: int = 7, head: str = "example/wine") -> dict[str, Any]:
    """What GitHub tells the workflow of a pull request."""
    return {"action": action, "number": number, "pull_request": {"head": {"repo": {"full_name": head}}}}


@pytest.mark.skipif(not os.environ.get("ML_DEPLOY_WHOLE_WAY"), reason="by hand, over a minute: ML_DEPLOY_WHOLE_WAY=1")
def test_a_preview_comes_and_goes(act: Act, consumer: Consumer, ready: Ready, tmp_path: Path) -> None:
    use(consumer, "preview.yml")
    workflow = consumer.workflow.parent / "preview.yml"
    workflow.write_text(workflow.read_text().replace("/v2/health/ready", "/health"))
    consumer.commit("Our server's own path")
    access = ClusterAccess(str(tmp_path / "state/cluster/kubeconfig"))

    def meet(action: str, number: int) -> Ran:
        head = {"repo": {"full_name": "example/wine"}}
        payload = {"action": action, "number": number, "pull_request": {"head": head}}
        return act(
            workflow="preview.yml", event="pull_request", payload=payload, variables=ready.variables, env=ready.env
        )

    def apps() -> list[str]:
        with closing(connect(access, lambda: pytest.fail("no Azure here"), print)) as cluster:
            return [one["metadata"]["name"] for one in cluster.list("apps/v1", "Deployment", NAMESPACE)]

    opened = meet("opened", 7)
    assert (opened.job, opened.output("deploy", "status"), apps()) == ("success", "good", ["pr-7"]), opened.log
    assert opened.state("teardown") == "skipped"

    never = meet("closed", 8)
    assert (never.job, never.output("teardown", "reason")) == ("success", "no-release"), never.log
    assert (never.state("again"), apps()) == ("skipped", ["pr-7"]), "it is no failure"

    closed = meet("closed", 7)
    assert (closed.job, closed.output("teardown", "status"), apps()) == ("success", "torn-down", []), closed.log
    assert (closed.state("deploy"), closed.state("again")) == ("skipped", "skipped")


def test_a_rollback_by_hand_hands_over_its_inputs(act: Act, consumer: Consumer) -> None:
    """As far as act can without a cloud: the step starts, reads the inputs, and says that it cannot sign in."""
    use(consumer, "rollback.yml")
    names = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "AKS_RESOURCE_GROUP", "AKS_CLUSTER_NAME")
    ran = act(
        workflow="rollback.yml", event="workflow_dispatch", inputs={"revision": "two", "why": "a drill"},
        variables=dict.fromkeys(names, "some-name"),
    )  # fmt: skip
    assert ran.job == "failure"
    assert "`to-revision`" in ran.progress.errors[0]
