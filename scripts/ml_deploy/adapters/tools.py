"""The command-line tools that render: helm, kustomize, kubectl; implements `ml_deploy.releases.sources.rendering.Renderer`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_deploy.errors import InputError, ManifestError, TimedOut
from ml_deploy.releases.sources.rendering import Capabilities, Chart

_SECONDS = 120.0  # a chart may have to be fetched
_LONGEST = 2000  # characters of a tool's complaint
_NO_CHART = re.compile(
    r'repo \S+ not found|failed to download|Chart\.yaml file is missing|non-absolute URLs|path ".*" not found'
)


class Tools:
    """Runs what is on the PATH, in `root`."""

    def __init__(self, root: Path, tell: Callable[[str], None]) -> None:
        self._root, self._tell = root, tell

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
        self._tell(f"rendering {chart.reference} with helm {version.removeprefix('v')}")
        try:
            return self._run([helm, *_template(chart, capabilities)], f"The chart {chart.reference}")
        except ManifestError as error:
            error.file, error.line = _template_of(error.message, chart, self._root)
            raise

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
            raise _refused(what, done.stderr)
        return done.stdout


def _template(chart: Chart, capabilities: Capabilities | None) -> list[str]:
    """The arguments of `helm template`; values in the form `--option=value`, so that none can be taken for an option."""
    arguments = ["template", f"--namespace={chart.namespace}", "--include-crds"]
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


def _refused(what: str, stderr: str) -> ManifestError:
    said = stderr.strip()[:_LONGEST]
    found = re.search(r'(?ms)^(?:Error|error): (.*)|err="(.*)"$', said)
    said = re.sub(r"\n\nUse --debug flag.*", "", (found[1] or found[2]) if found else said).strip()
    return ManifestError(f"{what} cannot be rendered: {said or 'it gave no reason'}", hint=_hint(said))


def _hint(said: str) -> str:
    if "missing in charts/ directory" in said:
        return "Add a step with `helm dependency build` before this one."
    if _NO_CHART.search(said):
        return (
            "Name a folder with a Chart.yaml or a .tgz relative to the workspace (is the repository checked out?), an "
            "oci:// address, or a chart of a repository that a step before added (`helm repo add`)."
        )
    if re.search(r"unable to find one of 'kustomization\.yaml'|must build at directory", said):
        return "Name the folder that has the kustomization.yaml, relative to the workspace."
    if "is a required field" in said or "required" in said:
        return "Give the value by `values` or `set`."
    return ""
