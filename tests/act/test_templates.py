"""The starter workflows: actionlint's word on them, and what act can run of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.act.conftest import Act

from local.base import OFFICIAL
from local.consumer import Consumer

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
