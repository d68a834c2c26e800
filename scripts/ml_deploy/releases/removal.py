"""What may be deleted, and how: the rules that rollback, prune and teardown share.

Never deleted: what may hold data (volumes, claims, namespaces, CRDs), what is cluster-scoped, what does not bear our
mark, what somebody else made anew under the same name.
"""

from __future__ import annotations

from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.record_secrets import APP

_HOLDS_DATA = {
    "PersistentVolumeClaim",
    "PersistentVolume",
    "Namespace",
    "CustomResourceDefinition",
    "VolumeSnapshot",
}
_POLICY = "helm.sh/resource-policy"


def protected(live: Object, app: str, *, namespaced: bool, uid: str = "") -> str:
    """Why a live object may not be deleted, in words (`may hold data`); empty when it may.

    uid: the one that was recorded when we applied it, where that is known.
    """
    meta = live["metadata"]
    if not namespaced:
        return "is cluster-scoped"
    if live.get("kind") in _HOLDS_DATA:
        return "may hold data"
    if (meta.get("labels") or {}).get(APP) != app:
        return "does not bear our mark any more"
    if uid and uid != meta["uid"]:
        return "was made anew by somebody else"
    if (meta.get("annotations") or {}).get(_POLICY) == "keep":
        return f"is to be kept ({_POLICY})"
    return ""


def is_namespaced(cluster: Cluster, ref: Ref) -> bool:
    """Whether objects of this kind live in namespaces; a kind that is gone counts as one that does not."""
    known = cluster.kind(ref.api_version, ref.kind)
    return bool(known and known.namespaced)


def delete(cluster: Cluster, ref: Ref, uid: str, *, propagation: str = "Background") -> bool:
    """Delete the very object that has this UID; False when it is gone, or another one bears the name by now."""
    try:
        return cluster.delete(ref, uid=uid, propagation=propagation)
    except ApiError as error:
        if error.code == 409:
            return False
        raise


def wait_until_gone(cluster: Cluster, ref: Ref, uid: str, *, seconds: float) -> bool:
    """Whether the very object that has this UID, and is being deleted, goes within so many seconds."""
    for event in cluster.watch(ref.api_version, ref.kind, ref.namespace, name=ref.name, seconds=seconds):
        if event is None:
            there = cluster.get(ref)
            if there is None or there["metadata"]["uid"] != uid:
                return True
        elif event.type == "DELETED" and event.object["metadata"].get("uid") == uid:
            return True
    return False
