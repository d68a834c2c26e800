"""The rights that a deployment needs, asked for before anything changes; the missing ones are named with a Role."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ml_deploy.errors import Forbidden
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.ownership import scaled_in
from ml_deploy.releases.rollout import waited_for


class Right(NamedTuple):
    """Something that we must be allowed; `namespace` is empty for what is cluster-scoped."""

    verb: str
    group: str
    resource: str
    namespace: str


def needed(
    cluster: Cluster, objects: Sequence[Object], *, deploys: bool, cases: bool, reads: bool = False
) -> list[Right]:
    """All that a deployment of these objects must be allowed; with `deploys` false, what its dry run must be.

    reads: whether it reads the records of earlier releases, too (to prune).
    """
    here = cluster.namespace
    found = [Right("list", "autoscaling", "horizontalpodautoscalers", place) for place in scaled_in(objects, here)]
    for obj in objects:
        kind = cluster.kind(obj["apiVersion"], obj["kind"])
        if kind is not None:  # else its definition comes with the release
            verbs = ["get", "create", "patch", *(("list", "watch") if deploys and waited_for(obj) else ())]
            verbs += ["delete"] if deploys and obj["kind"] == "Job" else []  # Jobs are replaced
            group, namespace = kind.api_version.rpartition("/")[0], str(obj["metadata"].get("namespace") or "")
            found += [Right(verb, group, kind.plural, namespace if kind.namespaced else "") for verb in verbs]
    if reads:
        found += [Right(verb, "", "secrets", here) for verb in ("get", "list")]
    if deploys:
        found += [Right(verb, "coordination.k8s.io", "leases", here) for verb in ("get", "create", "update")]
        found += [Right(verb, "", "secrets", here) for verb in ("get", "list", "create", "patch", "delete")]
        found += [Right("list", "", "pods", here), Right("list", "apps", "replicasets", here)]
        found += [Right("delete", "", "pods", here)] if any(obj["kind"] == "StatefulSet" for obj in objects) else []
    if cases:
        found += [Right(verb, "", "pods", here) for verb in ("create", "get", "watch", "delete")]
        found += [Right(verb, "", "pods/proxy", here) for verb in ("get", "create")]
        config = any(obj["kind"] == "ConfigMap" for obj in objects)  # the pod that is asked gets a copy of its own
        found += [Right(verb, "", "configmaps", here) for verb in ("list", *(("delete",) if config else ()))]
    return list(dict.fromkeys(found))


def to_delete(cluster: Cluster, objects: Iterable[Object]) -> list[Right]:
    """What deleting these live objects needs."""
    found = [(cluster.kind(obj["apiVersion"], obj["kind"]), obj["metadata"].get("namespace", "")) for obj in objects]
    rights = [Right("delete", k.api_version.rpartition("/")[0], k.plural, place) for k, place in found if k]
    return list(dict.fromkeys(rights))


def check(cluster: Cluster, rights: Sequence[Right]) -> None:
    """Raises Forbidden naming every right that is missing, with the Role that grants them."""
    missing = [one for one in rights if not cluster.allowed(one.verb, one.group, one.resource, one.namespace)]
    if not missing:
        return
    places = list(dict.fromkeys(one.namespace for one in missing))
    told = [
        f"{_listed([one for one in missing if one.namespace == place])} "
        + (f"in namespace {place}" if place else "in the whole cluster")
        for place in places
    ]
    roles = "---\n".join(_role(place, [one for one in missing if one.namespace == place]) for place in places)
    raise Forbidden(
        f"Rights are missing: {'; '.join(told)}.",
        hint="Grant them with the Role in the job summary and a RoleBinding; on AKS with Azure RBAC assign "
        "`Azure Kubernetes Service RBAC Writer` (new assignments take up to five minutes).",
        details=f"```yaml\n{roles}```",
    )


def _listed(missing: Sequence[Right]) -> str:
    return ", ".join(f"{resource} ({', '.join(verbs)})" for (_, resource), verbs in _by_resource(missing).items())


def _by_resource(missing: Sequence[Right]) -> dict[tuple[str, str], list[str]]:
    verbs: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        verbs.setdefault((one.group, one.resource), []).append(one.verb)
    return verbs


def _role(namespace: str, missing: Sequence[Right]) -> str:
    rules = "".join(
        f'  - {{apiGroups: ["{group}"], resources: [{resource}], verbs: [{", ".join(found)}]}}\n'
        for (group, resource), found in _by_resource(missing).items()
    )
    where = f", namespace: {namespace}" if namespace else ""
    kind = "Role" if namespace else "ClusterRole"
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: ml-deploy{where}}}\nrules:\n{rules}"
    )
