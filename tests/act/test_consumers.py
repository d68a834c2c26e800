"""What consumers' workflows do with the actions, on the machine and in a container.

Each run makes its own environment, as every job does; so there are few runs, each with several steps.
"""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import pytest
from tests.act.conftest import Act, uses

from local.consumer import Consumer

TRAP = "raise SystemExit('code of the workspace was run')\n"
LINT = uses("lint-model", model="model/wine.joblib")
RENDER = uses("deploy-aks", app="wine", manifests="k8s", image="registry.example/wine:1", dry_run="client")


@pytest.fixture(params=["host", "container"])
def image(request: pytest.FixtureRequest) -> str:
    """Where the job runs: an empty name is this machine."""
    return str(request.getfixturevalue("base_image")) if request.param == "container" else ""


def test_from_a_hostile_workspace(act: Act, consumer: Consumer, image: str) -> None:
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
    clean = {"id": "clean", "run": 'find . -newer stamp -not -path "./.git*" -not -name stamp | (! grep .)'}
    stamp = {"run": "touch stamp && sleep 0.05"}
    ran = act(
        [stamp, LINT, RENDER, {**LINT, "id": "again"}, clean], image=image,
        env={"PYTHONPATH": ".", "PYTHONSTARTUP": "yaml.py"},
    )  # fmt: skip
    assert ran.job == "success", ran.log
    assert ran.output("lint-model", "verdict") == "allow"
    assert ran.output("lint-model", "model-digest").startswith("sha256:")
    assert len(ran.progress.summaries) == 3
    assert ran.log.count("making the Python environment") == 2  # what lint-model needs, and what deploy-aks adds


def test_outputs_are_set_on_failure_and_later_steps_read_them(act: Act, consumer: Consumer) -> None:
    consumer.spoil("malicious")
    (consumer.folder / "model" / "cut.pkl").write_bytes(pickle.dumps({"a": 1})[:-3])
    consumer.commit("Cut short")
    reasons = {f"R{n}": f"${{{{ steps.{step}.outputs.reason }}}}" for n, step in enumerate(("bad", "cut", "push"))}
    steps = [
        uses("lint-model", "bad", model="model/wine.joblib"),
        uses("lint-model", "cut", model="model/cut.pkl"),
        uses("push-acr", "push", password="s3cret-word", client_id="some-client"),
    ]
    after = {"id": "after", "run": 'test "$R0 $R1 $R2" = "model model input"', "env": reasons}
    ran = act([*({**step, "continue-on-error": True} for step in steps), after])
    assert ran.state("after") == "success", ran.log
    assert [ran.state(step) for step in ("bad", "cut", "push")] == ["failure"] * 3
    assert ran.output("bad", "verdict") == "deny"
    denied, _, missing = ran.progress.errors
    assert "system" in denied
    assert not Path("/tmp/ml-deploy-was-here").exists()
    assert all(f"`{name}`" in missing for name in ("image", "username", "tenant-id"))  # all of them at once
    assert "s3cret-word" not in ran.log


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


def test_the_root_action_runs_the_parts_that_are_not_skipped(act: Act) -> None:
    inputs = {
        "model": "model/wine.joblib", "skip": "build-image\npush-acr\nsmoke-test", "app": "wine", "manifests": "k8s",
        "image": "registry.example/wine:1", "dry-run": "client",
    }  # fmt: skip
    ran = act([{"id": "all", "uses": "org/ml-deploy@v1", "with": inputs}])
    assert ran.job == "success", ran.log
    assert ran.output("all", "verdict") == "allow"
    assert "wine" in ran.log
