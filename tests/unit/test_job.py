"""Outputs, summary, reports and the identity token, as GitHub wants them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ml_deploy.errors import AuthFailed
from ml_deploy.runtime.github import Job


def test_outputs_are_heredocs_with_random_delimiters(tmp_path: Path) -> None:
    file = tmp_path / "output"
    Job({"GITHUB_OUTPUT": str(file)}).set_outputs({"a": "one\ntwo", "b": "x=y"})
    lines = file.read_text().splitlines()
    first, second = lines[0].partition("<<")[2], lines[4].partition("<<")[2]
    assert lines == [f"a<<{first}", "one", "two", first, f"b<<{second}", "x=y", second]
    assert first != second


def test_a_long_summary_is_cut_before_github_would_drop_it(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    Job({"GITHUB_STEP_SUMMARY": str(file)}).add_summary("ä" * 1024 * 1024)
    assert file.stat().st_size < 1024 * 1024
    assert file.read_text().rstrip().endswith("*(cut here: too long)*")


def test_reports_outlive_the_step_and_temporary_files_do_not(tmp_path: Path) -> None:
    job = Job({"RUNNER_TEMP": str(tmp_path)})
    temp, report = job.temp, job.report("lint-model.json", "{}")
    assert temp.stat().st_mode & 0o777 == 0o700
    job.clean()
    assert not temp.exists()
    assert report.read_text() == "{}"
    assert report.suffix == ".json"


class GitHub(BaseHTTPRequestHandler):
    """GitHub's token service: one token for one audience."""

    def do_GET(self) -> None:
        good = self.headers["Authorization"] == "bearer request-token"
        self.send_response(200 if good else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"value": f"token for {self.path.partition('audience=')[2]}"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def github() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), GitHub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token?api-version=2.0"
        server.shutdown()
        thread.join()


def test_identity_token(github: str) -> None:
    env = {"ACTIONS_ID_TOKEN_REQUEST_URL": github, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token"}
    assert Job(env).oidc_token() == "token for api%3A%2F%2FAzureADTokenExchange"
    with pytest.raises(AuthFailed, match="answered 401"):
        Job(env | {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "old"}).oidc_token()


def test_no_identity_token_says_which_permission_is_missing() -> None:
    with pytest.raises(AuthFailed) as caught:
        Job({}).oidc_token()
    assert "id-token: write" in caught.value.hint
