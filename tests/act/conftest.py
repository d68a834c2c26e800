"""Workflows as a consumer writes them, run by act on an export of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import base, engine
from local.consumer import Consumer
from local.runner import Run
from local.stack import Options, Ready, Stack
from local.state import State
from local.steps import Progress

ROOT = Path(__file__).resolve().parents[2]
#: actions/checkout, as a consumer pins it; act skips it, because the repository is here already.
CHECKOUT = {"uses": "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd"}


def git(*words: str) -> str:
    """Git in this repository."""
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What GitHub would hand out of this repository: `git archive` of what is committed and changed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no Git checkout, so that there is nothing to export with git archive")
    folder = tmp_path_factory.mktemp("export")
    archive = folder.with_suffix(".tar")
    git("archive", "--output", str(archive), git("stash", "create") or "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder


@pytest.fixture(scope="session")
def base_image() -> str:
    """The image of job containers and of the example; made once from Debian's packages where no registry is reachable."""
    version, problem = engine.ping()
    if not version:
        pytest.skip(f"no Docker Engine answers: {problem}")
    try:
        return base.ensure(say=lambda _line: None)
    except base.BaseError as error:
        pytest.skip(str(error))


@pytest.fixture
def ready(tmp_path: Path, base_image: str) -> Iterator[Ready]:
    """A cluster, Azure and a registry of the test's own."""
    stack = Stack(State(tmp_path / "state"), lambda _line: None)
    try:
        yield stack.up(Options())
    finally:
        stack.down()


@dataclass
class Ran:
    """What became of a workflow's run."""

    progress: Progress
    lines: list[str] = field(default_factory=list)

    @property
    def job(self) -> str:
        return self.progress.job

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def state(self, step: str) -> str:
        return next(one.state for one in self.progress.steps if one.id == step)

    def output(self, step: str, name: str) -> str:
        return self.progress.outputs.get(step, {}).get(name, "")


Act = Callable[..., Ran]


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[Consumer]:
    """The example, as a repository of its own; the images that its commits made go at the end."""
    made = Consumer(tmp_path / "consumer")
    made.fresh("The wine classifier")
    yield made
    if shutil.which("docker"):
        images = [f"wine:{commit}" for commit in made.commits()]
        subprocess.run(["docker", "image", "rm", "--force", *images], capture_output=True, check=False)


@pytest.fixture
def act(consumer: Consumer, export: Path, tmp_path: Path) -> Act:
    """Run steps (or a workflow that is in the repository) as the consumer, on this machine or in a container."""

    def run(
        steps: list[dict[str, Any]] | None = None, *, workflow: str = "test.yml", image: str = "",
        env: Mapping[str, str] | None = None, **more: Any,
    ) -> Ran:  # fmt: skip
        if steps is not None:
            job = {"runs-on": "ubuntu-latest", "permissions": {"contents": "read"}, "steps": [CHECKOUT, *steps]}
            content = {"name": "Test", "on": "push", "jobs": {"test": job}}
            (consumer.workflow.parent / workflow).write_text(yaml.safe_dump(content, sort_keys=False))
            consumer.commit("A workflow")
        lines: list[str] = []
        progress = Progress.of(yaml.safe_load((consumer.workflow.parent / workflow).read_text()), lines.append)
        mounts = (f"{docker_client()}:/usr/bin/docker:ro",) if image else ()
        Run(
            consumer.folder, workflow, export, tmp_path / "work", image=image, env=env or {}, mounts=mounts, **more
        ).run(progress.feed)
        progress.finish()
        return Ran(progress, lines)

    return run


def docker_client() -> str:
    """This machine's docker command, which a job's container is handed."""
    return os.path.realpath(shutil.which("docker") or "/usr/bin/docker")


def uses(action: str, id: str = "", **inputs: str) -> dict[str, Any]:
    """A step that uses one of our actions, as a consumer writes it."""
    named = {name.replace("_", "-"): value for name, value in inputs.items()}
    return {"id": id or action, "uses": f"org/ml-deploy/{action}@v1", "with": named}
