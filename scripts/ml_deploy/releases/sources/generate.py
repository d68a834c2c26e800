"""Objects for a model that has no manifests: Deployment and Service, and what keeps them available.

They are built so that no request fails while pods come and go: nothing is taken away before
something new is ready, and a pod that goes first waits until load balancers have noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_deploy.releases.cluster import Object
from ml_deploy.releases.sources.manifests import Manifest

NAME_LABEL = "app.kubernetes.io/name"
_PRE_STOP = 5  # seconds in which load balancers notice that a pod goes
_FINISH = 30  # seconds for requests that have begun
_START = 300  # seconds for a model to be loaded
_CPU_TARGET = 70  # percent of the requested CPU at which the autoscaler adds pods


@dataclass(frozen=True, kw_only=True)
class App:
    """What the generated objects are made of. Sizes are Kubernetes quantities."""

    name: str
    image: str
    port: int = 8000
    replicas: int = 2
    min_replicas: int | None = None
    max_replicas: int | None = None
    cpu: str = "250m"
    memory: str = "512Mi"
    gpu: int = 0
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    health_path: str = "/v2/health/ready"
    service_type: str = "ClusterIP"

    @property
    def labels(self) -> dict[str, str]:
        """What its pods are selected by."""
        return {NAME_LABEL: self.name}

    @property
    def least(self) -> int:
        """The smallest number of replicas it may have."""
        return self.replicas if self.max_replicas is None else self.min_replicas or min(2, self.max_replicas)


def objects(app: App) -> list[Manifest]:
    """Deployment and Service; from two replicas on a disruption budget; with `max_replicas` an autoscaler."""
    made = [_service(app), _deployment(app)]
    if app.least >= 2:
        made.append(_budget(app))
    if app.max_replicas is not None:
        made.append(_autoscaler(app, app.max_replicas))
    return [Manifest(obj) for obj in made]


def _object(app: App, api_version: str, kind: str, spec: Object) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": app.name, "labels": dict(app.labels)},
        "spec": spec,
    }


def _service(app: App) -> Object:
    port = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
    return _object(app, "v1", "Service", {"type": app.service_type, "selector": dict(app.labels), "ports": [port]})


def _deployment(app: App) -> Object:
    spec: Object = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": _START + 300,
        "selector": {"matchLabels": dict(app.labels)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": dict(app.labels)}, "spec": _pod(app)},
    }
    if app.max_replicas is None:  # else the autoscaler has the say
        spec["replicas"] = app.replicas
    return _object(app, "apps/v1", "Deployment", spec)


def _pod(app: App) -> Object:
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _PRE_STOP + _FINISH,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
             "labelSelector": {"matchLabels": dict(app.labels)}, "matchLabelKeys": ["pod-template-hash"]}
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "containers": [_container(app)],
    }  # fmt: skip
    if app.gpu:  # the taints that GPU pools carry on AKS
        spec["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
        ]
    return spec


def _container(app: App) -> Object:
    container: Object = {
        "name": app.name,
        "image": app.image,
        "ports": [{"name": "http", "containerPort": app.port, "protocol": "TCP"}],
        "resources": _resources(app),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "startupProbe": _probe(app.health_path, period=1, failures=_START, timeout=3),
        "readinessProbe": _probe(app.health_path, period=2, failures=2, timeout=3),
        "livenessProbe": _probe(_live(app.health_path), period=10, failures=3, timeout=5),
        "lifecycle": {"preStop": {"sleep": {"seconds": _PRE_STOP}}},
    }
    if app.env:
        container["env"] = [{"name": name, "value": value} for name, value in app.env.items()]
    return container


def _resources(app: App) -> Object:
    """Memory is limited to what was asked for; CPU is not limited, for that only makes answers slow."""
    limits: dict[str, Any] = {"memory": app.memory}
    if app.gpu:
        limits["nvidia.com/gpu"] = app.gpu
    return {"requests": {"cpu": app.cpu, "memory": app.memory}, "limits": limits}


def _probe(path: str, *, period: int, failures: int, timeout: int) -> Object:
    get = {"path": path, "port": "http"}
    return {"httpGet": get, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": timeout}


def _live(health_path: str) -> str:
    """The Open Inference Protocol's path for liveness beside the one for readiness; any other path serves both."""
    ready = "/v2/health/ready"
    return health_path.removesuffix(ready) + "/v2/health/live" if health_path.endswith(ready) else health_path


def _budget(app: App) -> Object:
    return _object(
        app, "policy/v1", "PodDisruptionBudget", {"maxUnavailable": 1, "selector": {"matchLabels": dict(app.labels)}}
    )


def _autoscaler(app: App, most: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": _CPU_TARGET}
    return _object(app, "autoscaling/v2", "HorizontalPodAutoscaler", {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": app.name},
        "minReplicas": app.least, "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    })  # fmt: skip
