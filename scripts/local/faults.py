"""A proxy that misbehaves on demand, in front of any HTTP server: a Kubernetes API server, a registry.

    python scripts/local/faults.py --to URL [--port N] [--kubeconfig FILE] [--state DIR]

With `--kubeconfig` it stands in front of that cluster and carries its credential, as `kubectl proxy`
does; DIR then holds a kubeconfig that leads through the proxy. Misbehaviour is asked for at
`/-/faults`: POST adds a rule, GET lists rules with their hits, DELETE removes them.

    {"fault": "throttle", "method": "PUT", "path": "/manifests/", "times": 2, "after": 1}

fault:  refuse (the connection is reset), delay, throttle (429), conflict (409), error (any status),
        cut (the answer is reset in the middle, a watch too)
method: default any        path: regular expression, searched in path and query; default any
times:  how often, 0 for always; default 1        after: let so many matches pass first; default 0
status: for error, default 503        retry-after: seconds; throttle has 1
seconds: for delay, before the request; for cut, after the first byte        bytes: for cut
body:   of the answer; default what the server in question would say
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: it has an azure.py

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from local import serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KINDS = ("refuse", "delay", "throttle", "conflict", "error", "cut")
#: kubectl asks for a user name where there is none; the proxy takes no notice.
_NOBODY = {"token": "the-proxy-has-the-credential"}
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


@dataclass
class Rule:
    """One way to misbehave, and how often it has."""

    fault: str
    method: str = ""
    path: str = ""
    times: int = 1
    after: int = 0
    status: int = 503
    retry_after: int | None = None
    seconds: float = 0.0
    bytes: int = 0
    body: Any = None
    seen: int = 0
    hits: int = 0

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Rule:
        """A rule from JSON. Raises ValueError, TypeError or re.error on what it does not know."""
        rule = cls(**{key.replace("-", "_"): value for key, value in told.items()})
        if rule.fault not in KINDS:
            raise ValueError(f"fault must be one of {', '.join(KINDS)}")
        re.compile(rule.path)
        return rule

    def strikes(self, method: str, path: str) -> bool:
        """Whether it is this request's turn; counts it."""
        if (self.method and method != self.method) or not re.search(self.path, path):
            return False
        if self.times and self.hits >= self.times:
            return False
        self.seen += 1
        self.hits += self.seen > self.after
        return self.seen > self.after


class Faults:
    """The rules of one server, its control endpoint, and the middleware that applies them."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def install(self, app: web.Application) -> None:
        """Add the control endpoint and the middleware to an application."""
        app.router.add_post("/-/faults", self._add)
        app.router.add_get("/-/faults", self._list)
        app.router.add_delete("/-/faults", self._clear)
        app.middlewares.append(self.middleware)

    @property
    def middleware(self) -> Any:
        """Applies the first rule whose turn it is."""

        @web.middleware
        async def apply(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/-/"):
                return await handler(request)
            rule = next((r for r in self.rules if r.strikes(request.method, request.path_qs)), None)
            return await handler(request) if rule is None else await _misbehave(rule, request, handler)

        return apply

    async def _add(self, request: web.Request) -> web.Response:
        try:
            told = await request.json()
            self.rules += [Rule.read(one) for one in (told if isinstance(told, list) else [told])]
        except (ValueError, TypeError, re.error) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return await self._list(request)

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response([vars(rule) for rule in self.rules])

    async def _clear(self, request: web.Request) -> web.Response:
        self.rules.clear()
        return await self._list(request)


async def _misbehave(rule: Rule, request: web.Request, handler: Handler) -> web.StreamResponse:
    if rule.fault == "refuse":
        return _reset(request)
    if rule.fault == "delay":
        await asyncio.sleep(rule.seconds)
        return await handler(request)
    if rule.fault == "cut":
        request["cut"] = rule
        return await handler(request)
    return _answer(rule, request.path)


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _answer(rule: Rule, path: str) -> web.Response:
    status = {"throttle": 429, "conflict": 409}.get(rule.fault, rule.status)
    wait = 1 if rule.fault == "throttle" and rule.retry_after is None else rule.retry_after
    body = rule.body if rule.body is not None else _body(status, path)
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return web.Response(
        status=status, headers=headers, content_type="application/json",
        text=body if isinstance(body, str) else json.dumps(body),
    )  # fmt: skip


def _body(status: int, path: str) -> Any:
    """What a Kubernetes API server, a registry or Azure Resource Manager would say."""
    if path.startswith("/v2/"):
        code = {429: "TOOMANYREQUESTS", 403: "DENIED", 401: "UNAUTHORIZED"}.get(status, "UNKNOWN")
        message = {429: "too many requests", 403: "requested access to the resource is denied"}.get(status, "injected")
        return {"errors": [{"code": code, "message": message}]}
    if path.startswith(("/api", "/openapi", "/version")):
        reason = {409: "Conflict", 429: "TooManyRequests", 403: "Forbidden", 410: "Expired"}.get(status, "Injected")
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
                "reason": reason, "message": f"injected by the fault proxy: {reason}"}  # fmt: skip
    code = {429: "TooManyRequests", 403: "AuthorizationFailed"}.get(status, "InternalServerError")
    return {"error": {"code": code, "message": "injected by the fault proxy"}}


class Backend:
    """What a proxy forwards to: an address, and what is added to each request."""

    def __init__(self, url: str, session: ClientSession, headers: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._session = session
        self._headers = dict(headers or {})

    @classmethod
    @asynccontextmanager
    async def of_cluster(cls, cluster: serving.ClusterAddress) -> AsyncIterator[Backend]:
        """The API server of a kubeconfig, reached with the kubeconfig's own credential and no other."""
        async with ClientSession(
            connector=TCPConnector(ssl=cluster.ssl, limit=0), timeout=ClientTimeout(total=None), auto_decompress=False
        ) as session:
            yield cls(cluster.server, session, {"Authorization": cluster.authorization})

    @classmethod
    @asynccontextmanager
    async def of_url(cls, url: str) -> AsyncIterator[Backend]:
        """Any HTTP server; certificates are not verified, since this is for servers on the same machine."""
        async with ClientSession(
            connector=TCPConnector(ssl=False, limit=0), timeout=ClientTimeout(total=None), auto_decompress=False
        ) as session:
            yield cls(url, session)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on and its answer back, both as streams."""
        dropped = _HOP_BY_HOP | {name.lower() for name in self._headers}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        headers |= {"X-Forwarded-Proto": "https" if request.secure else "http"}
        headers |= {name: value for name, value in self._headers.items() if value}
        try:
            async with self._session.request(
                request.method,
                URL(self.url + request.raw_path, encoded=True),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            ) as answer:
                return await _relay(request, answer)
        except (ClientError, OSError) as error:
            return web.Response(status=502, text=f"the server behind the proxy does not answer: {error}\n")


async def _relay(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    out = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if name.lower() not in _HOP_BY_HOP:
            out.headers.add(name, _by_the_same_way(value, request) if name.lower() == "www-authenticate" else value)
    await out.prepare(request)
    cut: Rule | None = request.get("cut")
    if cut is not None and cut.seconds and request.transport is not None:
        asyncio.get_running_loop().call_later(cut.seconds, request.transport.abort)
    passed = 0
    try:
        async for chunk in answer.content.iter_any():
            if cut is not None and not cut.seconds and passed + len(chunk) > cut.bytes:
                await out.write(chunk[: max(0, cut.bytes - passed)])
                await asyncio.sleep(0.05)
                return _reset(request)
            passed += len(chunk)
            await out.write(chunk)
        await out.write_eof()
    except (ClientError, ConnectionError):  # either side went away: there is nobody to tell
        _reset(request)
    return out


def _by_the_same_way(challenge: str, request: web.Request) -> str:
    """A registry's realm on this very port, with TLS only for who came with TLS."""
    return (
        challenge
        if request.secure
        else challenge.replace(f'realm="https://{request.host}/', f'realm="http://{request.host}/')
    )


def application(backend: Backend, faults: Faults | None = None) -> web.Application:
    """A proxy application: the control endpoint, and everything else forwarded."""
    app = web.Application()
    (faults or Faults()).install(app)
    app.router.add_route("*", "/{path:.*}", backend.forward)
    return app


async def main(args: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    state = Path(args.state).resolve()
    state.mkdir(parents=True, exist_ok=True)
    (state / "faults.json").unlink(missing_ok=True)  # of a start that was killed
    if args.kubeconfig:
        cluster = serving.cluster_address(Path(args.kubeconfig))
        authority = serving.Authority(state)
        async with (
            Backend.of_cluster(cluster) as backend,
            serving.served(application(backend), args.port, authority.server()) as port,
        ):
            url = f"https://localhost:{port}"
            serving.write(state / "kubeconfig", serving.kubeconfig(url, authority.ca, _NOBODY, cluster.namespace))
            await serving.ready(state / "faults.json", {"url": url, "kubeconfig": str(state / "kubeconfig")})
    else:
        async with Backend.of_url(args.to) as backend, serving.served(application(backend), args.port) as port:
            await serving.ready(state / "faults.json", {"url": f"http://localhost:{port}"})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", help="URL of the server behind")
    target.add_argument("--kubeconfig", help="the cluster behind")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--state", required=True, help="folder for faults.json, which says where it listens")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(_arguments()))
