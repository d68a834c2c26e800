"""The starter workflows and the example that a consumer copies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_deploy import commands
from ml_deploy.runtime.fields import inputs_of, outputs_of

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "workflows-templates").glob("*.yml"))
EXAMPLE = ROOT / "example-repo"
WORKFLOWS = [*TEMPLATES, EXAMPLE / ".github" / "workflows" / "deploy.yml"]
OURS = re.compile(r"org/ml-deploy/([a-z-]+)@v1")


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    document["on"] = document.pop(True, None)  # type: ignore[call-overload]  # YAML 1.1 reads `on` as a boolean
    return document


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(load(path)["jobs"])


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job["steps"]


def our_steps(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for step in steps(path):
        if match := OURS.fullmatch(step.get("uses", "")):
            yield match[1], step


def test_the_templates_are_there_with_their_properties() -> None:
    assert [path.stem for path in TEMPLATES] == ["canary", "deploy", "preview", "pull-request", "rollback"]
    for path in TEMPLATES:
        properties = json.loads(path.with_suffix(".properties.json").read_text())
        assert {"name", "description", "iconName", "categories"} <= set(properties)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
class TestWorkflow:
    def test_grants_nothing_at_the_top_and_explains_each_grant(self, path: Path) -> None:
        assert load(path)["permissions"] == {}
        for name, job in jobs(path).items():
            for grant in job["permissions"]:
                line = next(line for line in path.read_text().splitlines() if line.strip().startswith(f"{grant}:"))
                assert "#" in line, f"{name}: say what {grant} is for"

    def test_has_limits(self, path: Path) -> None:
        assert {"group", "cancel-in-progress"} <= set(load(path)["concurrency"])
        assert all(0 < job["timeout-minutes"] <= 60 for job in jobs(path).values())

    def test_pins_third_parties_by_commit_and_names_their_version(self, path: Path) -> None:
        for step in steps(path):
            uses = step.get("uses", "")
            if not OURS.fullmatch(uses):
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", uses), uses
                assert re.search(re.escape(uses) + r" # v\d+\.\d+\.\d+$", path.read_text(), re.M)

    def test_checks_out_without_keeping_the_token_and_with_lfs_where_a_model_is_read(self, path: Path) -> None:
        checkout = next(step for step in steps(path) if "actions/checkout@" in step["uses"])
        assert checkout["with"]["persist-credentials"] is False
        reads_model = any("model" in step.get("with", {}) for _, step in our_steps(path))
        assert checkout["with"].get("lfs", False) is reads_model

    def test_uses_inputs_that_the_actions_have(self, path: Path) -> None:
        for name, step in our_steps(path):
            known = set(inputs_of(commands.load(name).Inputs))
            assert set(step["with"]) <= known, f"{name} has no input {set(step['with']) - known}"

    def test_gives_what_the_actions_require(self, path: Path) -> None:
        for name, step in our_steps(path):
            required = {key for key, spec in inputs_of(commands.load(name).Inputs).items() if spec.required}
            assert required <= set(step["with"]), f"{name} needs {required - set(step['with'])}"

    def test_reads_outputs_that_the_actions_have(self, path: Path) -> None:
        actions = {step["id"]: name for name, step in our_steps(path) if "id" in step}
        for step_id, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", path.read_text()):
            known = set(outputs_of(commands.load(actions[step_id]).Result)) | {"reason"}
            assert output in known, f"{actions[step_id]} has no output {output}"

    def test_keeps_names_in_vars_and_no_secret(self, path: Path) -> None:
        assert "secrets." not in path.read_text()

    def test_no_expression_reaches_a_shell(self, path: Path) -> None:
        assert not any("run" in step for step in steps(path))


def test_the_examples_workflow_is_the_template_but_for_its_variables() -> None:
    template, example = (load(folder / "deploy.yml") for folder in (ROOT / "workflows-templates", WORKFLOWS[-1].parent))
    assert set(template["env"]) == set(example["env"])
    assert {**template, "env": {}} == {**example, "env": {}}


def test_the_templates_share_their_variables() -> None:
    first = load(ROOT / "workflows-templates" / "deploy.yml")["env"]
    for path in TEMPLATES:
        assert load(path)["env"].items() <= first.items()


def test_pull_requests_get_no_rights_in_the_cloud() -> None:
    text = (ROOT / "workflows-templates" / "pull-request.yml").read_text()
    assert "id-token" not in text
    assert "client-id" not in text
    assert "pull_request_target" not in text


def test_a_preview_is_named_alike_by_who_makes_it_and_who_takes_it_away() -> None:
    path = ROOT / "workflows-templates" / "preview.yml"
    found = [step["with"] for name, step in our_steps(path) if name == "deploy-aks"]
    assert {given["app"] for given in found} == {"pr-${{ github.event.number }}"}
    assert [given.get("action", "deploy") for given in found] == ["deploy", "teardown", "teardown"]
    assert all("head.repo.full_name == github.repository" in job["if"] for job in jobs(path).values())


def test_the_example_is_small_and_complete() -> None:
    variables = load(WORKFLOWS[-1])["env"]
    assert (EXAMPLE / variables["MODEL"]).stat().st_size < 200_000
    assert (EXAMPLE / variables["MANIFESTS"] / "deployment.yaml").exists()
    assert len((EXAMPLE / variables["CASES"]).read_text().splitlines()) == 10


def test_the_examples_requirements_are_pinned() -> None:
    for name in ("requirements.txt", "requirements-train.txt"):
        for line in (EXAMPLE / name).read_text().splitlines():
            assert re.fullmatch(r"[\w.-]+==[\w.]+", line), f"{name}: {line}"
