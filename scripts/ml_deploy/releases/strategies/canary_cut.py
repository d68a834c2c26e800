"""Taking a canary out of a Service that it shares with the stable version, by one patch of that Service.

Pods that leave one by one are still reached for seconds. The Service asks for the `pod-template-hash` of the stable pods
as well, until the canary's pods are gone; an annotation tells any later run to take that out again.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_deploy.releases import newpods
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.record_secrets import APP
from ml_deploy.releases.selectors import selects

#: Annotation of a Service that leads to the stable version alone while a canary leaves.
NOTE = "ml-deploy/canary-leaves"


def close(cluster: Cluster, app: str, stable: Object, canary: Object, *, tell: Callable[[str], None]) -> None:
    """New connections reach the stable pods alone. Services of others are left alone: their canary leaves pod by pod.

    So it does where the stable version is half rolled, which a killed promotion leaves: its old pods serve, too.
    """
    mark = newpods.template_hash(cluster, stable) if _has_one_template(stable) else None
    labels = canary["spec"]["template"]["metadata"]["labels"]
    for service in _services(cluster, app):
        if mark and selects(service["spec"].get("selector"), labels):
            _patch(cluster, service, mark, app)
            tell(f"Service {service['metadata']['name']} leads to the stable version alone")


def reopen(cluster: Cluster, app: str) -> None:
    """Services ask for what they asked before. The canary's pods must be gone."""
    for service in _services(cluster, app):
        if NOTE in (service["metadata"].get("annotations") or {}):
            _patch(cluster, service, None, None)


def _has_one_template(deployment: Object) -> bool:
    """Whether all of its pods are of the present template, and some are ready."""
    status, seen = deployment.get("status") or {}, deployment["metadata"].get("generation")
    pods = status.get("replicas"), status.get("updatedReplicas")
    return bool(status.get("observedGeneration") == seen and pods[0] == pods[1] and status.get("readyReplicas"))


def _services(cluster: Cluster, app: str) -> list[Object]:
    return cluster.list("v1", "Service", cluster.namespace, selector=f"{APP}={app}")


def _patch(cluster: Cluster, service: Object, mark: str | None, app: str | None) -> None:
    """Raises nothing for a Service that somebody has deleted meanwhile."""
    change = {"metadata": {"annotations": {NOTE: app}}, "spec": {"selector": {newpods.HASH: mark}}}
    try:
        cluster.patch(ref_of(service), change)
    except ApiError as error:
        if error.code != 404:
            raise
