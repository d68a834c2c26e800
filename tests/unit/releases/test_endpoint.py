"""Where a Service is reached."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.endpoint import address, service_of

NODES = [
    {"status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.1.0.4"}]}},
    {
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.1.0.5"}, {"type": "ExternalIP", "address": "20.0.0.5"}]
        }
    },
]


def service(
    kind: str = "ClusterIP", port: dict[str, Any] | None = None, ingress: Any = None, name: str = "web"
) -> dict[str, Any]:
    spec = {"type": kind, "selector": {"a": "b"}, "ports": [{"port": 80, **(port or {})}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ml"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress or []}}}  # fmt: skip


@pytest.mark.parametrize(
    "given, expected",
    [
        (service(), "http://web.ml.svc.cluster.local"),
        (service(port={"port": 8080}), "http://web.ml.svc.cluster.local:8080"),
        (service("LoadBalancer", ingress=[{"ip": "20.1.2.3"}]), "http://20.1.2.3"),
        (service("LoadBalancer", {"port": 8000}, [{"ip": "20.1.2.3"}]), "http://20.1.2.3:8000"),
        (service("LoadBalancer", {"port": 443}, [{"hostname": "x.example"}]), "https://x.example"),
        (service("LoadBalancer", {"port": 8443}, [{"ip": "20.1.2.3"}]), "https://20.1.2.3:8443"),
        (service("LoadBalancer", ingress=[{"ip": "fd00::1"}]), "http://[fd00::1]"),
        (service("LoadBalancer"), "http://web.ml.svc.cluster.local"),
        (service("NodePort", {"nodePort": 30080}), "http://20.0.0.5:30080"),
    ],
)  # fmt: skip
def test_address(given: dict[str, Any], expected: str) -> None:
    assert address(given, lambda: NODES) == expected


def test_a_node_port_where_nodes_may_not_be_seen() -> None:
    assert address(service("NodePort", {"nodePort": 30080}), lambda: []) == "http://web.ml.svc.cluster.local"


def test_a_headless_service_leads_to_the_pods_own_port() -> None:
    headless = service()
    headless["spec"] |= {"clusterIP": "None", "ports": [{"port": 80, "targetPort": 8080}]}
    assert address(headless, list) == "http://web.ml.svc.cluster.local:8080"


def test_the_apps_own_service_comes_first_then_a_load_balancer() -> None:
    one, two, three = service(name="a"), service("LoadBalancer", name="b"), service(name="app")
    assert service_of([one, two, three], "app") is three
    assert service_of([one, two], "app") is two
    assert service_of([{"kind": "ConfigMap"}], "app") is None


def test_a_service_without_selector_leads_to_nothing_of_ours() -> None:
    other = service()
    other["spec"].pop("selector")
    assert service_of([other], "web") is None
