"""The first meeting of ml-deploy with an app that runs already: what is live becomes revision 0, which can be restored."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from ml_deploy.releases import switching
from ml_deploy.releases.before_traffic import WORKLOADS
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.colours import led_to, services_of
from ml_deploy.releases.history import Release, ref_of
from ml_deploy.releases.ownership import LAST_APPLIED
from ml_deploy.releases.records import Records

_OF_THE_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
                  "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences")  # fmt: skip
_SERVICE = ("clusterIP", "clusterIPs", "healthCheckNodePort")


def first_meeting(cluster: Cluster, records: Records, objects: Sequence[Object]) -> Release | None:
    """Record what is live of `objects` as revision 0, unless the app has a history. Call before `Records.begin`.

    None when there is a history already, or when nothing of it is live: then there is nothing to go back to.
    """
    if records.all():
        return None
    live = [found for obj in objects if (found := cluster.get(ref_of(obj, cluster.namespace)))]
    live += _led_to(cluster, live)
    workloads = [obj for obj in live if obj.get("kind") in WORKLOADS]
    if not workloads:
        return None
    uids = {ref_of(obj, cluster.namespace): obj["metadata"]["uid"] for obj in live}
    return records.adopt(
        [as_written(obj) for obj in live], uids=uids, images=images_of(workloads), served=_served(workloads)
    )


def _served(workloads: Sequence[Object]) -> bool | None:
    """Whether all workloads served (True), some (None) or none; those that were scaled to none are as they should be."""
    found = {serves(one) for one in workloads if (one.get("spec") or {}).get("replicas") != 0}
    return None if len(found) == 2 else True in found or not found


def _led_to(cluster: Cluster, live: Sequence[Object]) -> list[Object]:
    """Workloads that live Services of the release lead to, under whatever name: users would miss them."""
    services, known = services_of(live), {obj["metadata"]["uid"] for obj in live}
    found: list[Object] = []
    for namespace in dict.fromkeys(one["metadata"]["namespace"] for one in services):
        for kind in WORKLOADS:
            there = switching.live_workloads(cluster, kind, namespace)
            found += [w for w in there if w["metadata"]["uid"] not in known and any(led_to(s, [w]) for s in services)]
    return found


def as_written(live: Object) -> Object:
    """A live object as somebody might have written it: without status and what the server keeps for itself."""
    obj = copy.deepcopy(live)
    obj.pop("status", None)
    meta = obj["metadata"]
    for name in _OF_THE_SERVER:
        meta.pop(name, None)
    notes = meta.get("annotations") or {}
    for name in (LAST_APPLIED, "deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation"):
        notes.pop(name, None)
    if not notes:
        meta.pop("annotations", None)
    if obj.get("kind") == "Service":
        for name in _SERVICE:
            if obj["spec"].get(name) != "None":  # a headless Service is one by its clusterIP
                obj["spec"].pop(name, None)
    return obj


def serves(workload: Object) -> bool:
    """Whether at least one pod of a live workload is ready: then users were served, however well."""
    status = workload.get("status") or {}
    return int(status.get("numberReady" if workload.get("kind") == "DaemonSet" else "readyReplicas") or 0) > 0


def images_of(workloads: Sequence[Object]) -> list[str]:
    """The images of the workloads' containers, each once."""
    containers = [c for w in workloads for c in w["spec"]["template"]["spec"].get("containers") or []]
    return list(dict.fromkeys(str(container["image"]) for container in containers if container.get("image")))
