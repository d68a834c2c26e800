"""The API over HTTP: paths to kinds, verbs to reads and writes, watches."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from . import errors, kinds, ownership, patches, validate
from .admission import Admission, stamp
from .kinds import ACCESS_REVIEW, POD, Kind, Object
from .matching import Test, field_query, label_query
from .node import Node
from .reach import Reach
from .store import Change

Queue = asyncio.Queue[Change]

BOOKMARK_SECONDS = 60.0
PATCHERS = {"merge-patch": patches.merge_patch, "json-patch": patches.json_patch}


@dataclass(frozen=True)
class Target:
    """What a path addresses."""

    kind: Kind
    namespace: str
    name: str
    sub: str
    rest: str


def target_of(path: str) -> Target:
    """Read a path such as `apis/apps/v1/namespaces/n/deployments/d/status`. Raises ApiError 404."""
    parts = path.split("/")
    size = 2 if parts[0] == "api" else 3
    root, rest, namespace = "/".join(parts[:size]), parts[size:], ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    kind = kinds.find(root, rest[0]) if rest else None
    name, sub = [*rest, "", "", ""][1:3]
    if kind is None or sub not in ("", *kind.subs):
        raise errors.no_such_path()
    return Target(kind, namespace, name, sub, "/".join(rest[3:]))


class Api:
    """All requests."""

    def __init__(self, admission: Admission, node: Node, reach: Reach, token: str) -> None:
        """`token` is the one bearer token that may come in."""
        self.admission, self.store, self.node, self.reach, self._token = admission, admission.store, node, reach, token

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=3 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.strip("/")
        try:
            if path in ("healthz", "readyz", "livez"):
                return web.Response(text="ok")
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                raise errors.ApiError(401, "Unauthorized", "Unauthorized")
            if document := kinds.document(path):
                return _json(document)
            if path == "openapi/v2":  # an empty protobuf: kubectl then leaves validation of Lists to the server
                return web.Response()
            if not path.startswith(("api/", "apis/")):
                return web.Response(text="404 page not found\n", status=404)
            return await self._route(request, target_of(path))
        except errors.ApiError as error:
            return _json(error.status(), error.code)

    async def _route(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.sub == "proxy":
            return await self.reach.proxy(request, target.kind, target.namespace, target.name, target.rest)
        if target.sub == "log":
            return await self._log(request, target)
        whole = {"GET": self._get, "POST": self._post}
        one = {"GET": self._get, "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete}
        verbs = one if target.name else whole
        if request.method not in verbs:
            message = "the server does not allow this method on the requested resource"
            raise errors.ApiError(405, "MethodNotAllowed", message)
        return await verbs[request.method](request, target)

    def _live(self, target: Target) -> Object:
        obj = self.store.get(target.kind, target.namespace, target.name)
        if obj is None:
            raise errors.not_found(target.kind, target.name)
        return obj

    def _items(self, request: web.Request, target: Target) -> list[Object]:
        test = _test(request, target)
        return [obj for obj in self.store.list(target.kind, target.namespace) if test(obj)]

    # reading

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, target)
        if target.name:
            return _json(self._live(target))
        kind, metadata = target.kind, {"resourceVersion": str(self.store.version)}
        items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
                 for item in self._items(request, target)]  # fmt: skip
        return _json({"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue = Queue()
        listener = queue.put_nowait
        self.store.listeners.append(listener)
        try:
            async for type_, obj in self._events(request, target, queue):
                await response.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")
        except ConnectionResetError:
            pass
        finally:
            self.store.listeners.remove(listener)
        return response

    async def _events(self, request: web.Request, target: Target, queue: Queue) -> AsyncIterator[tuple[str, Object]]:
        query, test = request.query, _test(request, target)
        since, listing = int(query.get("resourceVersion") or 0), query.get("sendInitialEvents") == "true"
        changes = [change for change in self.store.changes if change.version > since]
        if since and not listing and since < self.store.oldest():
            message = f"too old resource version: {since} ({self.store.oldest()})"
            yield "ERROR", errors.ApiError(410, "Expired", message).status()
            return
        if listing or not since:
            changes = []
            for obj in self._items(request, target):
                yield "ADDED", obj
        if listing:
            yield "BOOKMARK", self._bookmark(target.kind, {"annotations": {"k8s.io/initial-events-end": "true"}})
        for change in changes:
            if event := _seen(change, target, test):
                yield event
        async for change_or_none in _until(queue, float(query.get("timeoutSeconds") or 1800)):
            if change_or_none and (event := _seen(change_or_none, target, test)):
                yield event
            elif not change_or_none and query.get("allowWatchBookmarks") == "true":
                yield "BOOKMARK", self._bookmark(target.kind, {})

    def _bookmark(self, kind: Kind, metadata: Object) -> Object:
        metadata = {"resourceVersion": str(self.store.version), "creationTimestamp": None, **metadata}
        return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        chunks = await self.node.logs(self._live(target), dict(request.query))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
        return response

    # writing

    async def _post(self, request: web.Request, target: Target) -> web.Response:
        body = await _body(request)
        if target.kind is ACCESS_REVIEW:
            return _json({**body, "status": {"allowed": True, "reason": "the stand-in allows everything"}}, 201)
        warnings = _checked(request, target, body)
        return _json(self.admission.create(target.kind, body, _dry(request)), 201, warnings)

    async def _put(self, request: web.Request, target: Target) -> web.Response:
        return self._replace(request, target, self._live(target), await _body(request))

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        patch, style = await _body(request), request.content_type
        if style == "application/apply-patch+yaml":
            return self._apply(request, target, patch)
        patcher = PATCHERS.get(style.removeprefix("application/").removesuffix("+json"))
        if patcher is None:
            message = f"the body of the request was in an unknown format: {style}"
            raise errors.ApiError(415, "UnsupportedMediaType", message)
        old = self._live(target)
        return self._replace(request, target, old, patcher(old, patch))

    def _replace(self, request: web.Request, target: Target, old: Object, body: Object) -> web.Response:
        warnings = _checked(request, target, body)
        return _json(self.admission.update(target.kind, body, old, target.sub, _dry(request)), 200, warnings)

    def _apply(self, request: web.Request, target: Target, config: Object) -> web.Response:
        kind, old = target.kind, self.store.get(target.kind, target.namespace, target.name)
        _checked(request, target, config, applied=True)
        if "status" in kind.subs and target.sub != "status":
            config.pop("status", None)
        manager = request.query.get("fieldManager", "")
        merged = ownership.apply(kind, old, config, manager, target.sub, stamp())
        if old is None:
            return _json(self.admission.create(kind, merged, _dry(request)), 201)
        return _json(self.admission.update(kind, merged, old, target.sub, _dry(request)))

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        options: Object = {**await _body(request), **({"dryRun": ["All"]} if _dry(request) else {})}
        for key in request.query.keys() & {"propagationPolicy", "gracePeriodSeconds"}:
            options[key] = int(request.query[key]) if key == "gracePeriodSeconds" else request.query[key]
        obj = self._live(target)
        if not self.admission.delete(target.kind, obj, options) or target.kind is POD:
            return _json(self.store.get(target.kind, target.namespace, target.name) or obj)
        details = {**errors.about(target.kind, target.name), "uid": obj["metadata"]["uid"]}
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def _seen(change: Change, target: Target, test: Test) -> tuple[str, Object] | None:
    """A change as a watch with selectors sees it: entering is ADDED, leaving is DELETED."""
    namespace = change.object["metadata"].get("namespace", "")
    if change.kind is not target.kind or target.namespace not in ("", namespace):
        return None
    before = change.before is not None and test(change.before)
    if change.type != "DELETED" and test(change.object):
        return ("MODIFIED" if before else "ADDED"), change.object
    return ("DELETED", change.object) if before else None


async def _until(queue: Queue, seconds: float) -> AsyncIterator[Change | None]:
    """Changes until the time is over, with a None each minute and at the end."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            yield await asyncio.wait_for(queue.get(), min(left, BOOKMARK_SECONDS))
        except asyncio.TimeoutError:
            yield None


def _test(request: web.Request, target: Target) -> Test:
    labels = label_query(request.query.get("labelSelector", ""))
    fields = field_query(request.query.get("fieldSelector", ""))
    return lambda obj: labels(obj) and fields(obj) and target.name in ("", obj["metadata"]["name"])


def _dry(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


def _checked(request: web.Request, target: Target, body: Object, applied: bool = False) -> list[str]:
    """Body and path must agree on kind, namespace and name, and body and schema. The warnings to send."""
    kind, metadata = target.kind, body.setdefault("metadata", {})
    named, version = body.get("kind", kind.name), body.get("apiVersion", kind.api_version)
    if (version, named) != (kind.api_version, kind.name):
        why = f'{named} in version "{version}" cannot be handled as a {kind.name}: unknown conversion'
        raise errors.bad_request(why)
    if kind.namespaced and metadata.setdefault("namespace", target.namespace) != target.namespace:
        why = "the namespace of the provided object does not match the namespace sent on the request"
        raise errors.bad_request(why)
    if target.name and metadata.setdefault("name", target.name) != target.name:
        why = f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        raise errors.bad_request(why)
    level = request.query.get("fieldValidation")
    warnings = validate.check_schema(kind, body, applied, level == "Strict")
    return [] if level == "Ignore" else warnings


async def _body(request: web.Request) -> Any:
    """JSON or YAML; an empty body is an empty object."""
    raw = await request.read() or b"{}"
    try:
        body = json.loads(raw) if raw[:1] in b"{[" else yaml.load(raw, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (ValueError, yaml.YAMLError) as error:
        raise errors.bad_request(f"error decoding body: {error}") from None
    if not isinstance(body, list if "json-patch" in request.content_type else dict):
        raise errors.bad_request("couldn't get version/kind; json parse error: the body is of another type")
    return body


def _json(body: Object, code: int = 200, warnings: list[str] | None = None) -> web.Response:
    response = web.Response(body=json.dumps(body).encode(), status=code, content_type="application/json")
    for warning in warnings or []:
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response
