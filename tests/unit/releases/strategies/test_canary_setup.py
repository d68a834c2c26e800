"""What a canary finds in a cluster, and where it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.errors import Conflict, InputError
from ml_deploy.releases.cluster import Kind, Object, Ref
from ml_deploy.releases.strategies import canary_objects, canary_setup
from ml_deploy.releases.strategies.canary_setup import GATEWAY, REPLICAS, ROUTE_API, Direct, Setup


class Live:
    """A namespace with these objects; it refuses to be changed."""

    namespace = "ml"

    def __init__(self, *objects: Object, gateways: bool = False) -> None:
        self._objects, self._gateways = objects, gateways

    def get(self, ref: Ref) -> Object | None:
        return next((one for one in self.list(ref.api_version, ref.kind, ref.namespace) if one["metadata"]["name"] == ref.name), None)  # fmt: skip

    def list(self, api_version: str, kind: str, namespace: str, **_: str) -> list[Object]:
        return [one for one in self._objects if one["kind"] == kind and namespace == "ml"]

    def kind(self, api_version: str, kind: str) -> Kind | None:
        assert api_version == ROUTE_API
        return Kind(api_version, kind, "httproutes", True) if self._gateways else None


def obj(kind: str, name: str = "web", *, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    meta = {"name": name, "namespace": "ml", "labels": labels or {}, "resourceVersion": "1"}
    api = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "HTTPRoute": ROUTE_API}.get(kind, "v1")
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


def workload(kind: str = "Deployment", replicas: int = 4) -> Object:
    container = {"name": "c", "image": "r/web:2", "ports": [{"containerPort": 8080}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    return obj(kind, replicas=replicas, selector={"matchLabels": {"app": "web"}}, template=template)


def service(name: str = "web") -> Object:
    return obj("Service", name, selector={"app": "web"}, ports=[{"port": 80, "targetPort": 8080}])


def route(service: str = "web", **labels: str) -> Object:
    return obj("HTTPRoute", labels=labels, rules=[{"backendRefs": [{"name": service, "port": 80}]}])


def survey(live: Live, *objects: Object, traffic: str = "auto", shares: tuple[int, ...] = (50, 100)) -> Setup | Direct:
    cluster: Any = live
    release = objects or (service(), workload())
    return canary_setup.survey(cluster, release, app="churn", images=(), traffic=traffic, shares=shares)


@pytest.mark.parametrize(
    "live, shares, why",
    [
        (Live(), (50, 100), "is not there yet"),
        (Live(workload(replicas=0), service()), (50, 100), "has no pods"),
        (Live(workload()), (50, 100), "no live Service leads to"),
        (Live(workload(), service()), (100,), "none below 100"),
    ],
)
def test_nothing_to_compare_with(live: Live, shares: tuple[int, ...], why: str) -> None:
    found = survey(live, shares=shares)
    assert isinstance(found, Direct) and why in found.why


def test_by_the_number_of_pods() -> None:
    found = survey(Live(workload(), service()))
    assert isinstance(found, Setup)
    assert (found.by, found.total, found.port, found.service) == (REPLICAS, 4, 8080, "")


def test_by_the_weights_of_a_route_that_leads_to_the_service() -> None:
    live = Live(workload(), service(), route(), gateways=True)
    found = survey(live, shares=(10, 100))  # no matter what 4 pods can express
    assert isinstance(found, Setup) and (found.by, found.service) == (GATEWAY, "web")
    assert [one.name for one in found.routes] == ["web"]
    by_pods = survey(live, traffic="replicas")
    assert isinstance(by_pods, Setup) and by_pods.by == REPLICAS


def test_a_route_that_leads_elsewhere_is_none() -> None:
    live = Live(workload(), service(), route("other"), gateways=True)
    found = survey(live)
    assert isinstance(found, Setup) and found.by == REPLICAS
    with pytest.raises(InputError, match="needs an HTTPRoute that leads to the Service web"):
        survey(live, traffic="gateway")


def test_an_autoscaler_keeps_the_say() -> None:
    ruled = obj("HorizontalPodAutoscaler", scaleTargetRef={"kind": "Deployment", "name": "web"})
    with pytest.raises(InputError, match="An autoscaler has the say over the number of pods") as caught:
        survey(Live(workload(), service(), ruled))
    assert "HTTPRoute" in caught.value.hint
    with pytest.raises(InputError, match="An autoscaler"):  # one that comes with the release
        survey(Live(workload(), service()), service(), workload(), ruled)
    found = survey(Live(workload(), service(), ruled, route(), gateways=True))
    assert isinstance(found, Setup) and found.by == GATEWAY


def test_a_share_that_the_pods_cannot_give() -> None:
    with pytest.raises(InputError, match="4 pods cannot give a canary 10 %"):
        survey(Live(workload(), service()), shares=(10, 50, 100))


def test_what_is_no_deployment() -> None:
    with pytest.raises(InputError, match="StatefulSet web in namespace ml is no Deployment"):
        survey(Live(), service(), workload("StatefulSet"))
    with pytest.raises(InputError, match="A canary is not possible: no Deployment"):
        survey(Live(), service())


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_names_that_are_taken(kind: str) -> None:
    live = (workload(), service(), route())
    with pytest.raises(Conflict, match=f"{kind} web-canary in namespace ml exists and is not ours"):
        survey(Live(*live, obj(kind, "web-canary"), gateways=True))
    ours = obj(kind, "web-canary", labels=canary_objects.labels("churn", 1))
    assert isinstance(survey(Live(*live, ours, gateways=True)), Setup)


def test_routes_of_others() -> None:
    with pytest.raises(Conflict, match="belongs to ml-deploy app other"):
        survey(Live(workload(), service(), route(**{"ml-deploy/app": "other"}), gateways=True))
    busy = route()
    busy["metadata"]["annotations"] = {"ml-deploy/canary": '{"app": "other", "service": "o", "rules": []}'}
    with pytest.raises(Conflict, match="has the weights of another canary, of app other"):
        survey(Live(workload(), service(), busy, gateways=True))
