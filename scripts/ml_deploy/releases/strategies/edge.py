"""Where a route is asked from outside: the gateway's address, and the path that its rules turn into the Service's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ml_deploy.checks.http import Request
from ml_deploy.releases.cluster import Object, Ref

_GROUP = "gateway.networking.k8s.io"


class Way(NamedTuple):
    """The rule that takes a request, and the path under which the gateway is asked for it."""

    rule: int
    path: str


def way(rules: Sequence[Object], request: Request, ours: Callable[[Object], bool]) -> Way | None:
    """How a request for the Service's own path is asked at the gateway; None when no rule is plain enough to tell."""
    for number, rule in enumerate(rules):
        if not any(ours(ref) for ref in rule.get("backendRefs") or []):
            continue
        for match in rule.get("matches") or [{}]:
            path = _path(match, rule.get("filters") or [], request)
            if path is not None:
                return Way(number, path)
    return None


def asked_at(request: Request, found: Way, host: str, **headers: str) -> Request:
    """A request for the Service as the gateway is sent it."""
    named = {"Host": host} if host else {}
    return replace(request, path=found.path, headers={**request.headers, **named, **headers})


def parents(route: Object) -> list[tuple[Ref, Object]]:
    """The Gateways that a route hangs on, with what it says of their listeners."""
    found = []
    for parent in (route.get("spec") or {}).get("parentRefs") or []:
        if parent.get("kind", "Gateway") == "Gateway" and parent.get("group", _GROUP) == _GROUP:
            namespace = parent.get("namespace") or route["metadata"]["namespace"]
            found.append((Ref(route["apiVersion"], "Gateway", namespace, parent["name"]), dict(parent)))
    return found


def address(route: Object, gateway: Object, parent: Object) -> tuple[str, str]:
    """The gateway's URL and the host to ask for; empty where it has no address, or none that is reached by HTTP.

    Over HTTPS the name must be known by DNS: a certificate is for a name.
    """
    given: Any = next(iter((gateway.get("status") or {}).get("addresses") or []), None)
    listeners = [
        one for one in (gateway.get("spec") or {}).get("listeners") or []
        if one.get("protocol") in ("HTTP", "HTTPS")
        and parent.get("sectionName") in (None, one.get("name")) and parent.get("port") in (None, one.get("port"))
    ]  # fmt: skip
    if not given or not listeners:
        return "", ""
    listener = min(listeners, key=lambda one: one["protocol"] != "HTTPS" or not _host(route, one))
    host, port = _host(route, listener), int(listener["port"])
    if listener["protocol"] == "HTTPS":
        return (f"https://{host}" + ("" if port == 443 else f":{port}"), host) if host else ("", "")
    value = str(given["value"])
    return f"http://{f'[{value}]' if ':' in value else value}" + ("" if port == 80 else f":{port}"), host


def _host(route: Object, listener: Object) -> str:
    """A name that the route answers to."""
    names = [*((route.get("spec") or {}).get("hostnames") or []), listener.get("hostname") or ""]
    return next((name.replace("*", "canary", 1) for name in names if name), "")


def _path(match: Object, filters: Sequence[Object], request: Request) -> str | None:
    """The path outside that this match and these filters turn into the request's own."""
    if match.get("headers") or match.get("queryParams") or match.get("method") not in (None, request.method):
        return None
    wanted = match.get("path") or {"type": "PathPrefix", "value": "/"}
    inside, mark, query = request.path.partition("?")
    outside = _outside(wanted.get("type", "PathPrefix"), wanted.get("value", "/"), _rewrite(filters), inside)
    return None if outside is None else outside + mark + query


def _rewrite(filters: Sequence[Object]) -> Object | None:
    """What becomes of the path; an empty dictionary when nothing does, None when the answer is not the Service's."""
    if any(one.get("type") in ("RequestRedirect", "ExtensionRef") for one in filters):
        return None
    found = [(one.get("urlRewrite") or {}).get("path") or {} for one in filters if one.get("type") == "URLRewrite"]
    return dict(found[0]) if found else {}


def _outside(kind: str, value: str, rewrite: Object | None, inside: str) -> str | None:
    if rewrite is None or kind not in ("PathPrefix", "Exact"):
        return None
    if rewrite.get("type") == "ReplaceFullPath":
        return value if rewrite.get("replaceFullPath") == inside else None
    if rewrite.get("type") == "ReplacePrefixMatch":
        rest = _below(str(rewrite.get("replacePrefixMatch", "/")), inside)
        return None if rest is None or kind == "Exact" else (value.rstrip("/") + rest) or "/"
    if kind == "Exact":
        return inside if value == inside else None
    return inside if _below(value, inside) is not None else None


def _below(prefix: str, path: str) -> str | None:
    """What comes after a prefix of whole path elements, with its slash; None when the path is not below it."""
    base = prefix.rstrip("/")
    if path == base or path == base + "/":
        return path[len(base) :]
    return path[len(base) :] if path.startswith(base + "/") else None
