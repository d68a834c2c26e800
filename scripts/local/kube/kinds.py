"""The kinds that the stand-in knows, and discovery, which is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

VERSION = "v1.36.0+ml-deploy-stand-in"
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
SUB_VERBS = {"log": ["get"], "proxy": ["create", "get"]}


@dataclass(frozen=True)
class Kind:
    """One kind: its names, and which subresources it has besides itself."""

    group: str
    version: str
    name: str
    short: str = ""
    subs: tuple[str, ...] = ()
    namespaced: bool = True

    @property
    def plural(self) -> str:
        return self.name.lower() + ("" if self.name.endswith("s") else "s")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The path below which group and version are served."""
        return f"apis/{self.api_version}" if self.group else f"api/{self.version}"


NAMESPACE = Kind("", "v1", "Namespace", "ns", ("status",), namespaced=False)
NODE = Kind("", "v1", "Node", "no", ("status",), namespaced=False)
POD = Kind("", "v1", "Pod", "po", ("status", "log", "proxy"))
SERVICE = Kind("", "v1", "Service", "svc", ("status", "proxy"))
SECRET = Kind("", "v1", "Secret")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "cm")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "sa")
EVENT = Kind("", "v1", "Event", "ev")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deploy", ("status",))
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "rs", ("status",))
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice")
LEASE = Kind("coordination.k8s.io", "v1", "Lease")
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "pdb", ("status",))
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "hpa", ("status",))
ACCESS_REVIEW = Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", namespaced=False)

KINDS = (
    NAMESPACE, NODE, POD, SERVICE, SECRET, CONFIG_MAP, SERVICE_ACCOUNT, EVENT, DEPLOYMENT, REPLICA_SET,
    ENDPOINT_SLICE, LEASE, BUDGET, AUTOSCALER, ACCESS_REVIEW,
)  # fmt: skip
IN_ALL = (POD, SERVICE, DEPLOYMENT, REPLICA_SET, AUTOSCALER)


def find(root: str, plural: str) -> Kind | None:
    """The kind served as `root/plural`, such as `apis/apps/v1` and `deployments`."""
    return next((kind for kind in KINDS if kind.root == root and kind.plural == plural), None)


def document(path: str) -> Object | None:
    """The answer to a discovery path (without the first slash), or None when it is none."""
    groups = {kind.group: _group(kind) for kind in KINDS if kind.group}
    fixed: dict[str, Object] = {
        "version": {"major": "1", "minor": "36", "gitVersion": VERSION, "platform": "linux/amd64"},
        "api": {"kind": "APIVersions", "versions": ["v1"]},
        "apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups.values())},
        "openapi/v3": {"paths": {kind.root: {"serverRelativeURL": f"/openapi/v3/{kind.root}"} for kind in KINDS}},
    }
    if path.removeprefix("apis/") in groups:
        return {"kind": "APIGroup", "apiVersion": "v1", **groups[path.removeprefix("apis/")]}
    served = [kind for kind in KINDS if path.removeprefix("openapi/v3/") == kind.root]
    if served and path.startswith("openapi"):
        return _openapi(served)
    return _resources(served) if served else fixed.get(path)


def _group(kind: Kind) -> Object:
    version = {"groupVersion": kind.api_version, "version": kind.version}
    return {"name": kind.group, "versions": [version], "preferredVersion": version}


def _resources(kinds: list[Kind]) -> Object:
    found = []
    for kind in kinds:
        base = {"namespaced": kind.namespaced, "kind": kind.name, "shortNames": [kind.short] if kind.short else []}
        verbs = ["create"] if kind is ACCESS_REVIEW else VERBS
        everything = {"name": kind.plural, "singularName": kind.name.lower(), "verbs": verbs}
        found.append({**base, **everything, "categories": ["all"] if kind in IN_ALL else []})
        for sub in kind.subs:
            verbs = SUB_VERBS.get(sub, ["get", "patch", "update"])
            part = {"name": f"{kind.plural}/{sub}", "singularName": "", "verbs": verbs, "shortNames": []}
            found.append({**base, **part})
    version = kinds[0].api_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}


def _openapi(kinds: list[Kind]) -> Object:
    """No schemas: just what kubectl looks for before it leaves validation to the server."""
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    paths = {}
    for kind in kinds:
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.name}
        operation = {"parameters": parameters, "x-kubernetes-group-version-kind": gvk, "responses": {}}
        paths[f"/{kind.root}/{kind.plural}/{{name}}"] = {"patch": operation}
    info = {"title": "stand-in", "version": VERSION}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}
