"""What a canary consists of beside the stable version: a Deployment, on a gateway a Service, copies of configuration.

All of it bears `ml-deploy/role: canary`, so that any later run finds it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ml_deploy.releases.before_traffic import ROLE
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.record_secrets import APP, REVISION
from ml_deploy.releases.selectors import selects

TRACK = "ml-deploy/track"
#: Annotations of a canary's Deployment: the stable one's name, how many pods it had, the canary's share in percent.
OF, STABLE_PODS, SHARE = "ml-deploy/canary-of", "ml-deploy/stable-replicas", "ml-deploy/share"
KINDS = (("apps/v1", "Deployment"), ("v1", "Service"), ("v1", "ConfigMap"), ("v1", "Secret"))
_SUFFIX = "-canary"
_LONGEST = 63  # of a label's value


def name_of(name: str) -> str:
    """The canary's name beside a Deployment or Service of this name."""
    return name + _SUFFIX


def selector(app: str) -> str:
    """Finds all objects of an app's canary."""
    return f"{APP}={app},{ROLE}=canary"


def labels(app: str, revision: int) -> dict[str, str]:
    """The labels of everything that a canary consists of."""
    return {APP: app, ROLE: "canary", REVISION: str(revision), "app.kubernetes.io/managed-by": "ml-deploy"}


def pod_labels(app: str) -> dict[str, str]:
    """What selects the canary's pods and nothing else."""
    return {APP: app, TRACK: "canary"}


def deployment(
    workload: Object,
    namespace: str,
    *,
    app: str,
    revision: int,
    pods: int,
    stable_pods: int | None = None,
    apart_from: Sequence[Object] = (),
) -> Object:
    """The canary of a Deployment, with a selector of its own.

    stable_pods: how many the stable version has to get back, where the canary takes its pods' place.
    apart_from: Services that must not lead to its pods; the first label that such a Service asks for gets another value.
    """
    spec = copy.deepcopy(workload["spec"])
    template = spec["template"]
    meta = template.setdefault("metadata", {})
    meta["labels"] = {**_apart(meta.get("labels") or {}, apart_from), **pod_labels(app)}
    spec |= {"replicas": pods, "selector": {"matchLabels": pod_labels(app)}}
    notes = {OF: workload["metadata"]["name"], SHARE: "0"}
    if stable_pods is not None:
        notes[STABLE_PODS] = str(stable_pods)
    return {
        "apiVersion": workload["apiVersion"], "kind": "Deployment", "spec": spec,
        "metadata": {"name": name_of(workload["metadata"]["name"]), "namespace": namespace,
                     "labels": labels(app, revision), "annotations": notes},
    }  # fmt: skip


def service(stable: Object, *, app: str, revision: int) -> Object:
    """A Service inside the cluster that leads to the canary alone, with the ports of the stable one."""
    ports = [{k: v for k, v in port.items() if k != "nodePort"} for port in stable["spec"].get("ports") or []]
    meta = stable["metadata"]
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name_of(meta["name"]), "namespace": meta["namespace"], "labels": labels(app, revision)},
        "spec": {"type": "ClusterIP", "selector": pod_labels(app), "ports": ports},
    }  # fmt: skip


def is_ours(obj: Object, app: str) -> bool:
    """Whether a live object is part of this app's canary."""
    found = obj["metadata"].get("labels") or {}
    return found.get(APP) == app and found.get(ROLE) == "canary"


def _apart(wanted: dict[str, str], services: Sequence[Object]) -> dict[str, str]:
    result = dict(wanted)
    for one in services:
        chosen = (one.get("spec") or {}).get("selector") or {}
        if selects(chosen, result):
            label = min(chosen)
            result[label] = result[label][: _LONGEST - len(_SUFFIX)] + _SUFFIX
    return result
