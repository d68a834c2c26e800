"""The kinds that the stand-in knows, and discovery, which is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

GIT_VERSION = "v1.36.0+ml-deploy-stand-in"


@dataclass(frozen=True)
class Kind:
    """One kind: its names, and which subresources it has besides itself."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The path below which the kind's group and version are served, without the first slash."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"


NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False, short=("ns",), subresources=("status",))
POD = Kind("", "v1", "Pod", "pods", short=("po",), subresources=("status", "log", "proxy", "eviction"))
SERVICE = Kind("", "v1", "Service", "services", short=("svc",), subresources=("status", "proxy"))
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", short=("ep",))
SECRET = Kind("", "v1", "Secret", "secrets")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", short=("cm",))
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", short=("sa",))
EVENT = Kind("", "v1", "Event", "events", short=("ev",))
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", short=("deploy",), subresources=("status", "scale"))
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets", short=("rs",), subresources=("status", "scale"))
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",), subresources=("status",))
AUTOSCALER = Kind(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", short=("hpa",), subresources=("status",)
)
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)

KINDS = (
    NAMESPACE, POD, SERVICE, ENDPOINTS, SECRET, CONFIG_MAP, SERVICE_ACCOUNT, EVENT, DEPLOYMENT, REPLICA_SET,
    ENDPOINT_SLICE, LEASE, BUDGET, AUTOSCALER, ACCESS_REVIEW,
)  # fmt: skip

IN_ALL = (POD, SERVICE, DEPLOYMENT, REPLICA_SET, AUTOSCALER)
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
SUB_KINDS = {"scale": "Scale", "eviction": "Eviction", "proxy": "PodProxyOptions"}
SUB_VERBS = {"log": ["get"], "proxy": ["create", "get"], "eviction": ["create"]}


def find(root: str, plural: str) -> Kind | None:
    """The kind served as `root/plural`, such as `apis/apps/v1` and `deployments`."""
    return next((kind for kind in KINDS if kind.root == root and kind.plural == plural), None)


def discovery(path: str) -> Object | None:
    """The answer to a discovery path (without the first slash), or None when it is none."""
    if path == "version":
        return {"major": "1", "minor": "36", "gitVersion": GIT_VERSION, "platform": "linux/amd64"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _groups()]}
    if path.removeprefix("apis/") in _groups():
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(path.removeprefix("apis/"))}
    served = [kind for kind in KINDS if kind.root == path]
    return _resources(served) if served else None


def _groups() -> list[str]:
    return list(dict.fromkeys(kind.group for kind in KINDS if kind.group))


def _group(name: str) -> Object:
    version = next(kind.version for kind in KINDS if kind.group == name)
    this = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [this], "preferredVersion": this}


def _resources(kinds: list[Kind]) -> Object:
    resources = []
    for kind in kinds:
        verbs = ["create"] if kind is ACCESS_REVIEW else VERBS
        resources.append(
            _resource(kind, kind.plural, kind.name, verbs)
            | {
                "shortNames": list(kind.short),
                "categories": ["all"] if kind in IN_ALL else [],
            }
        )
        for sub in kind.subresources:
            verbs = SUB_VERBS.get(sub, ["get", "patch", "update"])
            resources.append(_resource(kind, f"{kind.plural}/{sub}", SUB_KINDS.get(sub, kind.name), verbs))
    version = kinds[0].api_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _resource(kind: Kind, name: str, kind_name: str, verbs: list[str]) -> Object:
    singular = kind.name.lower() if "/" not in name else ""
    return {"name": name, "singularName": singular, "namespaced": kind.namespaced, "kind": kind_name, "verbs": verbs}


def openapi(path: str) -> Object | None:
    """OpenAPI v3 with no schemas: just what kubectl looks for before it leaves validation to the server."""
    roots = {kind.root for kind in KINDS}
    if path == "openapi/v3":
        return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in sorted(roots)}}
    served = [kind for kind in KINDS if f"openapi/v3/{kind.root}" == path]
    paths = {}
    for kind in served:
        parameters = [
            {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("fieldValidation", "dryRun")
        ]
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.name}
        operation = {"parameters": parameters, "x-kubernetes-group-version-kind": gvk, "x-kubernetes-action": "patch",
                     "responses": {"200": {"description": "OK"}}}  # fmt: skip
        middle = "namespaces/{namespace}/" if kind.namespaced else ""
        paths[f"/{kind.root}/{middle}{kind.plural}/{{name}}"] = {"patch": operation}
    info = {"title": "ml-deploy Kubernetes stand-in", "version": GIT_VERSION}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}} if served else None
