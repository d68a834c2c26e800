"""Asking a pod or a Service inside the cluster, through the API server's proxy: answers and status, never latency."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ml_deploy.checks.http import Answer, Ask, Request, join
from ml_deploy.errors import EndpointDown, InputError
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref

#: The default of the input `port`: deploy-aks's, for a container.
DEFAULT_PORT = "8000"
_NAME = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.cluster\.local)?")


class Inside(NamedTuple):
    """A Service inside the cluster; an empty namespace is the connection's. `base` is a path before all others."""

    namespace: str
    service: str
    port: str
    base: str = ""


def inside_of(url: str) -> Inside | None:
    """The Service that an address such as `http://web.ml.svc:80` names, or None for any other address."""
    parts = urlsplit(url)
    name = _NAME.fullmatch(parts.hostname or "")
    return Inside(name[2], name[1], str(parts.port or 80), parts.path) if name else None


def port_of(service: Object, wanted: str) -> int | None:
    """The Service's port that has this number or name, or leads to this port of the container.

    A Service's only port is meant by the default, and by nothing, too.
    """
    ports = service.get("spec", {}).get("ports", [])
    for key in ("port", "name", "targetPort"):
        for port in ports:
            if str(port.get(key)) == wanted:
                return int(port["port"])
    return int(ports[0]["port"]) if len(ports) == 1 and wanted in ("", DEFAULT_PORT) else None


def ask_service(cluster: Cluster, inside: Inside, *, headers: Mapping[str, str], seconds: float) -> Ask:
    """What asks a Service. Raises InputError when it, or its port, does not exist."""
    namespace = inside.namespace or cluster.namespace
    service = cluster.get(Ref("v1", "Service", namespace, inside.service))
    if service is None:
        raise InputError(
            f"There is no Service {inside.service} in namespace {namespace}.", hint="Check `service` and `namespace`."
        )
    port = port_of(service, inside.port)
    if port is None:
        listed = ", ".join(f"{p['port']} {p.get('name', '')}".strip() for p in service["spec"].get("ports", []))
        raise InputError(
            f"Service {inside.service} in namespace {namespace} has no port {inside.port} (it has: {listed or 'none'}).",
            hint="Change `port`.",
        )
    target = f"services/{inside.service}:{port}"
    return through_cluster(cluster, namespace, target, base=inside.base, headers=headers, seconds=seconds)


def through_cluster(
    cluster: Cluster, namespace: str, target: str, *,
    base: str = "", headers: Mapping[str, str] | None = None, seconds: float = 10.0,
) -> Ask:  # fmt: skip
    """What asks `target`, which is `pods/NAME:PORT` or `services/NAME:PORT`; paths go below `base`.

    Its answers carry no time (0.0): it would be the tunnel's. It raises EndpointDown when the target gives none; a
    missing right stays Forbidden, and an API server that is away Unreachable: that says nothing of the target.
    """

    def ask(request: Request) -> Answer:
        try:
            got = cluster.ask(namespace, target, request.method, join(base, request.path), body=request.body,
                              headers={**(headers or {}), **request.headers}, seconds=seconds)  # fmt: skip
        except ApiError as error:
            raise EndpointDown(f"{target} in namespace {namespace}: {error.message} ({error.code}).") from error
        if got.status in (502, 503, 504) and (said := _from_the_proxy(got.body)):
            hint = "No pod behind it is ready, or none listens on this port."
            raise EndpointDown(f"{target} in namespace {namespace} does not answer: {said}", hint=hint)
        return Answer(got.status, got.headers, got.body)

    return ask


def _from_the_proxy(body: bytes) -> str:
    """What the API server itself said about a target it could not reach; empty when the answer is the target's own."""
    try:
        status = json.loads(body)
    except ValueError:
        text = body.decode(errors="replace").strip()
        return text if text.lower().startswith("error trying to reach service") else ""
    if isinstance(status, dict) and status.get("kind") == "Status" and status.get("apiVersion") == "v1":
        return str(status.get("message", "no answer"))
    return ""
