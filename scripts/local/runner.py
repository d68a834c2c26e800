"""Runs a workflow with act: on this machine, or in a container as GitHub's runners of containers do."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local.state import end

ROOT = Path(__file__).resolve().parents[2]
#: What a consumer's `uses: org/ml-deploy/NAME@v1` needs of this repository.
PUBLISHED = ("action.yml", "actions", "build-image", "deploy-aks", "lint-model", "push-acr", "rollback", "smoke-test",
             "requirements", "scripts")  # fmt: skip
#: Settings of this machine that a job's container needs to reach the package index.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL",
            "UV_DEFAULT_INDEX", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "UV_NATIVE_TLS")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of a workflow.

    consumer: the consumer's repository (a Git repository), whose workflow runs on a copy of it.
    actions:  the folder that stands for org/ml-deploy@v1.
    image:    the image of the job's container; empty runs the job on this machine.
    mounts:   volumes of the job's container, as docker writes them.
    payload:  what GitHub tells of the event (`github.event`).
    """

    consumer: Path
    workflow: str
    actions: Path
    work: Path
    event: str = "push"
    payload: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    mounts: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The words of the call. Values go by files, out of the process list; the workspace's own .env and .secrets do not."""
        files = {
            "env-file": {**self._network(), **self.env},
            "var-file": self.variables,
            "input-file": self.inputs,
            "secret-file": {},
        }
        words = [
            _act(), self.event, "--json", "--rm", "--no-cache-server", "--pull=false", "--strict",
            "--workflows", str(self.consumer / ".github" / "workflows" / self.workflow),
            "--platform", f"ubuntu-latest={self.image or '-self-hosted'}",
            "--local-repository", f"org/ml-deploy@v1={self.actions}",
            "--action-cache-path", str(self.work / "act"),
        ]  # fmt: skip
        for name, values in files.items():
            words += [f"--{name}", str(_private(self.work / f"{name}.yml", values))]
        if self.payload:
            words += ["--eventpath", str(_private(self.work / "event.json", self.payload))]
        if self.image:
            words += ["--container-options", " ".join(f"--volume {shlex.quote(mount)}" for mount in self.mounts)]
        return words

    def _network(self) -> dict[str, str]:
        return {name: os.environ[name] for name in _NETWORK if self.image and os.environ.get(name)}

    def run(self, feed: Callable[[str], None], started: Callable[[int], None] = lambda _: None) -> int:
        """Run it, give each line to `feed`, and return act's exit code. `started` hears the process's id."""
        shutil.rmtree(self.work / "act", ignore_errors=True)
        (self.work / "config").mkdir(parents=True, exist_ok=True)  # instead of the user's own settings of act
        env = {**os.environ, "XDG_CONFIG_HOME": str(self.work / "config")}
        with subprocess.Popen(self.command(), cwd=self.consumer, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as act:  # fmt: skip
            assert act.stdout
            started(act.pid)
            try:
                for line in act.stdout:
                    feed(line)
            except BaseException:
                end(psutil.Process(act.pid))
                raise
            return act.wait()


def _private(file: Path, values: Mapping[str, Any]) -> Path:
    """A file that only we can read; JSON is YAML, which act reads from a file of that ending."""
    file.touch(mode=0o600)
    file.write_text(json.dumps(dict(values)))
    return file


def publish(folder: Path) -> Path:
    """Copy what the runner would download of this repository into `folder`; nothing of a test or an example."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in PUBLISHED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def _act() -> str:
    beside = Path(sys.executable).with_name("act")
    return str(beside) if beside.exists() else "act"
