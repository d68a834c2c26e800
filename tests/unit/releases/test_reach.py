"""Services that lead nowhere are found ahead, and those that may lead somewhere are left alone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.errors import Forbidden
from ml_deploy.releases import reach
from ml_deploy.releases.cluster import Cluster, Object, Ref
from ml_deploy.releases.sources.manifests import Manifest

PORTS = [{"name": "http", "containerPort": 8080}]


class Pods:
    """A cluster that has some pods, or does not show them."""

    def __init__(self, *labels: dict[str, str], forbidden: bool = False) -> None:
        self._labels, self._forbidden = labels, forbidden

    def get(self, ref: Ref) -> Object | None:
        if self._forbidden:
            raise Forbidden("may not get it")
        return {} if ref.name == "live" else None

    def list(self, api_version: str, kind: str, namespace: str, *, selector: str) -> list[Object]:
        assert (kind, namespace) == ("Pod", "ml")
        if self._forbidden:
            raise Forbidden("may not list pods")
        wanted = dict(part.split("=") for part in selector.split(","))
        return [{"metadata": {"labels": own}} for own in self._labels if wanted.items() <= own.items()]


def workload(kind: str = "Deployment", ports: object = PORTS, namespace: str = "ml", **labels: str) -> Object:
    labels = labels or {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "ports": ports}]}}
    spec = {"selector": {"matchLabels": {"app": labels.get("app", "")}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": namespace}, "spec": spec}


def service(port: object = "http", kind: str = "ClusterIP", **chosen: str) -> Object:
    ports = [{"port": 80, "targetPort": port}] if port else [{"port": 80}]
    spec = {"type": kind, "selector": chosen, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ml"}, "spec": spec}


def found(*objects: Object, cluster: object = Pods()) -> tuple[str, str]:
    result = reach.check(cast(Cluster, cluster), [Manifest(one, "k8s/a.yaml", 3) for one in objects])
    return "".join(one.message for one in result.problems), "".join(result.doubts)


def test_a_misspelt_selector_is_told_with_the_labels_that_there_are() -> None:
    problem, doubt = found(workload(), service(app="wbe"))
    assert problem == ("Service web (k8s/a.yaml:3) leads to no pod: none has app=wbe. Deployment web has app=web.")
    assert not doubt


@pytest.mark.parametrize(
    "objects",
    [
        (workload(), service(app="web")),
        (workload(app="web", tier="front"), service(app="web")),
        (service(app="wbe"),),  # what it leads to is deployed apart
        (workload(namespace="other"), service(app="wbe")),
        (workload("StatefulSet"), service(app="web")),
        (workload(), service()),
        (workload(), service(app="wbe", kind="ExternalName")),
        (workload(ports=[]), service(9999, app="web")),
        (workload(), service(8080, app="web")),
    ],
)
def test_what_leads_somewhere_or_is_for_others_to_say(objects: tuple[Object, ...]) -> None:
    assert found(*objects) == ("", "")


def test_live_pods_count_unless_this_release_replaces_them() -> None:
    assert found(workload(), service(app="wbe"), cluster=Pods({"app": "wbe"})) == ("", "")
    assert found(workload(), service(app="wbe"), cluster=Pods(forbidden=True)) == ("", "")
    ours = Pods({"app": "web", "tier": "old"})
    problem, _ = found(workload(app="web", tier="new"), service(app="web", tier="old"), cluster=ours)
    assert "none has app=web, tier=old" in problem


def test_labels_that_somebody_puts_on_pods_later_are_a_doubt() -> None:
    problem, doubt = found(workload(), service(app="web", role="leader"))
    assert not problem and "none has app=web, role=leader from its template" in doubt
    custom: Object = {
        "apiVersion": "serving.example.com/v1",
        "kind": "Model",
        "metadata": {"name": "m", "namespace": "ml"},
    }
    problem, doubt = found(workload(), service(app="model"), custom)
    assert not problem and "none has app=model" in doubt


@pytest.mark.parametrize(
    "port, ports, problem, doubt",
    [
        ("htpp", PORTS, "leads to a port called htpp, and Deployment web has none of that name (http)", ""),
        ("http", [], "leads to a port called http, and Deployment web has none of that name (no port has a name)", ""),
        (9999, PORTS, "", "leads to port 9999, and the containers of Deployment web declare 8080"),
        (None, PORTS, "", "leads to port 80, and the containers of Deployment web declare 8080"),
    ],
)
def test_ports_that_are_not_there(port: object, ports: Any, problem: str, doubt: str) -> None:
    said = found(workload(ports=ports), service(port, app="web"))
    assert problem in said[0] and doubt in said[1] and (bool(said[0]), bool(said[1])) == (bool(problem), bool(doubt))


def named(kind: str, name: str) -> Object:
    backend = {"name": name, "port": {"number": 80}}
    specs: dict[str, Object] = {
        "Ingress": {"rules": [{"host": "a"}, {"http": {"paths": [{"backend": {"service": backend}}]}}]},
        "HTTPRoute": {"rules": [{"backendRefs": [{"name": name, "port": 80}]}, {"filters": []}]},
        "HorizontalPodAutoscaler": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}},
    }  # fmt: skip
    return {
        "apiVersion": "x.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "n", "namespace": "ml"},
        "spec": specs[kind],
    }


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute", "HorizontalPodAutoscaler"])
def test_what_leads_to_a_name_that_nothing_has(kind: str) -> None:
    release = workload(), service(app="web")
    for name in ("web", "live"):
        assert found(*release, named(kind, name)) == ("", "")
    problem, doubt = found(*release, named(kind, "wbe"))
    assert f"{kind} n (k8s/a.yaml:3) leads to" in problem and "wbe" in problem and "this release has web" in problem
    assert not doubt
    problem, doubt = found(named(kind, "later"))
    assert not problem and "there is none of that name" in doubt
    assert found(named(kind, "unseen"), cluster=Pods(forbidden=True)) == ("", "")
