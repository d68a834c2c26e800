"""The fault proxy: each way to misbehave, as a client sees it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import yaml
from tests.integration.conftest import LocalServer, start_local


class Backend(BaseHTTPRequestHandler):
    """Says what reached it; `/watch` says it line by line, for three seconds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        seen = {"path": self.path, "authorization": self.headers.get("Authorization", "")}
        self._send([json.dumps(seen)] if self.path != "/watch" else [str(n) * 1000 for n in range(3)])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send([f"{len(body)} bytes"])

    def _send(self, lines: list[str]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            self.wfile.write(f"{len(line) + 1:x}\r\n{line}\n\r\n".encode())
            time.sleep(1 if len(lines) > 1 else 0)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def process(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    server = start_local("faults.py", "faults.json", tmp_path_factory.mktemp("faults"), "--to", backend)
    yield server
    server.stop()


@pytest.fixture
def proxy(process: LocalServer) -> Iterator[Proxy]:
    proxy = Proxy(process)
    proxy.control("DELETE")
    yield proxy
    proxy.control("DELETE")


class Proxy:
    """The proxy's client and its control."""

    def __init__(self, server: LocalServer) -> None:
        self.url = str(server.told["url"])
        self._server = server

    def control(self, method: str, content: Any = None) -> list[dict[str, Any]]:
        return list(self._server.control(method, self.url, "faults", content))

    def add(self, **rule: Any) -> None:
        self.control("POST", rule)

    def hits(self) -> list[int]:
        return [rule["hits"] for rule in self.control("GET")]

    def get(self, path: str = "/") -> requests.Response:
        return requests.get(self.url + path, timeout=10)


def test_without_rules_it_only_passes_on(proxy: Proxy) -> None:
    answer = requests.get(proxy.url + "/a%2Fb?c=d", headers={"Authorization": "Bearer mine"}, timeout=10)
    assert answer.json() == {"path": "/a%2Fb?c=d", "authorization": "Bearer mine"}
    assert requests.post(proxy.url, data=b"x" * 5_000_000, timeout=10).text == "5000000 bytes\n"


def test_refuse(proxy: Proxy) -> None:
    proxy.add(fault="refuse")
    with pytest.raises(requests.ConnectionError):
        proxy.get()
    assert proxy.get().ok
    assert proxy.hits() == [1]


def test_delay(proxy: Proxy) -> None:
    proxy.add(fault="delay", seconds=0.5)
    began = time.monotonic()
    assert proxy.get().ok
    assert time.monotonic() - began > 0.5


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v2/a/manifests/b", ("errors", 0, "code", "TOOMANYREQUESTS")), ("/api/v1/pods", ("reason", "TooManyRequests"))],
)
def test_throttle_speaks_the_language_of_the_server(proxy: Proxy, path: str, code: tuple[Any, ...]) -> None:
    proxy.add(fault="throttle", retry_after=7)
    answer = proxy.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    found = answer.json()
    for step in code[:-1]:
        found = found[step]
    assert found == code[-1]


def test_conflict_by_method_and_path_so_many_times_and_not_at_once(proxy: Proxy) -> None:
    proxy.add(fault="conflict", method="GET", path="deploy.*/web$", times=2, after=1)
    statuses = [proxy.get("/apis/apps/v1/deployments/web").status_code for _ in range(5)]
    assert statuses == [200, 409, 409, 200, 200]
    assert proxy.get("/apis/apps/v1/deployments/other").ok
    assert proxy.hits() == [2]


def test_any_error_for_ever(proxy: Proxy) -> None:
    proxy.add(fault="error", status=502, body={"own": "words"}, times=0)
    answers = [proxy.get() for _ in range(3)]
    assert [(a.status_code, a.json()) for a in answers] == [(502, {"own": "words"})] * 3


def test_a_watch_streams_and_can_be_cut(proxy: Proxy) -> None:
    def watch() -> tuple[int, float, bool]:
        began, lines, first = time.monotonic(), 0, 0.0
        try:
            with requests.get(proxy.url + "/watch", stream=True, timeout=10) as answer:
                for _ in answer.iter_lines():
                    lines += 1
                    first = first or time.monotonic() - began
        except requests.RequestException:
            return lines, first, True
        return lines, first, False

    lines, first, cut = watch()
    assert (lines, cut) == (3, False)
    assert first < 0.9, "the first line comes at once"
    proxy.add(fault="cut", path="/watch", seconds=1.5)
    assert watch()[0::2] == (2, True)
    proxy.add(fault="cut", path="/watch", bytes=100)
    assert watch()[2]
    assert proxy.hits() == [1, 1]


def test_a_rule_that_makes_no_sense_is_refused(proxy: Proxy) -> None:
    for rule in ({"fault": "explode"}, {"fault": "delay", "colour": "red"}, {"fault": "error", "path": "("}):
        assert requests.post(f"{proxy.url}/-/faults", json=rule, timeout=10).status_code == 400, rule


def test_in_front_of_a_cluster_it_carries_the_credential(
    backend: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cluster")
    config = {
        "clusters": [{"name": "a", "cluster": {"server": backend}}],
        "users": [{"name": "b", "user": {"token": "the-real-credential"}}],
        "contexts": [{"name": "c", "context": {"cluster": "a", "user": "b"}}],
        "current-context": "c",
    }
    (folder / "real").write_text(yaml.safe_dump(config))
    server = start_local("faults.py", "faults.json", folder, "--kubeconfig", str(folder / "real"))
    try:
        through = yaml.safe_load((folder / "kubeconfig").read_text())
        url = through["clusters"][0]["cluster"]["server"]
        answer = requests.get(f"{url}/version", verify=str(folder / "ca.pem"), timeout=10)
        assert answer.json()["authorization"] == "Bearer the-real-credential"
    finally:
        server.stop()
    assert not (folder / "faults.json").exists(), "it says goodbye"
