"""Services inside the cluster: their names, their ports, and what asks them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ml_deploy.checks.http import Answer, Request
from ml_deploy.checks.through import Inside, ask_service, inside_of, port_of
from ml_deploy.errors import EndpointDown, Forbidden, InputError, Unreachable
from ml_deploy.releases import cluster as kubernetes
from ml_deploy.releases.cluster import ApiError, Cluster, Ref

HTTP = {"port": 80, "name": "http", "targetPort": 8000}
GRPC = {"port": 9000, "name": "grpc", "targetPort": "grpc"}


def service(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"ports": list(ports)}}


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://web.ml.svc:8080/base", Inside("ml", "web", "8080", "/base")),
        ("http://web.ml.svc.cluster.local", Inside("ml", "web", "80", "")),
        ("http://web.example.com", None),
        ("http://web.ml.svc.example.com", None),
        ("", None),
    ],
)
def test_inside_of(url: str, inside: Inside | None) -> None:
    assert inside_of(url) == inside


@pytest.mark.parametrize(
    ("ports", "wanted", "found"),
    [
        ((HTTP, GRPC), "80", 80),
        ((HTTP, GRPC), "grpc", 9000),
        ((HTTP, GRPC), "8000", 80),
        (({"port": 8000}, HTTP), "8000", 8000),
        ((GRPC,), "8000", 9000),
        ((GRPC,), "", 9000),
        ((HTTP, GRPC), "", None),
        ((GRPC,), "8001", None),
        (({"port": 80}, GRPC), "8000", None),
        ((), "80", None),
    ],
)
def test_port_of(ports: tuple[dict[str, Any], ...], wanted: str, found: int | None) -> None:
    assert port_of(service(*ports), wanted) == found


class OneService:
    """A cluster with the Service `web` in `ml`; asking it does what `answer` is."""

    namespace = "ml"

    def __init__(self, answer: kubernetes.Answer | Exception) -> None:
        self._answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def get(self, ref: Ref) -> dict[str, Any] | None:
        assert (ref.kind, ref.namespace) == ("Service", "ml")
        return service(HTTP, GRPC) if ref.name == "web" else None

    def ask(self, namespace: str, target: str, method: str, path: str, **more: Any) -> kubernetes.Answer:
        self.asked.append((namespace, target, method, path, more))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


WEB = Inside("", "web", "http", "/base")


def asking(cluster: OneService, inside: Inside = WEB) -> Answer:
    ask = ask_service(cast(Cluster, cluster), inside, headers={"X-A": "1", "X-B": "2"}, seconds=3.0)
    return ask(Request("POST", "/predict?a=b", {"X-B": "3"}, b"{}"))


def test_a_service_is_asked() -> None:
    cluster = OneService(kubernetes.Answer(200, {"a": "b"}, b"1"))
    assert asking(cluster) == Answer(200, {"a": "b"}, b"1", 0.0)
    more = {"body": b"{}", "headers": {"X-A": "1", "X-B": "3"}, "seconds": 3.0}
    assert cluster.asked == [("ml", "services/web:80", "POST", "/base/predict?a=b", more)]


def test_no_answer_is_a_down_endpoint() -> None:
    with pytest.raises(EndpointDown, match=r"services/web:80 in namespace ml: no route \(502\)"):
        asking(OneService(ApiError(502, "", "no route")))
    none = b'{"kind": "Status", "apiVersion": "v1", "message": "no endpoints available for service web"}'
    for body, said in ((none, "no endpoints"), (b"error trying to reach service: refused", "refused")):
        with pytest.raises(EndpointDown, match=said):
            asking(OneService(kubernetes.Answer(503, {}, body)))
    assert asking(OneService(kubernetes.Answer(503, {}, b'{"error": "loading"}'))).status == 503, "its own word"


def test_a_cluster_that_is_away_says_nothing_of_the_endpoint() -> None:
    with pytest.raises(Unreachable):
        asking(OneService(Unreachable("the cluster is away")))


def test_a_missing_right_stays_one() -> None:
    with pytest.raises(Forbidden):
        asking(OneService(Forbidden("may not get services/proxy")))


def test_what_does_not_exist_is_named() -> None:
    cluster = OneService(AssertionError("not to be asked"))
    with pytest.raises(InputError, match="There is no Service other in namespace ml"):
        asking(cluster, Inside("ml", "other", "80"))
    with pytest.raises(InputError, match=r"has no port 81 \(it has: 80 http, 9000 grpc\)"):
        asking(cluster, Inside("ml", "web", "81"))
