"""The API over HTTP: paths to kinds, verbs to writes and reads, watches."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from . import errors, kinds, ownership, patches, tables, validate
from .admission import Admission, By
from .kinds import ACCESS_REVIEW, POD, Kind, Object
from .matching import Test, field_query, label_query
from .node import Node
from .reach import Reach
from .store import Change, Store

BOOKMARK_SECONDS = 60.0
BODY_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """What a path addresses."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    sub: str = ""
    rest: str = ""


def target_of(path: str) -> Target:
    """Read a path such as `/apis/apps/v1/namespaces/n/deployments/d/status`. Raises ApiError 404."""
    parts = path.lstrip("/").split("/")
    size = 2 if parts[0] == "api" else 3
    root, rest = "/".join(parts[:size]), parts[size:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = kinds.find(root, rest[0]) if rest else None
    if kind is None:
        raise errors.no_such_path()
    name, sub = [*rest, "", ""][1:3]
    if sub and sub not in kind.subresources:
        raise errors.no_such_path()
    return Target(kind, namespace, name, sub, "/".join(rest[3:]))


class Api:
    """All requests."""

    def __init__(self, store: Store, admission: Admission, node: Node, reach: Reach, token: str) -> None:
        """`token` is the one bearer token that may come in."""
        self.store, self.admission, self.node, self.reach, self.token = store, admission, node, reach, token

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            self._authenticate(request)
            return await self._route(request)
        except errors.ApiError as error:
            return _json(error.status(), error.code)

    def _authenticate(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.path not in ("/healthz", "/readyz", "/livez") and not hmac.compare_digest(
            token.encode(), self.token.encode()
        ):
            raise errors.ApiError(401, "Unauthorized", "Unauthorized")

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.strip("/")
        if path in ("healthz", "readyz", "livez"):
            return web.Response(text="ok")
        if document := kinds.discovery(path) or kinds.openapi(path):
            return _json(document)
        if not path.startswith(("api/", "apis/")):
            return web.Response(text="404 page not found\n", status=404)
        target = target_of(request.rel_url.raw_path)
        if target.sub == "proxy":
            return await self.reach.proxy(request, target.kind, target.namespace, target.name, target.rest)
        if target.sub == "log":
            return await self._logs(request, target)
        verb = getattr(self, f"_{request.method.lower()}", None)
        if verb is None:
            raise errors.ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        response: web.StreamResponse = await verb(request, target)
        return response

    # reading

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.name and request.query.get("watch") not in ("true", "1"):
            obj = self._live(target)
            return _json(_scale(obj) if target.sub == "scale" else tables.render(request, target.kind, obj))
        test = _tests(request, target)
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, target, test)
        self._check_version(request)
        items = [obj for obj in self.store.list(target.kind, target.namespace) if test(obj)]
        metadata = {"resourceVersion": str(self.store.version)}
        return _json(tables.render_list(request, target.kind, items, metadata))

    def _check_version(self, request: web.Request) -> None:
        wanted = request.query.get("resourceVersion", "")
        if wanted.isdigit() and int(wanted) > self.store.version:
            message = f"Timeout: Too large resource version: {wanted}, current: {self.store.version}"
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            raise errors.ApiError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})

    def _live(self, target: Target) -> Object:
        obj = self.store.get(target.kind, target.namespace, target.name)
        if obj is None:
            raise errors.not_found(target.kind, target.name)
        return obj

    async def _watch(self, request: web.Request, target: Target, test: Test) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self.store.listeners.append(queue.put_nowait)
        try:
            async for type_, obj in self._events(request, target, test, queue):
                shown = obj if type_ in ("BOOKMARK", "ERROR") else tables.render(request, target.kind, obj)
                await response.write(json.dumps({"type": type_, "object": shown}).encode() + b"\n")
        except ConnectionResetError:
            pass
        finally:
            self.store.listeners.remove(queue.put_nowait)
        return response

    async def _events(
        self, request: web.Request, target: Target, test: Test, queue: asyncio.Queue[Change]
    ) -> AsyncIterator[tuple[str, Object]]:
        query, kind = request.query, target.kind
        since, initial = query.get("resourceVersion") or "0", query.get("sendInitialEvents") == "true"
        if since != "0" and not initial and int(since) < self.store.oldest():
            message = f"too old resource version: {since} ({self.store.oldest()})"
            yield "ERROR", errors.ApiError(410, "Expired", message).status()
            return
        replay = (
            [] if initial or since == "0" else [change for change in self.store.changes if change.version > int(since)]
        )
        if initial or since == "0":
            for obj in self.store.list(kind, target.namespace):
                if test(obj):
                    yield "ADDED", obj
        if initial:
            yield "BOOKMARK", self._bookmark(kind, {"annotations": {"k8s.io/initial-events-end": "true"}})
        for change in replay:
            if event := _seen(change, target, test):
                yield event
        async for change_or_none in _until(queue, float(query.get("timeoutSeconds") or 1800)):
            if change_or_none is None:
                if query.get("allowWatchBookmarks") == "true":
                    yield "BOOKMARK", self._bookmark(kind, {})
            elif event := _seen(change_or_none, target, test):
                yield event

    def _bookmark(self, kind: Kind, metadata: Object) -> Object:
        metadata = {"resourceVersion": str(self.store.version), "creationTimestamp": None, **metadata}
        return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}

    async def _logs(self, request: web.Request, target: Target) -> web.StreamResponse:
        pod, query = self._live(target), request.query
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        container = query.get("container") or pod["spec"]["containers"][0]["name"]
        chunks = await self.node.logs(pod, container, dict(query))
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
        return response

    # writing

    async def _post(self, request: web.Request, target: Target) -> web.Response:
        body = await _body(request)
        kind = target.kind
        if kind is ACCESS_REVIEW:
            return _json({**body, "status": {"allowed": True, "reason": "the stand-in allows everything"}}, 201)
        if target.sub == "eviction":
            self.admission.delete(POD, self._live(target), body.get("deleteOptions") or {})
            return _json(_success(target, None), 201)
        if target.name:
            raise errors.ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        _check_identity(body, target)
        warnings = validate.check_schema(kind, body, False, request.query.get("fieldValidation") == "Strict")
        return self._answer(request, self.admission.create(kind, body, _by(request, target)), 201, warnings)

    async def _put(self, request: web.Request, target: Target) -> web.Response:
        body, old = await _body(request), self._live(target)
        if target.sub == "scale":
            return self._scaled(request, target, old, body)
        _check_identity(body, target)
        warnings = validate.check_schema(target.kind, body, False, request.query.get("fieldValidation") == "Strict")
        return self._answer(request, self.admission.update(target.kind, body, old, _by(request, target)), 200, warnings)

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        patch = await _body(request)
        style = request.content_type
        if style == "application/apply-patch+yaml":
            return self._apply(request, target, patch)
        patcher = _PATCHERS.get(style)
        if patcher is None:
            raise errors.ApiError(
                415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {style}"
            )
        old = self._live(target)
        if target.sub == "scale":
            return self._scaled(request, target, old, patcher(_scale(old), patch))
        changed = patcher(old, patch)
        _check_identity(changed, target)
        warnings = validate.check_schema(target.kind, changed, False, request.query.get("fieldValidation") == "Strict")
        return self._answer(
            request, self.admission.update(target.kind, changed, old, _by(request, target)), 200, warnings
        )

    def _apply(self, request: web.Request, target: Target, config: Object) -> web.Response:
        manager = request.query.get("fieldManager", "")
        ownership.refuse_foreign(manager)
        _check_identity(config, target)
        kind, old = target.kind, self.store.get(target.kind, target.namespace, target.name)
        validate.check_schema(kind, config, True, True)
        if config["metadata"].get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        if target.sub != "status" and "status" in kind.subresources:
            config.pop("status", None)
        force = request.query.get("force") in ("true", "1")
        merged, owned = ownership.apply(kind, old, config, manager, target.sub, force)
        by = By(manager, target.sub, owned, _dry(request))
        if old is None:
            return self._answer(request, self.admission.create(kind, merged, by), 201)
        return self._answer(request, self.admission.update(kind, merged, old, by), 200)

    def _scaled(self, request: web.Request, target: Target, old: Object, scale: Object) -> web.Response:
        changed = {**old, "spec": {**old["spec"], "replicas": (scale.get("spec") or {}).get("replicas", 0)}}
        return _json(_scale(self.admission.update(target.kind, changed, old, _by(request, target))))

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        options: Object = await _body(request) if request.can_read_body else {}
        for key in ("propagationPolicy", "gracePeriodSeconds"):
            if key in request.query:
                options[key] = int(request.query[key]) if key == "gracePeriodSeconds" else request.query[key]
        dry = _dry(request) or options.get("dryRun") == ["All"]
        if target.name:
            obj, gone = self.admission.delete(target.kind, self._live(target), options, dry)
            return _json(_success(target, obj) if gone and target.kind is not POD else obj)
        test = _tests(request, target)
        items = [obj for obj in self.store.list(target.kind, target.namespace) if test(obj)]
        for obj in items:
            self.admission.delete(target.kind, obj, options, dry)
        return _json(tables.plain_list(target.kind, items, {"resourceVersion": str(self.store.version)}))

    def _answer(self, request: web.Request, obj: Object, code: int, warnings: list[str] | None = None) -> web.Response:
        response = _json(obj, code)
        for warning in warnings or [] if request.query.get("fieldValidation") != "Ignore" else []:
            response.headers.add("Warning", "299 - " + json.dumps(warning))
        return response


_PATCHERS = {
    "application/merge-patch+json": patches.merge_patch,
    "application/json-patch+json": patches.json_patch,
    "application/strategic-merge-patch+json": patches.strategic,
}


def _seen(change: Change, target: Target, test: Test) -> tuple[str, Object] | None:
    """A change as a watch with selectors sees it: entering is ADDED, leaving is DELETED."""
    namespace = change.object["metadata"].get("namespace", "")
    if change.kind is not target.kind or (target.namespace and namespace != target.namespace):
        return None
    now = change.type != "DELETED" and test(change.object)
    before = change.before is not None and test(change.before)
    if now:
        return ("MODIFIED" if before else "ADDED"), change.object
    return ("DELETED", change.object) if before else None


async def _until(queue: asyncio.Queue[Change], seconds: float) -> AsyncIterator[Change | None]:
    """Changes until the time is over, with a None each minute and at the end."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        try:
            yield await asyncio.wait_for(queue.get(), min(left, BOOKMARK_SECONDS))
        except asyncio.TimeoutError:
            yield None


def _tests(request: web.Request, target: Target) -> Test:
    labels = label_query(request.query.get("labelSelector", ""))
    fields = field_query(request.query.get("fieldSelector", ""))
    return lambda obj: labels(obj) and fields(obj) and target.name in ("", obj["metadata"]["name"])


def _by(request: web.Request, target: Target) -> By:
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return By(request.query.get("fieldManager") or agent, target.sub, None, _dry(request))


def _dry(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


def _check_identity(body: Object, target: Target) -> None:
    """Body and path must agree on kind, namespace and name."""
    kind = target.kind
    if not isinstance(body.get("metadata"), dict):
        body["metadata"] = {}
    if (body.get("apiVersion", kind.api_version), body.get("kind", kind.name)) != (kind.api_version, kind.name):
        raise errors.bad_request(f'{body.get("kind")} in version "{body.get("apiVersion")}" cannot be handled as a '
                                 f"{kind.name}: unknown conversion")  # fmt: skip
    metadata = body["metadata"]
    if kind.namespaced and metadata.setdefault("namespace", target.namespace) != target.namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if target.name and metadata.setdefault("name", target.name) != target.name:
        raise errors.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        )


async def _body(request: web.Request) -> Any:
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        try:
            body = yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise errors.bad_request(f"error decoding body: {error}") from None
    if not isinstance(body, dict) and "json-patch" not in request.content_type:
        raise errors.bad_request("couldn't get version/kind; json parse error: the body is no object")
    return body


def _scale(obj: Object) -> Object:
    metadata = {
        key: obj["metadata"].get(key) for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    status = {"replicas": (obj.get("status") or {}).get("replicas", 0),
              "selector": ",".join(f"{key}={value}" for key, value in labels.items())}  # fmt: skip
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": obj["spec"]["replicas"]}, "status": status}  # fmt: skip


def _success(target: Target, obj: Object | None) -> Object:
    details = {
        "name": target.name,
        **({"group": target.kind.group} if target.kind.group else {}),
        "kind": target.kind.plural,
    }
    details |= {"uid": obj["metadata"]["uid"]} if obj else {}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _json(body: Object, code: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=code, content_type="application/json")
