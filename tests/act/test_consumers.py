"""What consumers' workflows do with the actions, on the machine and in a container."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import pytest
from tests.act.conftest import Act, uses

from local.consumer import Consumer

TRAP = "raise SystemExit('code of the workspace was run')\n"


@pytest.fixture(params=["host", "container"])
def image(request: pytest.FixtureRequest) -> str:
    """Where the job runs: an empty name is this machine."""
    return str(request.getfixturevalue("base_image")) if request.param == "container" else ""


LINT = uses("lint-model", model="model/wine.joblib")
RENDER = uses("deploy-aks", app="wine", manifests="k8s", image="registry.example/wine:1", dry_run="client")


def test_lint_and_render_from_a_hostile_workspace(act: Act, consumer: Consumer, image: str) -> None:
    """Folders and files that are called as the libraries that the actions use, and settings of other tools."""
    for name in ("yaml.py", "requests.py", "sitecustomize.py", "usercustomize.py", "ml_deploy.py"):
        (consumer.folder / name).write_text(TRAP)
    for name in ("docker", "kubernetes", "azure"):
        (consumer.folder / name).mkdir()
        (consumer.folder / name / "__init__.py").write_text(TRAP)
    (consumer.folder / "pyproject.toml").write_text('[tool.uv]\nno-index = true\nrequired-version = "==0.0.1"\n')
    (consumer.folder / "uv.toml").write_text('required-version = "==0.0.1"\n')
    (consumer.folder / ".python-version").write_text("2.7\n")
    consumer.commit("Hostile")
    ran = act([LINT, RENDER], image=image, env={"PYTHONPATH": ".", "PYTHONSTARTUP": "yaml.py"})
    assert ran.job == "success", ran.log
    assert ran.output("lint-model", "verdict") == "allow"
    assert ran.output("lint-model", "model-digest").startswith("sha256:")
    assert len(ran.progress.summaries) == 2


def test_outputs_are_set_on_failure_and_the_next_step_reads_them(act: Act, consumer: Consumer, image: str) -> None:
    consumer.replace_model(pickle.dumps({"a": 1})[:-3], "Cut short")
    reason = {"run": 'test "$REASON" = model', "env": {"REASON": "${{ steps.lint-model.outputs.reason }}"}}
    ran = act([{**LINT, "continue-on-error": True}, {"id": "after", **reason}], image=image)
    assert ran.state("lint-model") == "failure"
    assert ran.state("after") == "success", ran.log
    assert len(ran.progress.errors) == 1


def test_a_malicious_model_is_refused_and_never_run(act: Act, consumer: Consumer) -> None:
    consumer.spoil("malicious")
    ran = act([LINT])
    assert ran.job == "failure"
    assert ran.output("lint-model", "verdict") == "deny"
    assert "system" in ran.progress.errors[0]
    assert not Path("/tmp/ml-deploy-was-here").exists()


def test_all_missing_inputs_are_named_at_once(act: Act) -> None:
    ran = act([uses("push-acr", password="s3cret-word", client_id="x")])
    assert ran.job == "failure"
    assert ran.output("push-acr", "reason") == "input"
    for name in ("image", "username", "tenant-id"):
        assert f"`{name}`" in ran.progress.errors[0]
    assert "s3cret-word" not in ran.log


def test_the_environment_is_made_once_per_job(act: Act) -> None:
    ran = act([LINT, RENDER, {**LINT, "id": "again"}])
    assert ran.job == "success", ran.log
    assert ran.log.count("making the Python environment") <= 2  # base and lint-model's; nothing for the others


def test_nothing_is_left_in_the_workspace(act: Act, consumer: Consumer) -> None:
    clean = {"id": "clean", "run": 'test -z "$(git status --porcelain --ignored)" || { git status --ignored; exit 1; }'}
    assert act([LINT, RENDER, clean]).job == "success"


def test_from_a_read_only_action_folder(export: Path, base_image: str, consumer: Consumer) -> None:
    """The runner may hand out a shared cache: nothing is written there."""
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "host", "--volume", f"{export}:/action:ro",
         "--volume", f"{consumer.folder}:/workspace:ro", "--workdir", "/workspace", "--env", "RUNNER_TEMP=/tmp/runner",
         "--env", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "--env", "GITHUB_ACTIONS=true",
         base_image, "/action/scripts/run.sh", "lint-model", "--model", "model/wine.joblib"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
