"""Plain HTTP(S) for single requests and for the load, over aiohttp.

One library for both, and this one, because its time-out covers a request as a whole: name, connection, TLS, headers
and body. (requests and urllib3 bound each read alone, and a server that drips one byte a second never ends.)
"""

from __future__ import annotations

import asyncio
import errno
import selectors
import ssl
import time
import urllib.request
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from ml_deploy.checks.compare import cut
from ml_deploy.checks.http import Answer, EndpointAccess, Request, join, problem_of
from ml_deploy.checks.load import Load, Plan
from ml_deploy.errors import EndpointDown, InputError

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

T = TypeVar("T")
_BODY_LIMIT = 32 * 2**20
_KEEP_ALIVE = 2.0  # seconds; servers close idle connections after 5 and more, and a POST to a closed one fails
_SAFE = "/?&=%:@!$'()*+,;~-._[]"


class Prepared(NamedTuple):
    """A request ready to be sent."""

    method: str
    url: URL
    headers: dict[str, str]
    body: bytes | None


class HttpEndpoint:
    """Satisfies `ml_deploy.checks.http.Endpoint`. Connections are kept alive between requests."""

    def __init__(self, access: EndpointAccess) -> None:
        if problem := problem_of(access.url):
            raise InputError(f"The input {problem}.")
        parts = urlsplit(access.url)
        self._access = access
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._base = parts.path
        self._proxy = _proxy(parts)
        self._tls: ssl.SSLContext | bool = _tls(access.ca) if parts.scheme == "https" else True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    def ask(self, request: Request) -> Answer:
        """Send one request and wait for its answer. Raises EndpointDown when none comes in time."""
        import aiohttp  # noqa: F401 (before the clock starts)

        prepared = self.prepare(request)
        start = time.perf_counter()
        try:
            status, headers, body = self._run(self.send(prepared))
        except Exception as error:
            raise self._down(request, error) from error
        return Answer(status, headers, body, time.perf_counter() - start)

    def load(self, plan: Plan, requests: Sequence[Request]) -> Load:
        """Send `requests` in turn at the planned rate and measure."""
        from ml_deploy.adapters.http_load import Generator

        return self._run(Generator(self.send, [self.prepare(request) for request in requests], plan).run())

    def close(self) -> None:
        """Close the connections; what is under way is given up."""
        if self._loop is None:
            return
        self._loop.run_until_complete(self._give_up())
        self._loop.close()
        self._loop = self._session = None

    def prepare(self, request: Request) -> Prepared:
        """The request with its full address and all headers, those of the endpoint first."""
        from yarl import URL

        url = URL(self._origin + quote(join(self._base, request.path), safe=_SAFE), encoded=True)
        headers = {"User-Agent": "ml-deploy", **self._access.headers, **request.headers}
        return Prepared(request.method, url, headers, request.body)

    async def send(self, request: Prepared) -> tuple[int, Mapping[str, str], bytes]:
        """One request, one answer: status, headers, body. Exceptions are aiohttp's own."""
        async with self._open().request(
            request.method, request.url, data=request.body, headers=request.headers,
            allow_redirects=False, proxy=self._proxy, ssl=self._tls,
        ) as response:  # fmt: skip
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _BODY_LIMIT:
                    raise OverflowError
            return response.status, response.headers, bytes(body)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            # select() sleeps to the microsecond; epoll rounds up to a millisecond, and each send would be late by that.
            self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        return self._loop.run_until_complete(work)

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            seconds = self._access.seconds
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=0.8 * seconds),
                cookie_jar=aiohttp.DummyCookieJar(),  # a cookie would tie us to one replica
            )
        return self._session

    async def _give_up(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _down(self, request: Request, error: Exception) -> EndpointDown:
        what, hint = explain(error, self._access.seconds)
        path = join(self._base, request.path).partition("?")[0]  # a query may hold a key
        return EndpointDown(f"{request.method} {self._origin}{path}: {what}.", hint=hint)


def explain(error: BaseException, seconds: float) -> tuple[str, str]:
    """Why no answer came, and what to look at, for an exception of aiohttp's. Unknown ones are raised again."""
    import aiohttp

    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        return f"the proxy of this machine does not lead there ({cut(str(error))})", "Check HTTPS_PROXY and NO_PROXY."
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {error.host} cannot be resolved", _INSIDE if ".svc" in error.host else _NO_NAME
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError)):
        return _explain_tls(error)
    if isinstance(error, asyncio.TimeoutError):
        return _explain_timeout(error, seconds)
    if isinstance(error, OverflowError):
        return f"the answer is larger than {_BODY_LIMIT >> 20} MiB", "Ask for less: predictions are expected here."
    if isinstance(error, OSError):
        return _explain_os(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was cut in the middle of the answer", "Look at the log of the pod or the proxy."
    if isinstance(error, aiohttp.ClientResponseError):
        return f"what came back is no HTTP ({cut(error.message)})", "Check the port, and http against https."
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer", _CLOSED
    raise error


_CLOSED = "Look at the log of the pod: it may have crashed. A port that wants https does this to http, too."
_NO_NAME = (
    "Check the spelling. A DNS record that was just made may need some minutes; a private one exists only "
    "inside its network, where a self-hosted runner would have to be."
)
_INSIDE = (
    "This name exists only inside the cluster. Give `service` and `port` to ask through the API server, or, for limits "
    "and load, an address that this runner reaches: a Service of type LoadBalancer, an ingress."
)


def _explain_tls(error: BaseException) -> tuple[str, str]:
    text = cut(str(getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error), 200)
    if "wrong version number" in text.lower() or "record layer" in text.lower() or "http request" in text.lower():
        return "TLS failed: the server does not speak TLS on this port", "Use http:// or another port."
    if "hostname mismatch" in text.lower() or "ip address mismatch" in text.lower():
        return f"TLS failed: the certificate is for another name ({text})", "Use a name that the certificate lists."
    if "expired" in text.lower():
        return "TLS failed: the certificate has expired", "Renew the certificate."
    if "certificate" in text.lower():
        return f"TLS failed: the certificate is not trusted ({text})", (
            "Give the CA that signed it as `ca` (a path or PEM text)."
        )
    return f"TLS failed ({text})", "Check the certificate and the TLS versions of the endpoint."


def _explain_timeout(error: BaseException, seconds: float) -> tuple[str, str]:
    import aiohttp

    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {0.8 * seconds:g} s", (
            "Check the address, and whether a firewall or network policy drops packets from this runner."
        )
    return f"no complete answer within {seconds:g} s", (
        "Look at the log of the pod. Raise `request-timeout` when the model needs that long."
    )


def _explain_os(error: OSError) -> tuple[str, str]:
    number = error.errno or getattr(getattr(error, "os_error", None), "errno", None)
    if number == errno.ECONNREFUSED:
        return "connection refused", "Nothing listens there: check the port, and whether the pods are ready."
    if number in (errno.ECONNRESET, errno.EPIPE):
        return "the connection was reset", "Look at the log of the pod: it may have crashed."
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "no route to the host", "Check the address, and that this runner can reach its network."
    return cut(error.strerror or str(error) or type(error).__name__, 200), ""


def _proxy(parts: SplitResult) -> str | None:
    """The proxy of the environment for this address, never for this machine itself.

    (aiohttp's own `trust_env` would read ~/.netrc as well.)
    """
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _tls(ca: str) -> ssl.SSLContext:
    if not ca:
        return ssl.create_default_context()
    try:
        if "-----BEGIN" in ca:
            return ssl.create_default_context(cadata=ca)
        if not Path(ca).is_file():
            raise InputError(f"The input `ca` names no file ({cut(ca)}).", hint="Give a path, or the PEM text itself.")
        return ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise InputError(
            f"The input `ca` holds no PEM certificate ({cut(str(error))}).",
            hint="It starts with -----BEGIN CERTIFICATE-----.",
        ) from error
