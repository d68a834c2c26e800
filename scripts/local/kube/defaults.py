"""What a real API server fills in, so that templates compare and nothing changes on a second apply."""

from __future__ import annotations

import base64
from typing import Any

from .kinds import AUTOSCALER, DEPLOYMENT, LEASE, NAMESPACE, POD, REPLICA_SET, SECRET, SERVICE, Kind, Object


def fill(kind: Kind, obj: Object) -> None:
    """Set the defaults of a kind in place."""
    filler = _FILLERS.get(kind)
    if filler:
        filler(obj)


def _set(target: Object, **values: Any) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _set(spec["strategy"], rollingUpdate={})
        _set(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    pod_spec(_template(spec))


def _replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, replicas=1)
    pod_spec(_template(spec))


def _template(spec: Object) -> Object:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    inner: Object = template.setdefault("spec", {})
    return inner


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    _set(
        spec, enableServiceLinks=True, serviceAccountName="default", preemptionPolicy="PreemptLowerPriority", priority=0
    )
    for container in spec.get("containers") or []:
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def pod_spec(spec: Object) -> None:
    """Defaults of a pod's spec, in a template or in a pod."""
    _set(spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst", securityContext={},
         schedulerName="default-scheduler")  # fmt: skip
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if isinstance(container, dict):
            _container(container)
    for volume in spec.get("volumes") or []:
        for source in ("configMap", "secret", "projected", "downwardAPI"):
            if source in volume:
                _set(volume[source], defaultMode=420)


def _container(container: Object) -> None:
    _set(container, resources={}, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File",
         imagePullPolicy=_pull_policy(str(container.get("image", ""))))  # fmt: skip
    for port in container.get("ports") or []:
        _set(port, protocol="TCP")
    for variable in container.get("env") or []:
        if field := (variable.get("valueFrom") or {}).get("fieldRef"):
            _set(field, apiVersion="v1")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container.get(name):
            _set(container[name], timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _http(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        _http(hook)


def _http(action: Object) -> None:
    if isinstance(action, dict) and action.get("httpGet"):
        _set(action["httpGet"], path="/", scheme="HTTP")


def _pull_policy(image: str) -> str:
    tag = image.rpartition("/")[2].partition(":")[2]
    return "IfNotPresent" if "@" in image or tag not in ("", "latest") else "Always"


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] == "ExternalName":
        return
    _set(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] in ("LoadBalancer", "NodePort"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    for port in spec.get("ports") or []:
        _set(port, protocol="TCP", targetPort=port.get("port"))


def _secret(obj: Object) -> None:
    _set(obj, type="Opaque")
    for key, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


def _namespace(obj: Object) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    _set(obj, spec={"finalizers": ["kubernetes"]})
    obj["status"] = obj.get("status") or {"phase": "Active"}


def _autoscaler(obj: Object) -> None:
    _set(obj.setdefault("spec", {}), minReplicas=1)


def _lease(obj: Object) -> None:
    obj.setdefault("spec", {})


_FILLERS = {DEPLOYMENT: _deployment, REPLICA_SET: _replica_set, POD: _pod, SERVICE: _service, SECRET: _secret,
            NAMESPACE: _namespace, AUTOSCALER: _autoscaler, LEASE: _lease}  # fmt: skip
