"""The workloads that custom resources made: they know for certain whether the new version runs.

A custom resource says so in its controller's words, and these may be those of before: KServe's `Ready` stays true
from one version to the next, for the pods of the old one are ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ml_deploy.releases import rollout
from ml_deploy.releases.cluster import Cluster, Object, WatchOf

_KINDS = (("apps/v1", "Deployment", "deployments"), ("apps/v1", "StatefulSet", "statefulsets"))


class Owned:
    """The workloads of those of the objects that are custom resources, where we may see them."""

    def __init__(self, cluster: Cluster, objects: Iterable[Object]) -> None:
        custom = [obj for obj in objects if rollout.is_custom(obj) and obj["metadata"].get("uid")]
        self._cluster = cluster
        self._uids = {obj["metadata"]["uid"] for obj in custom}
        namespaces = sorted({obj["metadata"]["namespace"] for obj in custom if obj["metadata"].get("namespace")})
        self.watches = [
            WatchOf(api_version, kind, namespace)
            for namespace in namespaces
            for api_version, kind, plural in _KINDS
            if all(cluster.allowed(verb, "apps", plural, namespace) for verb in ("list", "watch"))
        ]

    def __contains__(self, obj: Object) -> bool:
        return any(one.get("uid") in self._uids for one in obj["metadata"].get("ownerReferences") or [])

    def live(self) -> Iterator[Object]:
        """Those that are there now."""
        for of in self.watches:
            yield from (one for one in self._cluster.list(of.api_version, of.kind, of.namespace) if one in self)
