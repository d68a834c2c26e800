"""Where a release is reached: the address of its Service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ml_deploy.errors import Forbidden, Unreachable
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.history import ref_of

_TLS_PORTS = (443, 8443)


def service_of(objects: Sequence[Object], app: str) -> Object | None:
    """The Service that users call: the one named like the app, else the first with a selector, a load balancer before others."""
    services = [obj for obj in objects if obj.get("kind") == "Service" and (obj.get("spec") or {}).get("selector")]
    services.sort(key=lambda s: (s["metadata"]["name"] != app, s["spec"].get("type") != "LoadBalancer"))
    return services[0] if services else None


def address(service: Object, nodes: Callable[[], Sequence[Object]]) -> str:
    """The URL of a live Service.

    Its load balancer's address; for a NodePort the address of a node, if any are given; else the name that it has
    inside the cluster.
    """
    spec, meta = service.get("spec") or {}, service["metadata"]
    port: Object = next(iter(spec.get("ports") or []), {})
    number = int(port.get("port") or 80)
    if spec.get("clusterIP") == "None" and isinstance(port.get("targetPort"), int):
        number = port["targetPort"]  # a headless Service's name leads to the pods themselves
    secure = number in _TLS_PORTS or port.get("name") == "https" or port.get("appProtocol") == "https"
    given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if given:
        return _url(str(given[0].get("hostname") or given[0].get("ip")), number, secure)
    if spec.get("type") == "NodePort" and port.get("nodePort"):
        host = _node(nodes())
        if host:
            return _url(host, int(port["nodePort"]), secure)
    return _url(f"{meta['name']}.{meta.get('namespace') or 'default'}.svc.cluster.local", number, secure)


def reached(cluster: Cluster, objects: Sequence[Object], app: str) -> tuple[Object | None, str]:
    """The live Service that users call, and its URL; None and an empty string where there is none."""
    service = service_of(objects, app)
    live = cluster.get(ref_of(service, cluster.namespace)) if service else None
    return live, address(live, lambda: nodes(cluster)) if live else ""


def nodes(cluster: Cluster) -> Sequence[Object]:
    """The cluster's nodes, or none when we may not see them."""
    try:
        return cluster.list("v1", "Node", "")
    except (ApiError, Forbidden, Unreachable):
        return ()


def _url(host: str, port: int, secure: bool) -> str:
    host = f"[{host}]" if ":" in host else host
    scheme, usual = ("https", 443) if secure else ("http", 80)
    return f"{scheme}://{host}" + ("" if port == usual else f":{port}")


def _node(nodes: Sequence[Object]) -> str:
    """An address of a ready node, an external one if there is any."""
    for wanted in ("ExternalIP", "InternalIP"):
        for node in nodes:
            for one in (node.get("status") or {}).get("addresses") or []:
                if one.get("type") == wanted:
                    return str(one["address"])
    return ""
