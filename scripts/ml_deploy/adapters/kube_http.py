"""HTTP to a Kubernetes API server: kept-alive connections, tokens, and the rules of what is asked again.

Plain `http.client`: importing the Kubernetes client or requests would cost more time than a
whole deployment spends talking to the server.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_deploy.adapters.kubeconfig import Endpoint
from ml_deploy.errors import AuthFailed, Unreachable

_TEMPORARY = (429, 500, 502, 503, 504)
_LIMIT_500 = 10.0  # seconds; an internal error that lasts longer is no hiccup
_FIRST_CONTACT = 10.0  # seconds; a wrong address should not cost a job its whole deadline
_CONNECT = 10.0  # seconds
_TOKEN_KEPT = 60.0  # seconds; its source is asked again then, and knows when the token expires
_LONGEST_PAUSE = 8.0  # seconds between two attempts


@dataclass(frozen=True)
class Response:
    """One HTTP answer, header names in lower case. `unsure` is true when an earlier attempt of the same request may have been carried out."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[str, ...] = ()
    unsure: bool = False

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


@dataclass
class _Attempts:
    """What is remembered between the attempts of one request."""

    started: float
    count: int = 0
    renewed: bool = False
    unsure: bool = False
    problem: str = ""


@dataclass
class Http:
    """One API server. Safe for use from several threads; `patience` is how long (seconds) trouble is ridden out.

    before_write: called before each attempt of a request that is no GET, and may raise: a lock's guard.
    """

    endpoint: Endpoint
    mask: Callable[[str], None] = lambda _value: None
    patience: float = 60.0
    first_contact: float = _FIRST_CONTACT
    sleep: Callable[[float], None] = time.sleep
    before_write: Callable[[], None] = lambda: None
    _idle: list[http.client.HTTPConnection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tls: ssl.SSLContext | None = None
    _token: str = field(default="", repr=False)
    _token_until: float = 0.0
    _met: bool = False

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None,
        seconds: float = 30.0, give_up_on: Callable[[Response], bool] = lambda _r: False, slow_is_final: bool = False,
    ) -> Response:  # fmt: skip
        """The answer to one request, whatever its status; temporary trouble is retried for `patience` seconds.

        seconds: how long one attempt may take. give_up_on: answers that are not worth asking again for.
        slow_is_final: raise TimeoutError when the server took the request and did not answer it in that time.
        Raises Unreachable or AuthFailed.
        """
        attempts = _Attempts(time.monotonic())
        while True:
            attempts.count += 1
            try:
                response = self._once(method, path, body, headers or {}, seconds, attempts)
            except ssl.SSLCertVerificationError as error:
                raise self._untrusted(error) from error
            except (OSError, http.client.HTTPException) as error:
                if slow_is_final and isinstance(error, TimeoutError) and attempts.unsure:
                    raise
                self._pause(attempts, _backoff(attempts.count), error)
                continue
            self._met = True
            if response.status == 401:
                self._renew(attempts)
            elif response.status not in _TEMPORARY or give_up_on(response) or not self._pause_for(attempts, response):
                return response

    def stream(self, path: str, seconds: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """One GET without retries on a connection of its own; the caller reads the answer and closes both.

        seconds: how long the stream may stay silent. Raises OSError or HTTPException as they come.
        """
        connection = self._connect(seconds)
        try:
            connection.request("GET", self._path(path), headers=self._headers({}))
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def forget_token(self) -> None:
        """Ask for a fresh token before the next request."""
        self._token = ""

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # one attempt

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        attempts: _Attempts,
    ) -> Response:
        sent = self._headers(headers)
        connection, used = self._take(seconds)
        try:
            try:
                response = self._exchange(connection, method, path, body, sent)
            except (OSError, http.client.HTTPException) as error:
                if not used or isinstance(error, TimeoutError):
                    raise
                # The server closed a connection that was idle; that says nothing about the server.
                attempts.unsure = True
                connection.close()
                connection = self._connect(seconds)
                response = self._exchange(connection, method, path, body, sent)
        except BaseException:
            attempts.unsure = attempts.unsure or connection.sock is not None
            connection.close()
            raise
        self._give_back(connection)
        warnings = tuple(_warning(w) for w in response[1].get_all("Warning") or ())
        return Response(response[0], lowered(response[1]), response[2], warnings, attempts.unsure)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        if method != "GET":
            self.before_write()
        connection.request(method, self._path(path), body=body, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.will_close:
            connection.close()
        return answer.status, answer.headers, data

    def _headers(self, extra: Mapping[str, str]) -> dict[str, str]:
        credentials = self.endpoint.credentials
        headers = {"Accept": "application/json", "User-Agent": "ml-deploy", **extra}
        if credentials.token is not None:
            if not self._token or (credentials.renewable and time.monotonic() > self._token_until):
                self._use(credentials.token(False))
            headers["Authorization"] = f"Bearer {self._token}"
        elif credentials.basic:
            headers["Authorization"] = f"Basic {credentials.basic}"
        return headers

    def _use(self, token: str) -> None:
        if token != self._token:
            self.mask(token)
            self._token = token
        self._token_until = time.monotonic() + _TOKEN_KEPT

    def _path(self, path: str) -> str:
        return urllib.parse.urlsplit(self.endpoint.server).path.rstrip("/") + path

    # connections

    def _take(self, seconds: float) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None or connection.sock is None:
            return self._connect(seconds), False
        connection.sock.settimeout(seconds)
        return connection, True

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        if connection.sock is not None:
            with self._lock:
                self._idle.append(connection)

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        url = urllib.parse.urlsplit(self.endpoint.server)
        host, secure = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if secure else 80)
        proxy = self.endpoint.proxy or _proxy(url.scheme, f"{host}:{port}")
        connection = _Connection(host, port, self._context() if secure else None, self.endpoint.tls_name, proxy)
        connection.connect()
        connection.sock.settimeout(seconds)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = _tls_context(self.endpoint)
        return self._tls

    # trouble

    def _renew(self, attempts: _Attempts) -> None:
        """After a 401: one fresh token, when there is a way to get one; else stop."""
        credentials = self.endpoint.credentials
        if attempts.renewed or credentials.token is None or not credentials.renewable:
            raise AuthFailed(
                f"The cluster at {self.endpoint.server} does not accept our credentials (401).",
                hint="The token or certificate of the kubeconfig is expired or belongs to another cluster: get a new one.",
            )
        attempts.renewed = True
        self._use(credentials.token(True))

    def _pause_for(self, attempts: _Attempts, response: Response) -> bool:
        """Wait before asking again after a temporary answer; False when patience is over."""
        asked = response.headers.get("retry-after", "")
        wait = max(float(asked) if asked.isdigit() else 0.0, _backoff(attempts.count))
        patience = min(self.patience, _LIMIT_500) if response.status == 500 else self.patience
        if time.monotonic() - attempts.started + wait > patience:
            return False
        self.sleep(wait)
        return True

    def _pause(self, attempts: _Attempts, wait: float, error: Exception) -> None:
        attempts.problem = _words(error)
        patience = self.patience if self._met else min(self.patience, self.first_contact)
        if time.monotonic() - attempts.started + wait > patience:
            raise self._unreachable(attempts) from error
        self.sleep(wait)

    def _unreachable(self, attempts: _Attempts) -> Unreachable:
        server = self.endpoint.server
        host = urllib.parse.urlsplit(server).hostname or ""
        if self.endpoint.hint:
            hint = self.endpoint.hint
        elif ".privatelink." in host or (".azmk8s.io" in host and not self._met):
            hint = (
                "If this is a private cluster, only runners inside its virtual network reach it: use a self-hosted runner "
                "there. If it has authorized IP ranges, add the runner's address; and check that it is not stopped."
            )
        else:
            hint = "Check the server's address in the kubeconfig, and that this machine may reach it (VPN, firewall, proxy)."
        tries = "once" if attempts.count == 1 else f"{attempts.count} times"
        return Unreachable(f"The cluster at {server} does not answer ({attempts.problem}; tried {tries}).", hint=hint)

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> Unreachable:
        return Unreachable(
            f"The certificate of the cluster at {self.endpoint.server} is not trusted: {error.verify_message or error}.",
            hint="The kubeconfig's `certificate-authority-data` does not belong to this server; "
            "behind a proxy that opens TLS, add its CA to the kubeconfig.",
        )


class _Connection(http.client.HTTPConnection):
    """A connection that may pass a proxy and may expect another name in the certificate than it connects to."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, tls_name: str, proxy: str) -> None:
        super().__init__(host, port, timeout=_CONNECT)
        self._tls_context, self._tls_name = context, tls_name or host
        if proxy:
            via = urllib.parse.urlsplit(proxy if "//" in proxy else f"http://{proxy}")
            super().__init__(via.hostname or "", via.port or 80, timeout=_CONNECT)
            self.set_tunnel(host, port, _proxy_user(via))

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._tls_context is not None:
            self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self._tls_name)


def _proxy_user(via: urllib.parse.SplitResult) -> dict[str, str]:
    if not via.username:
        return {}
    import base64

    pair = f"{urllib.parse.unquote(via.username)}:{urllib.parse.unquote(via.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _proxy(scheme: str, host: str) -> str:
    """The environment's proxy for this host, if any (HTTPS_PROXY, NO_PROXY and their lower-case forms)."""
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return ""
    import urllib.request

    proxies = urllib.request.getproxies_environment()
    if urllib.request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
        return ""
    return proxies.get(scheme) or proxies.get("all") or ""


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=endpoint.ca or None)
    # Clusters are given CAs without a key usage extension, which Python 3.13's stricter default refuses.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    credentials = endpoint.credentials
    if credentials.certificate:
        # OpenSSL reads a client's key from files only: one of our own (mode 0600), gone at once.
        with tempfile.NamedTemporaryFile("w") as pem:
            pem.write(credentials.certificate.rstrip() + "\n" + credentials.key)
            pem.flush()
            context.load_cert_chain(pem.name)
    return context


def _backoff(attempt: int) -> float:
    return float(min(0.1 * 2 ** min(attempt - 1, 8), _LONGEST_PAUSE))


def _words(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
        return "it closed the connection"
    return str(error) or type(error).__name__


def lowered(headers: http.client.HTTPMessage) -> dict[str, str]:
    """Headers by lower-case name; of repeated ones the last."""
    return {name.lower(): value for name, value in headers.items()}


def _warning(header: str) -> str:
    """The text of an HTTP Warning header: `299 - "text"`."""
    text = header.partition(' "')[2].removesuffix('"') or header
    return text.replace('\\"', '"')
