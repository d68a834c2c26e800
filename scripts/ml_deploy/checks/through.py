"""Asking a pod or a Service inside the cluster, through the API server's proxy: answers and status, never latency."""

from __future__ import annotations

from collections.abc import Mapping

from ml_deploy.checks.http import Answer, Ask, Request, join
from ml_deploy.errors import EndpointDown, Unreachable
from ml_deploy.releases.cluster import ApiError, Cluster


def through_cluster(
    cluster: Cluster, namespace: str, target: str, *,
    base: str = "", headers: Mapping[str, str] | None = None, seconds: float = 10.0,
) -> Ask:  # fmt: skip
    """What asks `target`, which is `pods/NAME:PORT` or `services/NAME:PORT`; paths go below `base`.

    Its answers carry no time (0.0): it would be the tunnel's. It raises EndpointDown when none comes;
    a missing right stays Forbidden.
    """

    def ask(request: Request) -> Answer:
        try:
            got = cluster.ask(namespace, target, request.method, join(base, request.path), body=request.body,
                              headers={**(headers or {}), **request.headers}, seconds=seconds)  # fmt: skip
        except ApiError as error:
            raise EndpointDown(f"{target} in namespace {namespace}: {error.message} ({error.code}).") from error
        except Unreachable as error:
            raise EndpointDown(f"{target} in namespace {namespace}: {error.message}", hint=error.hint) from error
        return Answer(got.status, got.headers, got.body)

    return ask
