"""The YAML, against the code and against the rules of GitHub's runner."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_deploy import commands, errors
from ml_deploy.commands import pipeline
from ml_deploy.runtime.fields import inputs_of, outputs_of

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "action.yml", *(ROOT / top / n / "action.yml" for top in ("", "actions") for n in commands.ACTIONS)]
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())  # type: ignore[no-any-return]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_generated_files_are_up_to_date() -> None:
    done = run(sys.executable, "scripts/dev/generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@EACH
def test_rules_of_composite_actions(path: Path) -> None:
    document = load(path)
    assert document["runs"]["using"] == "composite"
    for step in document["runs"]["steps"]:
        assert "uses" not in step, "public actions nest nothing"
        assert re.fullmatch(r'exec "\$GITHUB_ACTION_PATH[/.]*/scripts/run\.sh" [a-z-]+', step["run"])
        assert all(name.startswith("ML_DEPLOY_") for name in step["env"])


@EACH
def test_the_way_to_the_launcher_is_right(path: Path) -> None:
    for step in load(path)["runs"]["steps"]:
        way = re.search(r'\$GITHUB_ACTION_PATH(.*)"', step["run"])
        assert way and (path.parent / way[1].lstrip("/")).resolve() == ROOT / "scripts" / "run.sh"


@EACH
def test_every_input_is_handed_over(path: Path) -> None:
    document = load(path)
    used = set(re.findall(r"inputs\.([a-z0-9-]+)", yaml.safe_dump(document["runs"], width=10**6)))
    assert used == set(document["inputs"])


def test_the_same_name_means_the_same_default_in_every_action() -> None:
    """Or none, where an action finds out by itself."""
    seen: dict[str, tuple[str, str, Any]] = {}
    for name in commands.ACTIONS:
        for key, spec in inputs_of(commands.load(name).Inputs).items():
            if spec.default or spec.choices:
                other, default, choices = seen.setdefault(key, (name, spec.default, spec.choices))
                assert (spec.default, spec.choices) == (default, choices), f"`{key}` differs in {name} and {other}"


def test_the_root_action_has_every_input_and_refers_to_outputs_that_exist() -> None:
    wanted = {key for n in commands.ACTIONS for key in inputs_of(commands.load(n).Inputs)} - pipeline.WIRED
    assert set(load(ROOT / "action.yml")["inputs"]) == wanted | {"skip"}
    commands_by_step = {part.id: part.command for part in pipeline.PARTS}
    text = (ROOT / "action.yml").read_text()
    for step, output in re.findall(r"steps\.([a-z-]+)\.outputs\.([a-z0-9-]+)", text):
        assert output == "reason" or output in outputs_of(commands.load(commands_by_step[step]).Result), (step, output)


def test_no_symlinks_and_the_launchers_may_run() -> None:
    listed = run("git", "ls-files", "-s").stdout.splitlines()
    modes = {line.split("\t")[1]: line.split()[0] for line in listed}
    assert modes
    assert [name for name, mode in modes.items() if mode == "120000"] == []
    assert [name for name, mode in modes.items() if name.endswith(".sh") and mode != "100755"] == []


def test_reasons_and_exit_codes_are_distinct() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.MlDeployError)]
    assert len({c.reason for c in classes}) == len({c.exit_code for c in classes}) == len(classes)
    assert all(re.fullmatch(r"[a-z-]+", c.reason) and 0 < c.exit_code < 256 for c in classes)


def test_the_readme_lists_every_reason_with_its_exit_code() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", (ROOT / "README.md").read_text(), re.M))
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.MlDeployError)]
    assert listed == {(c.reason, str(c.exit_code)) for c in classes}
