"""The consumer's repository that try.sh works on: example-repo, copied into a Git repository of its own."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

from local.runner import ROOT

EXAMPLE = ROOT / "example-repo"
ORIGIN = "https://github.com/example/wine.git"  # gives the job a repository's name; never fetched
#: What --bad-model can do, and the step that stops it.
KINDS = {
    "malicious": "lint",
    "wrong": "build",
    "wrong-there": "deploy",
    "crashing": "deploy",
    "slow": "smoke-test",
}
_FAULTS = {"wrong-there": "wrong", "crashing": "crash", "slow": "slow"}


class Consumer:
    """A Git repository as a user of ml-deploy has it."""

    def __init__(self, folder: Path, workflow: str = "deploy.yml") -> None:
        self.folder = folder
        self.workflow = folder / ".github" / "workflows" / workflow

    def fresh(self, message: str) -> None:
        """Make the repository the example again, whatever a run before has done to it."""
        if not (self.folder / ".git" / "HEAD").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._git("init", "--quiet", "--initial-branch=main")
            self._git("remote", "add", "origin", ORIGIN)
        for path in self.folder.iterdir():
            if path.name != ".git":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(EXAMPLE, self.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        self.commit(message)

    def spoil(self, kind: str) -> str:
        """Make it bad and commit; returns a sentence that says what was done. Not for `wrong`: see `replace_model`."""
        if kind == "malicious":
            self.replace_model(pickle.dumps(_Payload()), "A model from the internet")
            return "The model file is replaced by one that runs a shell command when it is loaded."
        manifest = self.folder / "k8s" / "deployment.yaml"
        before = manifest.read_text()
        after = before.replace('value: ""', f'value: "{_FAULTS[kind]}"', 1)
        if after == before:
            raise ValueError(f"{manifest} has no fault to switch on")
        manifest.write_text(after)
        self.commit(f"Drill: {kind}")
        return f"The manifest's environment says MODEL_FAULT={_FAULTS[kind]}."

    def replace_model(self, data: bytes, message: str) -> None:
        """Commit other bytes as the model."""
        (self.folder / "model" / "wine.joblib").write_bytes(data)
        self.commit(message)

    def commits(self) -> list[str]:
        """All commits, newest first; none when there is no repository yet."""
        return self._git("rev-list", "--all").split() if (self.folder / ".git" / "HEAD").exists() else []

    def commit(self, message: str) -> None:
        """Commit what has changed, if anything has."""
        self._git("add", "--all")
        if self._git("status", "--porcelain"):
            self._git("commit", "--quiet", "--message", message)

    def _git(self, *words: str) -> str:
        """Git without the user's settings (signing keys, hooks, templates) and without a name to configure."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_AUTHOR_NAME": "try.sh", "GIT_AUTHOR_EMAIL": "try@example.invalid",
            "GIT_COMMITTER_NAME": "try.sh", "GIT_COMMITTER_EMAIL": "try@example.invalid",
        }  # fmt: skip
        done = subprocess.run(["git", *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"git {words[0]} failed in {self.folder}: {done.stderr.strip()}")
        return done.stdout.strip()


class _Payload:
    """Unpickles into a call of the shell. It is only ever written, never loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/ml-deploy-was-here",)
