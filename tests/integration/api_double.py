"""An API server that misbehaves on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.releases.cluster import ClusterAccess, Object

KINDS = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
                       {"name": "pods", "kind": "Pod", "namespaced": True}]}  # fmt: skip


def config(version: str = "1", **data: str) -> Object:
    meta = {"name": "c", "namespace": "ml", "uid": "u1", "resourceVersion": version}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def status(code: int, reason: str = "", message: str = "no") -> dict[str, Any]:
    return {
        "code": code,
        "body": {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message},
    }


@dataclass
class Server:
    """Answers discovery by itself and all else from `answers`, in order.

    An answer: a dictionary with `code`, `body`, `headers`, `lines` (a watch), `cut` (close without an answer, or after
    the lines without the last chunk), `after` (seconds to wait first).
    """

    answers: list[dict[str, Any]] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    port: int = 0


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a port of its own."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/api/v1":
                self.reply({"code": 200, "body": KINDS})
                return
            state.seen.append((self.command, self.path))
            state.tokens.append(self.headers.get("Authorization", ""))
            self.reply(state.answers.pop(0) if state.answers else status(500, message="nothing is left to answer"))

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

        def reply(self, answer: dict[str, Any]) -> None:
            time.sleep(answer.get("after", 0))
            if "lines" in answer:
                self.stream(answer)
            elif answer.get("cut"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                data = answer.get("raw") or json.dumps(answer["body"]).encode()
                self.send_response(answer.get("code", 200))
                for name, value in {"Content-Length": str(len(data)), **answer.get("headers", {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def stream(self, answer: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in answer["lines"]:
                data = json.dumps(line).encode() + b"\n"
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            if answer.get("cut"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def kubeconfig(port: int, user: str = "{token: first}") -> str:
    """One that leads here."""
    return (
        f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n"
        f"users: [{{name: u, user: {user}}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u, namespace: ml}}]\ncurrent-context: x\n"
    )


def to(text: str, context: str = "") -> ApiServer:
    """The adapter, by a kubeconfig's path or text."""
    return connect(
        ClusterAccess(kubeconfig=text, context=context), lambda: pytest.fail("no Azure here"), lambda _s: None
    )
