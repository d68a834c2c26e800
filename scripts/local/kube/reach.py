"""Ways to pods: endpoint slices, Services as TCP proxies, and the API server's HTTP proxy."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections import defaultdict

import aiohttp
from aiohttp import web
from yarl import URL

from .admission import Admission, suffix
from .errors import ApiError, not_found, unavailable
from .kinds import ENDPOINT_SLICE, POD, SERVICE, Kind, Object
from .matching import labels_match
from .probes import port_of
from .store import Change, place, reference

NAME_LABEL = "kubernetes.io/service-name"
HOP_HEADERS = {"host", "authorization", "connection", "transfer-encoding", "content-length"}


class Reach:
    """Keeps endpoints and proxies as services and pods are."""

    def __init__(self, admission: Admission) -> None:
        self.admission, self.store = admission, admission.store
        self._servers: dict[tuple[str, int], asyncio.AbstractServer] = {}
        self._turns: defaultdict[tuple[str, str], itertools.count[int]] = defaultdict(itertools.count)
        self._dirty: set[tuple[str, str]] = set()
        self._task: asyncio.Future[None] | None = None
        self._http = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(ssl=False, limit=0))
        self.store.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        marked = {place(change.object)} if change.kind is SERVICE else set()
        if change.kind is POD:
            for service in self.store.list(SERVICE, place(change.object)[0]):
                seen = (change.object, change.before or change.object)
                if any(labels_match(service["spec"].get("selector"), pod) for pod in seen):
                    marked.add(place(service))
        self._dirty |= marked
        if marked and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        """Bring endpoints and listeners up to date until nothing is left to do."""
        while self._dirty:
            services, self._dirty = self._dirty, set()
            for namespace, name in services:
                service = self.store.get(SERVICE, namespace, name)
                if service and service["spec"].get("selector"):
                    self._publish(service)
            await self._listen()

    # endpoints

    def _pods(self, service: Object) -> list[Object]:
        pods = self.store.list(POD, service["metadata"]["namespace"])
        return [pod for pod in pods if labels_match(service["spec"].get("selector"), pod)
                and pod["status"].get("podIP") and pod["status"]["phase"] not in ("Succeeded", "Failed")]  # fmt: skip

    def _publish(self, service: Object) -> None:
        """The endpoint slice of a service."""
        namespace, name = place(service)
        pods = self._pods(service)
        ports = [{"name": port.get("name", ""), "protocol": port["protocol"], "port": _target(port, pods)}
                 for port in service["spec"]["ports"]]  # fmt: skip
        endpoints = [_endpoint(pod, service) for pod in pods]
        mine = [one for one in self.store.list(ENDPOINT_SLICE, namespace) if labels_match({NAME_LABEL: name}, one)]
        body = {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        metadata = {"namespace": namespace, "ownerReferences": [reference(service)], "labels": {NAME_LABEL: name}}
        try:
            if mine:
                self.admission.update(ENDPOINT_SLICE, {**mine[0], **body}, mine[0])
            else:
                metadata["name"] = f"{name}-{suffix()}"
                self.admission.create(ENDPOINT_SLICE, {"metadata": metadata, **body})
        except ApiError:
            pass  # the namespace is going away

    def backend(self, service: Object, port: Object) -> tuple[str, int] | None:
        """The next ready pod's address for a port of a service, in turn."""
        ready = [pod for pod in self._pods(service) if _endpoint(pod, service)["conditions"]["ready"]]
        if not ready:
            return None
        pod = ready[next(self._turns[place(service)]) % len(ready)]
        return pod["status"]["podIP"], _target(port, [pod])

    # TCP

    async def _listen(self) -> None:
        """Open what services ask for and close what they do not ask for any more."""
        wanted: dict[tuple[str, int], Object] = {}
        for service in self.store.list(SERVICE):
            address = self._address(service)
            for port in service["spec"]["ports"]:
                wanted |= {(address, port["port"]): service} if address else {}
                wanted |= {("127.0.0.1", port["nodePort"]): service} if "nodePort" in port else {}
        for listener in self._servers.keys() - wanted.keys():
            self._servers.pop(listener).close()
        for listener in wanted.keys() - self._servers.keys():
            try:
                self._servers[listener] = await asyncio.start_server(self._connection, *listener, backlog=1024)
            except OSError as error:
                message = f"Error syncing load balancer: cannot listen on {listener[0]}:{listener[1]}: {error.strerror}"
                self.admission.event(wanted[listener], "Warning", "SyncLoadBalancerFailed", message)

    def _address(self, service: Object) -> str:
        """A loopback address of its own for each LoadBalancer; another stand-in on this machine has its own ones."""
        if service["spec"]["type"] != "LoadBalancer" or _ingress(service):
            return _ingress(service)
        taken = {_ingress(one) for one in self.store.list(SERVICE)}
        every = (f"127.0.{net}.{host}" for net in range(20, 250) for host in range(1, 250))
        ports = [port["port"] for port in service["spec"].get("ports") or []]
        address = next(one for one in every if one not in taken and _is_free(one, ports))
        self.admission.status(SERVICE, service, {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}})
        return address

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, number = writer.get_extra_info("sockname")
        backend = None
        for service in self.store.list(SERVICE):
            for port in service["spec"]["ports"]:
                if (address, number) in ((_ingress(service), port["port"]), ("127.0.0.1", port.get("nodePort"))):
                    backend = self.backend(service, port)
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

    async def proxy(self, request: web.Request, kind: Kind, namespace: str, target: str, rest: str) -> web.Response:
        """`pods/NAME:PORT/proxy/...` and `services/NAME:PORT/proxy/...`; a scheme may come first."""
        scheme, name, port = (["", *target.split(":")] if ":" in target else ["", target, ""])[-3:]
        obj = self.store.get(kind, namespace, name)
        if obj is None:
            raise not_found(kind, name)
        host, number = self._pod_backend(obj, port) if kind is POD else self._service_backend(obj, port)
        url = URL(f"{scheme or 'http'}://{host}:{number}/{rest}?{request.rel_url.raw_query_string}", encoded=True)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_HEADERS}
        body = await request.read() or None
        try:
            options: Object = {"headers": headers, "data": body, "allow_redirects": False}
            async with self._http.request(request.method, url, **options) as answer:
                kept = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_HEADERS}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except (OSError, aiohttp.ClientError) as error:
            raise unavailable(f"error trying to reach service: {error}") from error

    def _pod_backend(self, pod: Object, port: str) -> tuple[str, int]:
        if not pod["status"].get("podIP"):
            raise unavailable("address not allowed")
        containers = pod["spec"]["containers"]
        ports = [one["containerPort"] for container in containers for one in container.get("ports") or []]
        return pod["status"]["podIP"], int(port or [*ports, 80][0])

    def _service_backend(self, service: Object, port: str) -> tuple[str, int]:
        name = service["metadata"]["name"]
        chosen = [one for one in service["spec"]["ports"] if port in ("", str(one["port"]), one.get("name"))]
        if not chosen:
            raise unavailable(f'no service port "{port}" found for service "{name}"')
        if backend := self.backend(service, chosen[0]):
            return backend
        raise unavailable(f'no endpoints available for service "{name}"')

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()
        await self._http.close()


def _ingress(service: Object) -> str:
    found = (service["status"].get("loadBalancer") or {}).get("ingress") or [{}]
    return str(found[0].get("ip", ""))


def _target(port: Object, pods: list[Object]) -> int:
    value: int | str = port.get("targetPort") or port["port"]
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    found = [port_of(value, container) for container in containers]
    return next(filter(None, found), port["port"])


def _endpoint(pod: Object, service: Object) -> Object:
    metadata, going = pod["metadata"], "deletionTimestamp" in pod["metadata"]
    ready = [one for one in pod["status"].get("conditions") or [] if (one["type"], one["status"]) == ("Ready", "True")]
    serving = bool(ready or service["spec"].get("publishNotReadyAddresses"))
    target = {"kind": "Pod", **{key: metadata[key] for key in ("name", "namespace", "uid")}}
    conditions = {"ready": serving and not going, "serving": serving, "terminating": going}
    where = {"addresses": [pod["status"]["podIP"]], "nodeName": "stand-in"}
    return {**where, "conditions": conditions, "targetRef": target}


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except OSError:
        target.transport.abort()


def _is_free(address: str, ports: list[int]) -> bool:
    """Whether nobody listens there."""
    with contextlib.suppress(OSError):
        for port in ports:
            socket.create_server((address, port)).close()
        return True
    return False
