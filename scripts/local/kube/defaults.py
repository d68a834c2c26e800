"""What a real API server fills in, so that templates compare and nothing changes on a second apply."""

from __future__ import annotations

import base64
import copy
from typing import Any

from .kinds import AUTOSCALER, DEPLOYMENT, NAMESPACE, POD, REPLICA_SET, SECRET, SERVICE, Kind, Object

POD_SPEC = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler"}  # fmt: skip
CONTAINER = {"resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
SPECS: dict[Kind, Object] = {
    DEPLOYMENT: {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                 "strategy": {"type": "RollingUpdate"}, "template": {"metadata": {}, "spec": POD_SPEC}},
    REPLICA_SET: {"replicas": 1, "template": {"metadata": {}, "spec": POD_SPEC}},
    POD: {**POD_SPEC, "enableServiceLinks": True, "serviceAccountName": "default", "priority": 0},
    SERVICE: {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
              "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
    NAMESPACE: {"finalizers": ["kubernetes"]},
    AUTOSCALER: {"minReplicas": 1},
}  # fmt: skip


def fill(kind: Kind, obj: Object) -> None:
    """Set the defaults of a kind in place."""
    if kind in SPECS:
        spec = obj["spec"] = under(SPECS[kind], obj.get("spec") or {})
        _inside(kind, obj, spec)
    if kind is SECRET:
        obj.setdefault("type", "Opaque")
        for key, value in (obj.pop("stringData", None) or {}).items():
            obj.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


def under(defaults: Object, obj: Object) -> Object:
    """`obj` with what it lacks of `defaults`."""
    result = {**copy.deepcopy(defaults), **{key: value for key, value in obj.items() if value is not None}}
    return {key: under(defaults[key], value) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
            for key, value in result.items()}  # fmt: skip


def _inside(kind: Kind, obj: Object, spec: Object) -> None:
    if kind is DEPLOYMENT and spec["strategy"]["type"] == "RollingUpdate":
        rolling = {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
        spec["strategy"] = under(rolling, spec["strategy"])
    if kind in (DEPLOYMENT, REPLICA_SET):
        _pod_spec(spec["template"]["spec"])
    if kind is POD:
        _pod_spec(spec)
        for resources in [one["resources"] for one in spec.get("containers") or [] if "limits" in one["resources"]]:
            resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    if kind is NAMESPACE:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        obj["status"] = obj.get("status") or {"phase": "Active"}
    if kind is SERVICE:
        if spec["type"] in ("LoadBalancer", "NodePort"):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        ports = spec.get("ports") or []
        spec["ports"] = [under({"protocol": "TCP", "targetPort": port.get("port")}, port) for port in ports]


def _pod_spec(spec: Object) -> None:
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for field in ("initContainers", "containers"):
        if isinstance(spec.get(field), list):
            spec[field] = [_container(one) for one in spec[field]]
    for volume in spec.get("volumes") or []:
        for source in volume.keys() & {"configMap", "secret", "projected", "downwardAPI"}:
            volume[source] = under({"defaultMode": 420}, volume[source])


def _container(one: Object) -> Object:
    image = str(one.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    policy = "IfNotPresent" if "@" in image or tag not in ("", "latest") else "Always"
    result = under({**CONTAINER, "imagePullPolicy": policy}, one)
    for port in result.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for variable in result.get("env") or []:
        if ref := (variable.get("valueFrom") or {}).get("fieldRef"):
            ref.setdefault("apiVersion", "v1")
    for name in result.keys() & {"startupProbe", "readinessProbe", "livenessProbe"}:
        result[name] = _action(under(PROBE, result[name]))
    if isinstance(result.get("lifecycle"), dict):
        result["lifecycle"] = {name: _action(hook) for name, hook in result["lifecycle"].items()}
    return result


def _action(action: Any) -> Any:
    return under({"httpGet": {"path": "/", "scheme": "HTTP"}}, action) if action.get("httpGet") else action
