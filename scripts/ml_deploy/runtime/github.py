"""The files and services of a job: outputs, summary, temporary files, reports, the OIDC token."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ml_deploy.errors import AuthFailed, Unreachable

_SUMMARY_LIMIT = 900 * 1024  # GitHub drops a summary over 1 MiB whole
AZURE_AUDIENCE = "api://AzureADTokenExchange"


class Job:
    """The job this step runs in, read from the environment; a terminal counts as a job without files."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.github = env.get("GITHUB_ACTIONS") == "true"
        self.workspace = Path(env.get("GITHUB_WORKSPACE") or ".")
        self._temp: Path | None = None

    @property
    def commit(self) -> str:
        """The commit's SHA, or an empty string."""
        return self._env.get("GITHUB_SHA", "")

    @property
    def run_url(self) -> str:
        """The address of this workflow run, or an empty string."""
        server, repository, run = (self._env.get(f"GITHUB_{n}", "") for n in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
        return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""

    @property
    def repository_url(self) -> str:
        """The address of the repository, or an empty string."""
        server, repository = self._env.get("GITHUB_SERVER_URL", ""), self._env.get("GITHUB_REPOSITORY", "")
        return f"{server}/{repository}" if server and repository else ""

    @property
    def temp(self) -> Path:
        """A folder of this step alone (mode 0700), removed by `clean`."""
        if self._temp is None:
            self._temp = Path(tempfile.mkdtemp(prefix="ml-deploy-", dir=self._env.get("RUNNER_TEMP") or None))
        return self._temp

    def clean(self) -> None:
        """Remove the step's temporary folder."""
        if self._temp is not None:
            shutil.rmtree(self._temp, ignore_errors=True)
            self._temp = None

    def report(self, name: str, text: str) -> Path:
        """Write a report that outlives the step and return its absolute path."""
        base = self._env.get("RUNNER_TEMP")
        folder = Path(base) / "ml-deploy-reports" if base else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        stem, dot, ending = name.rpartition(".")
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=f"{stem or name}-", suffix=dot + ending, delete=False
        ) as file:
            file.write(text)
        return Path(file.name).absolute()

    def set_outputs(self, outputs: Mapping[str, str]) -> None:
        """Append to GITHUB_OUTPUT, each value as a heredoc with a random delimiter."""
        path = self._env.get("GITHUB_OUTPUT")
        if not path:
            return
        with open(path, "a", encoding="utf-8") as file:
            for name, value in outputs.items():
                end = f"ml-deploy-{secrets.token_hex(16)}"
                file.write(f"{name}<<{end}\n{value}\n{end}\n")

    def add_summary(self, markdown: str) -> None:
        """Append to the job summary, cut before GitHub would drop it."""
        path = self._env.get("GITHUB_STEP_SUMMARY")
        if not path or not markdown.strip():
            return
        data = markdown.encode()
        if len(data) > _SUMMARY_LIMIT:
            data = data[:_SUMMARY_LIMIT].decode(errors="ignore").encode() + b"\n\n*(cut here: too long)*\n"
        with open(path, "ab") as file:
            file.write(data.rstrip() + b"\n\n")

    def variables(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the named environment variables that are set."""
        return {name: self._env[name] for name in names if name in self._env}

    def oidc_token(self, audience: str = AZURE_AUDIENCE) -> str:
        """A fresh identity token from GitHub; it lives about five minutes, so ask again for each use.

        Raises AuthFailed without `permissions: id-token: write`.
        """
        import urllib.error  # here: it costs 20 ms that few commands need
        import urllib.parse
        import urllib.request

        url, bearer = (self._env.get(f"ACTIONS_ID_TOKEN_REQUEST_{n}", "") for n in ("URL", "TOKEN"))
        if not url:
            raise AuthFailed(
                "GitHub offers this job no identity token.",
                hint="Add `permissions: id-token: write` to the job. Forks' pull requests never get one.",
            )
        request = urllib.request.Request(f"{url}&audience={urllib.parse.quote(audience, safe='')}")
        request.add_header("Authorization", f"bearer {bearer}")
        request.add_header("Accept", "application/json; api-version=2.0")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(json.load(answer)["value"])
        except urllib.error.HTTPError as error:
            raise AuthFailed(
                f"GitHub's token service answered {error.code} to the request for an identity token.",
                hint="Check `permissions: id-token: write`, and run the job again if it is there.",
            ) from error
        except (OSError, KeyError, ValueError) as error:
            raise Unreachable(f"GitHub's token service gave no identity token: {error}") from error
