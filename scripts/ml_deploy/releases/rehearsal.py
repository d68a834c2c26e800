"""What a pod before traffic needs beside itself: the release's new configuration, without touching the live one.

Config maps and secrets that differ from what is live are copied under names of their own for as
long as the pod lives; what can harm nobody (accounts, rights, claims) is made ahead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ml_deploy.errors import AuthFailed, Forbidden, Unreachable
from ml_deploy.releases.before_traffic import ROLE
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref, hurried
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.record_secrets import APP, REVISION
from ml_deploy.releases.restore import secret_values
from ml_deploy.releases.sources.substitution import references, used

_AHEAD = ("Namespace", "CustomResourceDefinition", "PriorityClass", "ServiceAccount", "Role", "ClusterRole", "RoleBinding",
          "ClusterRoleBinding", "PersistentVolumeClaim")  # fmt: skip
_LABELS = {ROLE: "before-traffic", "app.kubernetes.io/managed-by": "ml-deploy"}


def needed_ahead(cluster: Cluster, objects: Sequence[Object]) -> list[Object]:
    """Objects that pods need to start and that are not there yet; making them changes nothing for users."""
    found = [obj for obj in objects if obj.get("kind") in _AHEAD]
    return [obj for obj in found if cluster.get(ref_of(obj, cluster.namespace)) is None]


@contextmanager
def configured(
    cluster: Cluster, workload: Object, objects: Sequence[Object], *, app: str, revision: int
) -> Iterator[Object]:
    """The workload with a template that uses copies of the release's new config maps and secrets; they go afterwards."""
    _remove_leftovers(cluster, app, (workload.get("metadata") or {}).get("namespace") or cluster.namespace)
    labels = {**_LABELS, APP: app, REVISION: str(revision)}
    rewritten, copies = with_copies(cluster, workload, objects, ending=f"-r{revision}-before-traffic", labels=labels)
    try:
        for one in copies:
            cluster.create(one)
        yield rewritten
    finally:
        for one in copies:
            _remove(cluster, ref_of(one))


def with_copies(
    cluster: Cluster, workload: Object, objects: Sequence[Object], *, ending: str, labels: dict[str, str]
) -> tuple[Object, list[Object]]:
    """The workload with a template that uses copies of config maps and secrets that differ from what is live; and these.

    They bear `labels`, and their names have the `ending`.
    """
    namespace = (workload.get("metadata") or {}).get("namespace") or cluster.namespace
    wanted = used(workload["spec"]["template"]["spec"])
    renamed: dict[tuple[str, str], str] = {}
    copies: list[Object] = []
    for obj in objects:
        name = obj["metadata"]["name"]
        if (obj["kind"], name) in wanted and _differs(obj, cluster.get(ref_of(obj, namespace))):
            new = renamed[obj["kind"], name] = f"{name[:200]}{ending}"
            copies.append({**obj, "metadata": {"name": new, "namespace": namespace, "labels": labels}})
    return _rewritten(workload, renamed), copies


def _differs(obj: Object, live: Object | None) -> bool:
    if live is None:
        return True
    if obj["kind"] == "Secret":
        return secret_values(obj) != secret_values(live)
    return any((obj.get(part) or {}) != (live.get(part) or {}) for part in ("data", "binaryData"))


def _rewritten(workload: Object, renamed: dict[tuple[str, str], str]) -> Object:
    changed = copy.deepcopy(workload)
    for kind, holder, key in references(changed["spec"]["template"]["spec"]):
        new = renamed.get((kind, str(holder.get(key))))
        if new:
            holder[key] = new
    return changed


def _remove_leftovers(cluster: Cluster, app: str, namespace: str) -> None:
    """Copies that a killed run left. The lock is held."""
    selector = f"{APP}={app},{ROLE}=before-traffic"
    for kind in ("ConfigMap", "Secret"):
        for one in cluster.list("v1", kind, namespace, selector=selector):
            _remove(cluster, ref_of(one))


def _remove(cluster: Cluster, ref: Ref) -> None:
    try:
        with hurried(cluster):
            cluster.delete(ref)
    except (ApiError, AuthFailed, Forbidden, Unreachable):
        pass  # the next run removes it
