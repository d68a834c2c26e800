"""What the servers of the local stack share: certificates, ports, start and end, kubeconfigs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web


class Authority:
    """A certificate authority made for one start; nothing outside the state folder trusts it."""

    def __init__(self, state: Path) -> None:
        """Write ca.pem, and bundle.pem with the system's authorities beside ours."""
        try:
            import trustme
        except ImportError:
            raise SystemExit("The local stack needs `trustme`, which the dev set has: bootstrap.py base dev") from None
        self._made = trustme.CA(organization_name="ml-deploy local stack")
        self.ca = state / "ca.pem"
        self.bundle = state / "bundle.pem"
        self._made.cert_pem.write_to_path(str(self.ca))
        self.bundle.write_bytes(_system_authorities() + self.ca.read_bytes())

    def server(self) -> ssl.SSLContext:
        """TLS for this machine's own names."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        names = {"localhost", "127.0.0.1", "::1", socket.gethostname()}
        self._made.issue_cert(*sorted(names)).configure_cert(context)
        return context

    def signer(self, name: str) -> tuple[str, str]:
        """A private key (PEM) and the base64 DER of its certificate, for signing tokens with `x5c`."""
        import trustme

        leaf = self._made.issue_cert(name, key_type=trustme.KeyType.RSA)
        key = leaf.private_key_pem.bytes().decode()
        certificate = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
        return key, base64.b64encode(certificate).decode()


def _system_authorities() -> bytes:
    """What this machine trusts already, so that our bundle can stand in for it."""
    paths = (os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("SSL_CERT_FILE"),
             ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt")  # fmt: skip
    for path in paths:
        if path and Path(path).is_file():
            return Path(path).read_bytes() + b"\n"
    return b""


@asynccontextmanager
async def served(app: web.Application, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve an application on this machine; yields the port (a free one for 0)."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served_both(app: web.Application, port: int, tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve with and without TLS on one port, as the client begins: Docker tries TLS on localhost, containerd does not."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        listening.setblocking(False)
        accepting = asyncio.create_task(_accept(listening, runner, tls))
        try:
            yield int(listening.getsockname()[1])
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            await runner.cleanup()


async def _accept(listening: socket.socket, runner: web.AppRunner, tls: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    beginning: set[asyncio.Task[None]] = set()
    try:
        while True:
            connection, _ = await loop.sock_accept(listening)
            task = loop.create_task(_begin(connection, runner, tls))
            beginning.add(task)
            task.add_done_callback(beginning.discard)
    finally:
        for task in beginning:
            task.cancel()


async def _begin(connection: socket.socket, runner: web.AppRunner, tls: ssl.SSLContext) -> None:
    """Look at the first byte without taking it (22 begins a TLS handshake), then hand the connection over."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await asyncio.wait_for(readable.wait(), 30)
        first = connection.recv(1, socket.MSG_PEEK)
    except (OSError, asyncio.TimeoutError, asyncio.CancelledError):
        connection.close()
        return
    finally:
        loop.remove_reader(connection)
    with suppress(OSError):  # a handshake that fails
        await loop.connect_accepted_socket(runner.server, connection, ssl=tls if first == b"\x16" else None)  # type: ignore[arg-type]


async def ready(file: Path, content: Mapping[str, Any]) -> None:
    """Say where we are (file and standard output), and stay until SIGINT or SIGTERM; the file goes with us."""
    text = json.dumps({"pid": os.getpid(), **content}, indent=2)
    write(file, text)
    print(text, flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        with suppress(FileNotFoundError):
            file.unlink()


def write(file: Path, text: str) -> None:
    """Write a private file as a whole, so that a reader never sees half of it."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as part:
        part.write(text)
    Path(part.name).rename(file)


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class ClusterAddress:
    """An API server and the credential of a kubeconfig's current context."""

    server: str
    ssl: ssl.SSLContext | bool
    authorization: str
    namespace: str


def cluster_address(path: Path) -> ClusterAddress:
    """Read a kubeconfig with a certificate, a token or a password. Raises SystemExit on others."""
    config = yaml.safe_load(path.read_text())
    context = _named(config, "contexts", config["current-context"])["context"]
    cluster = _named(config, "clusters", context["cluster"])["cluster"]
    user = _named(config, "users", context["user"])["user"]
    if "exec" in user or "auth-provider" in user:
        raise SystemExit(f"{path}: its user runs a credential plugin; the local stack wants a certificate or a token")
    token = user.get("token", "")
    if user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text().strip()
    return ClusterAddress(
        server=cluster["server"],
        ssl=_client_tls(cluster, user, path.parent) if cluster["server"].startswith("https") else True,
        authorization=f"Bearer {token}" if token else "",
        namespace=context.get("namespace", ""),
    )


def _named(config: Mapping[str, Any], kind: str, name: str) -> Any:
    return next(one for one in config[kind] if one["name"] == name)


def _client_tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    if cluster.get("insecure-skip-tls-verify"):
        context = ssl._create_unverified_context()
    else:
        context = ssl.create_default_context(cadata=_content(cluster, "certificate-authority", folder) or None)
    certificate = _content(user, "client-certificate", folder)
    if certificate:
        with tempfile.NamedTemporaryFile("w") as both:
            both.write(certificate + "\n" + _content(user, "client-key", folder))
            both.flush()
            context.load_cert_chain(both.name)
    return context


def _content(part: Mapping[str, Any], name: str, folder: Path) -> str:
    """What `name-data` holds, or the file that `name` names."""
    if part.get(f"{name}-data"):
        return base64.b64decode(part[f"{name}-data"]).decode()
    return (folder / part[name]).read_text() if part.get(name) else ""


def kubeconfig(server: str, ca: Path, user: Mapping[str, Any], namespace: str = "") -> str:
    """A kubeconfig for one cluster and one user."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    context = {"cluster": "local", "user": "local"} | ({"namespace": namespace} if namespace else {})
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "local", "user": dict(user)}],
        "contexts": [{"name": "local", "context": context}],
        "current-context": "local",
    }
    return yaml.safe_dump(content, sort_keys=False)
