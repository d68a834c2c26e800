"""The launcher on a machine that is not ours: read-only folder, hostile workspace, no pip, two at once, cancel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "raise SystemExit('the workspace was imported')\n"


def export(folder: Path) -> Path:
    """The tree as GitHub's runner unpacks it."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def launch(action: Path, workspace: Path, temp: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "ML_DEPLOY_"))}
    return subprocess.run(
        [str(action / "scripts" / "run.sh"), *words], cwd=workspace, capture_output=True, text=True, check=False,
        env=kept | {"RUNNER_TEMP": str(temp), "PYTHONPATH": str(workspace)} | env,
    )  # fmt: skip


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("actions") / "v1")


@pytest.fixture(scope="module")
def temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runner-temp")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with everything that could get in the way."""
    for name in ("yaml.py", "requests.py", "ml_deploy.py", "site.py", "sitecustomize.py", "hashlib.py"):
        (tmp_path / name).write_text(HOSTILE)
    for name in ("docker", "kubernetes", "azure"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(HOSTILE)
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nindex-url = "http://index.invalid"\n')
    (tmp_path / "uv.toml").write_text('index-url = "http://index.invalid"\n')
    return tmp_path


def test_from_a_hostile_workspace_and_a_read_only_folder(action: Path, workspace: Path, temp: Path) -> None:
    before = sorted(path.relative_to(action) for path in action.rglob("*"))
    for path in [action, *action.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    done = launch(action, workspace, temp, "--help")
    assert done.returncode == 0, done.stderr
    assert "lint-model" in done.stdout
    assert sorted(path.relative_to(action) for path in action.rglob("*")) == before


def test_the_environment_is_made_once(action: Path, workspace: Path, temp: Path) -> None:
    first, second = (launch(action, workspace, temp, "--help") for _ in range(2))
    assert first.returncode == second.returncode == 0
    assert "making the Python environment" not in second.stderr
    assert len([p for p in (temp / "ml-deploy").glob("env-*") if p.is_dir()]) == 1


def test_two_at_once_make_one_environment(action: Path, tmp_path: Path) -> None:
    words = [str(action / "scripts" / "run.sh"), "--help"]
    env = os.environ | {"RUNNER_TEMP": str(tmp_path)}
    both = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("making the Python environment" in text for text in told) == 1


def test_a_half_made_environment_is_made_again(action: Path, workspace: Path, tmp_path: Path) -> None:
    assert launch(action, workspace, tmp_path, "--help").returncode == 0
    env = next(p for p in (tmp_path / "ml-deploy").glob("env-*") if p.is_dir())
    for mark in env.glob(".base-*"):
        mark.unlink()
    (env / "bin" / "python").unlink()
    assert launch(action, workspace, tmp_path, "--help").returncode == 0


def test_a_python_without_pip_is_enough(action: Path, workspace: Path, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys._base_executable}" -I -c "{BLOCK_PIP}" "$@"\n')  # type: ignore[attr-defined]
    python.chmod(0o755)
    done = launch(action, workspace, tmp_path, "--help", ML_DEPLOY_PYTHON=str(python))
    assert done.returncode == 0, done.stderr


#: Runs a script as python would, with pip, venv and ensurepip gone.
BLOCK_PIP = (
    "import sys, runpy; sys.modules.update(dict.fromkeys(('pip', 'venv', 'ensurepip'))); "
    "a = sys.argv[1:]; i = next(n for n, w in enumerate(a) if w.endswith('.py')); sys.argv = a[i:]; "
    "runpy.run_path(a[i], run_name='__main__')"
)


def test_a_changed_uv_is_refused(workspace: Path, tmp_path: Path) -> None:
    action = export(tmp_path / "action")
    lock = action / "requirements" / "uv.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]+", "sha256:" + "0" * 64, lock.read_text()))
    done = launch(action, workspace, tmp_path, "--help")
    assert done.returncode == 1
    assert "hash" in done.stderr
    assert not list(tmp_path.glob("ml-deploy/uv-*/uv"))


def test_no_python_is_said_in_one_sentence(action: Path, workspace: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    old = tools / "python3"
    old.write_text("#!/bin/bash\nexit 3\n")  # what bootstrap.py says under a Python older than 3.10
    old.chmod(0o755)
    launcher = tmp_path / "scripts" / "run.sh"
    launcher.parent.mkdir()
    launcher.write_text((action / "scripts" / "run.sh").read_text().replace("/usr/bin/python3", "none"))
    launcher.chmod(0o755)
    done = launch(tmp_path, workspace, tmp_path, "--help", PATH=str(tools), ML_DEPLOY_PYTHON="")
    assert done.returncode == 2
    assert "needs Python 3.10" in done.stdout


def test_an_unknown_command_and_option_are_named(action: Path, workspace: Path, temp: Path) -> None:
    done = launch(action, workspace, temp, "deploy")
    assert done.returncode == 2
    assert "There is no command 'deploy'" in done.stdout
    done = launch(action, workspace, temp, "rollback", "--revison", "3")
    assert done.returncode == 2
    assert "There is no option '--revison'" in done.stdout
