"""The command-line tools that render: helm, kustomize, kubectl; implements `ml_deploy.releases.sources.rendering.Renderer`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_deploy.adapters.tool_errors import refused
from ml_deploy.errors import InputError, MlDeployError, TimedOut
from ml_deploy.releases.sources.rendering import Capabilities, Chart

_SECONDS = 120.0  # a chart may have to be fetched


class Tools:
    """Runs what is on the PATH, in `root`. temp: makes a folder that only we can read."""

    def __init__(self, root: Path, tell: Callable[[str], None], temp: Callable[[], Path]) -> None:
        self._root, self._tell, self._temp = root, tell, temp

    def chart(self, chart: Chart, capabilities: Capabilities | None) -> str:
        """`helm template`. Raises InputError without helm, ManifestError with Helm's words when it refuses."""
        helm = self._find("helm")
        if helm is None:
            raise InputError(
                "`chart` needs helm, and there is none on the PATH.",
                hint="GitHub's Ubuntu runners have it; elsewhere add a step with azure/setup-helm before this one.",
                title="helm is missing",
            )
        version = self._run([helm, "version", "--template", "{{.Version}}"], "helm").strip()
        self._tell(f"rendering {chart.title} with helm {version.removeprefix('v')}")
        try:
            return self._run([helm, *_template(chart, capabilities, self._login(chart))], f"The chart {chart.title}")
        except MlDeployError as error:
            error.file, error.line = _template_of(error.message, chart, self._root)
            raise

    def _login(self, chart: Chart) -> list[str]:
        if not chart.login:
            return []
        file = self._temp() / "helm-registry.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"auths": {chart.registry: dict(chart.login)}}))
        return [f"--registry-config={file}"]

    def kustomization(self, folder: str) -> str:
        """`kustomize build` or `kubectl kustomize`. Raises InputError without both, ManifestError when it refuses."""
        kustomize, kubectl = self._find("kustomize"), self._find("kubectl")
        if kustomize:
            command = [kustomize, "build", folder]
        elif kubectl:
            command = [kubectl, "kustomize", folder]
        else:
            raise InputError(
                "`kustomize` needs the kustomize binary or kubectl, and neither is on the PATH.",
                hint="GitHub's runners have both; elsewhere add a step with azure/setup-kubectl before this one.",
                title="kustomize is missing",
            )
        self._tell(f"rendering {folder} with {' '.join([Path(command[0]).name, command[1]])}")
        return self._run(command, f"The kustomization {folder}")

    def _find(self, name: str) -> str | None:
        found = shutil.which(name)
        return str(Path(found).resolve()) if found and not Path(found).is_absolute() else found

    def _run(self, command: Sequence[str], what: str) -> str:
        try:
            done = subprocess.run(
                command, cwd=self._root, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
                errors="replace", timeout=_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{what}: {Path(command[0]).name} did not end within {_SECONDS:.0f} s.") from error
        except OSError as error:
            raise InputError(f"{command[0]} cannot be run: {error.strerror}.") from error
        for line in done.stderr.splitlines():
            if done.returncode == 0 and line.strip():
                self._tell(f"{Path(command[0]).name}: {line.strip()}")
        if done.returncode:
            raise refused(what, done.stderr)
        return done.stdout


def _template(chart: Chart, capabilities: Capabilities | None, login: Sequence[str]) -> list[str]:
    """The arguments of `helm template`; values in the form `--option=value`, so that none can be taken for an option."""
    arguments = ["template", f"--namespace={chart.namespace}", "--include-crds", *login]
    if chart.version:
        arguments.append(f"--version={chart.version}")
    if capabilities:
        arguments += [f"--kube-version={capabilities.version}"]
        arguments += [f"--api-versions={one}" for one in capabilities.api_versions]
    arguments += [f"--values={file}" for file in chart.values]
    arguments += [f"--set={one}" for one in chart.settings]
    return [*arguments, "--", chart.release, chart.reference]


def _template_of(message: str, chart: Chart, root: Path) -> tuple[str, int]:
    """The template that Helm names, as a path in the repository, with its line; nothing where it names none."""
    found = re.search(r"(?:template: |parse error on )[^/\s]+/(\S+?\.(?:ya?ml|tpl|txt))(?::(\d+))?", message)
    path = f"{chart.reference.rstrip('/')}/{found[1]}" if found else ""
    return (path, int(found[2] or 0)) if found and (root / path).is_file() else ("", 0)
