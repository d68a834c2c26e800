"""Ways to pods: endpoint slices, Services as TCP proxies, and the API server's HTTP proxy."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import aiohttp
from aiohttp import web
from yarl import URL

from .admission import Admission, suffix
from .errors import ApiError, not_found
from .events import Recorder
from .kinds import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE, Kind, Object
from .matching import labels_match
from .probes import port_of
from .store import Change, Store

Listener = tuple[str, int]
NAME_LABEL = "kubernetes.io/service-name"
DROPPED = {"host", "authorization", "connection", "transfer-encoding", "content-length", "content-encoding"}


class Reach:
    """Keeps endpoints and proxies as services and pods are."""

    def __init__(self, store: Store, admission: Admission, recorder: Recorder, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.admission, self.recorder, self.loop = store, admission, recorder, loop
        self._servers: dict[Listener, asyncio.AbstractServer] = {}
        self._turns: dict[tuple[str, str, int], Iterator[int]] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._lock = asyncio.Lock()
        self._http = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(ssl=False, limit=0))
        self._tasks: set[asyncio.Future[None]] = set()
        store.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        namespace = change.object["metadata"].get("namespace", "")
        if change.kind is SERVICE:
            self._mark(namespace, change.object["metadata"]["name"])
        elif change.kind is POD:
            for service in self.store.list(SERVICE, namespace):
                selector = service["spec"].get("selector")
                if labels_match(selector, change.object["metadata"].get("labels")) or (
                    change.before and labels_match(selector, change.before["metadata"].get("labels"))
                ):
                    self._mark(namespace, service["metadata"]["name"])

    def _mark(self, namespace: str, name: str) -> None:
        if not self._dirty:
            self.loop.call_soon(self._start_work)
        self._dirty.add((namespace, name))

    def _start_work(self) -> None:
        task = asyncio.ensure_future(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        services, self._dirty = self._dirty, set()
        for namespace, name in services:
            service = self.store.get(SERVICE, namespace, name)
            if service and service["spec"].get("selector"):
                self._publish(service)
        async with self._lock:
            await self._listen()

    # endpoints

    def _pods(self, service: Object) -> list[Object]:
        pods = self.store.list(POD, service["metadata"]["namespace"])
        return [pod for pod in pods if labels_match(service["spec"].get("selector"), pod["metadata"].get("labels"))
                and pod["status"].get("podIP") and pod["status"]["phase"] not in ("Succeeded", "Failed")]  # fmt: skip

    def _publish(self, service: Object) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        pods = self._pods(service)
        ports = [{"name": port.get("name", ""), "protocol": port["protocol"], "port": _target(port, pods)}
                 for port in service["spec"].get("ports") or []]  # fmt: skip
        labels = {NAME_LABEL: name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
        owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": service["metadata"]["uid"],
                 "controller": True, "blockOwnerDeletion": True}  # fmt: skip
        endpoints = [_endpoint(pod, service) for pod in pods]
        body = {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        mine = [one for one in self.store.list(ENDPOINT_SLICE, namespace)
                if (one["metadata"].get("labels") or {}).get(NAME_LABEL) == name]  # fmt: skip
        ready = [
            {"ip": one["addresses"][0], "targetRef": one["targetRef"]}
            for one in endpoints
            if one["conditions"]["ready"]
        ]
        subsets = [{"addresses": ready, "ports": ports}] if ready else []
        try:
            slice_name = mine[0]["metadata"]["name"] if mine else f"{name}-{suffix()}"
            self._put(ENDPOINT_SLICE, slice_name, namespace, {"labels": labels, "ownerReferences": [owner]}, body)
            self._put(ENDPOINTS, name, namespace, {"ownerReferences": [owner]}, {"subsets": subsets})
        except ApiError:
            pass  # the namespace is going away

    def _put(self, kind: Kind, name: str, namespace: str, metadata: Object, body: Object) -> None:
        old = self.store.get(kind, namespace, name)
        if old is None:
            self.admission.create(kind, {"metadata": {"name": name, "namespace": namespace, **metadata}, **body})
        else:
            self.admission.update(kind, {**old, **body}, old)

    def backend(self, service: Object, port: Object) -> tuple[str, int] | None:
        """The next ready pod's address for a port of a service, in turn."""
        ready = [pod for pod in self._pods(service) if _endpoint(pod, service)["conditions"]["ready"]]
        if not ready:
            return None
        key = (service["metadata"]["namespace"], service["metadata"]["name"], port["port"])
        turn = next(self._turns.setdefault(key, itertools.count()))
        pod = ready[turn % len(ready)]
        return pod["status"]["podIP"], _target(port, [pod])

    # TCP

    async def _listen(self) -> None:
        """Open what services ask for and close what they do not ask for any more."""
        wanted: dict[Listener, tuple[str, str, int]] = {}
        for service in self.store.list(SERVICE):
            address = self._address(service)
            for port in service["spec"].get("ports") or []:
                key = (service["metadata"]["namespace"], service["metadata"]["name"], port["port"])
                if address:
                    wanted[address, port["port"]] = key
                if port.get("nodePort"):
                    wanted["127.0.0.1", port["nodePort"]] = key
        for listener in [one for one in self._servers if one not in wanted]:
            self._servers.pop(listener).close()
        for listener, key in wanted.items():
            if listener not in self._servers:
                await self._open(listener, key)

    def _address(self, service: Object) -> str:
        """A loopback address of its own for each LoadBalancer."""
        if service["spec"]["type"] != "LoadBalancer":
            return ""
        have = _ingress(service)
        if have:
            return have
        taken = {_ingress(one) for one in self.store.list(SERVICE)}
        address = next(f"127.0.{net}.{host}" for net in range(20, 250) for host in range(1, 250)
                       if f"127.0.{net}.{host}" not in taken)  # fmt: skip
        status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
        self.admission.status(SERVICE, service, status)
        return address

    async def _open(self, listener: Listener, key: tuple[str, str, int]) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connection(listener, reader, writer)

        try:
            self._servers[listener] = await asyncio.start_server(serve, *listener, backlog=1024)
        except OSError as error:
            if service := self.store.get(SERVICE, key[0], key[1]):
                message = f"Error syncing load balancer: cannot listen on {listener[0]}:{listener[1]}: {error.strerror}"
                self.recorder.event(service, "Warning", "SyncLoadBalancerFailed", message)

    def _find(self, listener: Listener) -> tuple[str, int] | None:
        for service in self.store.list(SERVICE):
            for port in service["spec"].get("ports") or []:
                if listener in ((_ingress(service), port["port"]), ("127.0.0.1", port.get("nodePort"))):
                    return self.backend(service, port)
        return None

    async def _connection(self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = self._find(listener)
        try:
            if backend is None:
                raise ConnectionRefusedError
            there, back = await asyncio.wait_for(asyncio.open_connection(*backend), 10)
        except (OSError, asyncio.TimeoutError):
            writer.transport.abort()
            return
        await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        for end in (back, writer):
            end.close()

    # HTTP

    async def proxy(
        self, request: web.Request, kind: Kind, namespace: str, target: str, rest: str
    ) -> web.StreamResponse:
        """`pods/NAME:PORT/proxy/...` and `services/NAME:PORT/proxy/...`; a scheme may come first."""
        parts = target.split(":")
        scheme, name, port = ("http", parts[0], "") if len(parts) == 1 else (*["", *parts][-3:],)
        obj = self.store.get(kind, namespace, name)
        if obj is None:
            raise not_found(kind, name)
        backend = self._pod_backend(obj, port) if kind is POD else self._service_backend(obj, port)
        address = f"{scheme or 'http'}://{backend[0]}:{backend[1]}/{rest}"
        if request.query_string:
            address += f"?{request.rel_url.raw_query_string}"
        headers = {
            key: value for key, value in request.headers.items() if key.lower() not in DROPPED - {"content-encoding"}
        }
        try:
            async with self._http.request(request.method, URL(address, encoded=True), headers=headers,
                                          data=await request.read() or None, allow_redirects=False) as answer:  # fmt: skip
                kept = {
                    key: value
                    for key, value in answer.headers.items()
                    if key.lower() not in DROPPED - {"content-encoding"}
                }
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except (OSError, aiohttp.ClientError) as error:
            message = f"error trying to reach service: {error}"
            raise ApiError(503, "ServiceUnavailable", message, {}) from error

    def _pod_backend(self, pod: Object, port: str) -> tuple[str, int]:
        if not pod["status"].get("podIP"):
            raise ApiError(503, "ServiceUnavailable", "address not allowed", {})
        ports = [p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or []]
        return pod["status"]["podIP"], int(port or (ports or [80])[0])

    def _service_backend(self, service: Object, port: str) -> tuple[str, int]:
        name, ports = service["metadata"]["name"], service["spec"].get("ports") or []
        chosen = next((p for p in ports if port in ("", str(p["port"]), p.get("name"))), None)
        backend = self.backend(service, chosen) if chosen else None
        if backend is None:
            what = "no endpoints available for service" if chosen else "no service port found for service"
            raise ApiError(503, "ServiceUnavailable", f'{what} "{name}"')
        return backend

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()
        await self._http.close()


def _ingress(service: Object) -> str:
    found = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
    return str(found[0].get("ip", ""))


def _target(port: Object, pods: list[Object]) -> int:
    value: int | str = port.get("targetPort") or port["port"]
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    return next((found for container in containers if (found := port_of(value, container))), port["port"])


def _endpoint(pod: Object, service: Object) -> Object:
    serving = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
    serving = serving or bool(service["spec"].get("publishNotReadyAddresses"))
    going = "deletionTimestamp" in pod["metadata"]
    metadata = pod["metadata"]
    return {"addresses": [pod["status"]["podIP"]], "nodeName": "stand-in",
            "conditions": {"ready": serving and not going, "serving": serving, "terminating": going},
            "targetRef": {"kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"],
                          "uid": metadata["uid"]}}  # fmt: skip


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except OSError:
        target.transport.abort()
