"""What users count as failed, wrong and right."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from local.users import Users
from ml_deploy.checks.cases import parse

CASE = parse('{"request": {"x": 1}, "expect": {"y": 2}}', 1)


class Endpoint(ThreadingHTTPServer):
    status, body = 200, b'{"y": 2}'


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Endpoint)
        assert json.loads(self.rfile.read(int(self.headers["Content-Length"]))) == {"x": 1}
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "failed", "wrong"), [(200, b'{"y": 2}', 0, 0), (200, b'{"y": 3}', 0, 1), (503, b"no", 1, 0)]
)
def test_counts(endpoint: Endpoint, status: int, body: bytes, failed: int, wrong: int) -> None:
    endpoint.status, endpoint.body = status, body
    users = Users(f"http://127.0.0.1:{endpoint.server_port}", [CASE])
    users.ask()
    assert (users.sent, users.failed, users.wrong) == (1, failed, wrong)
    assert len(users.examples) == failed + wrong


def test_no_answer_is_a_failure() -> None:
    users = Users("http://127.0.0.1:1", [CASE])
    users.ask()
    assert users.report()["failed"] == 1
