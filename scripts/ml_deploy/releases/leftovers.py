"""What a colour leaves behind: found by its label, removed by its UID, never while a Service still leads to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ml_deploy.errors import Forbidden
from ml_deploy.releases import removal
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.colours import BASE, COLOUR, COLOURS, base_of, led_to, services_of
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.lease import Clock
from ml_deploy.releases.ownership import owner
from ml_deploy.releases.record_secrets import APP
from ml_deploy.releases.selectors import query

#: What belongs to one colour, in the order of removal.
KINDS = (("apps/v1", "Deployment"), ("policy/v1", "PodDisruptionBudget"), ("networking.k8s.io/v1", "NetworkPolicy"),
         ("v1", "ConfigMap"), ("v1", "Secret"))  # fmt: skip
_PAUSE = 0.1

Tell = Callable[[str], None]


def of_colours(cluster: Cluster, app: str, *, colour: str = "") -> list[Object]:
    """The objects of the app that belong to a colour (by default to any); none when there is no such Deployment."""
    selector = f"{APP}={app},{COLOUR}" + (f"={colour}" if colour else "")
    deployments = _listed(cluster, *KINDS[0], selector)
    others = KINDS[1:] if deployments else ()
    return [*deployments, *(one for kind in others for one in _listed(cluster, *kind, selector))]


def plain(cluster: Cluster, app: str, coloured: Iterable[Object], uids: set[str]) -> list[Object]:
    """What is live under the names that the objects of a colour have without it, and is ours: marked, or recorded."""
    found = []
    for obj in coloured:
        meta = obj["metadata"]
        base = (meta.get("annotations") or {}).get(BASE)
        live = cluster.get(ref_of(obj, cluster.namespace)._replace(name=base)) if base else None
        ours = live and ((live["metadata"].get("labels") or {}).get(APP) == app or _adopted(live, app, uids))
        if live and ours:
            found.append(live)
    return found


def _adopted(live: Object, app: str, uids: set[str]) -> bool:
    """A Deployment that was there before us and that a release of ours has replaced; its configuration stays."""
    return live["kind"] == "Deployment" and live["metadata"]["uid"] in uids and not owner(live, app)


def beside(cluster: Cluster, obj: Object) -> Object | None:
    """What serves now in place of an object of a colour: its other colour, else its plain self; None for what has none."""
    base = base_of(obj)
    for colour in (*COLOURS, "") if base else ():
        name = f"{base}-{colour}" if colour else base
        live = (
            None if name == obj["metadata"]["name"] else cluster.get(ref_of(obj, cluster.namespace)._replace(name=name))
        )
        if live:
            return live
    return None


def remove(cluster: Cluster, objects: Sequence[Object], *, tell: Tell) -> list[Object]:
    """Delete these live objects, but no Deployment that a Service leads to (it is told); returns those deleted.

    Raises Forbidden where nobody may know which Services lead where.
    """
    places = dict.fromkeys(str(one["metadata"]["namespace"]) for one in objects if one["kind"] == "Deployment")
    services = [s for place in places for s in services_of(cluster.list("v1", "Service", place))]
    deleted: list[Object] = []
    for obj in objects:
        leading = [s["metadata"]["name"] for s in services if led_to(s, [obj])] if obj["kind"] == "Deployment" else []
        if leading:
            tell(f"{ref_of(obj)} is left: Service {', '.join(leading)} still leads to it")
            return deleted
        if removal.delete(cluster, ref_of(obj), obj["metadata"]["uid"]):
            tell(f"removed {ref_of(obj)}")
            deleted.append(obj)
    return deleted


def wait_until_leaving(cluster: Cluster, deployments: Iterable[Object], *, clock: Clock, seconds: float) -> bool:
    """Wait until the pods of deleted Deployments are at least on their way out, so that nobody is sent to them."""
    until = clock.monotonic() + seconds
    for one in deployments:
        selector = query(one["spec"].get("selector") or {})
        while any(
            not pod["metadata"].get("deletionTimestamp")
            for pod in cluster.list("v1", "Pod", one["metadata"]["namespace"], selector=selector)
        ):
            if clock.monotonic() > until:
                return False
            clock.sleep(_PAUSE)
    return True


def _listed(cluster: Cluster, api_version: str, kind: str, selector: str) -> list[Object]:
    try:
        return cluster.list(api_version, kind, cluster.namespace, selector=selector)
    except (ApiError, Forbidden):
        return []  # a kind that we may not list is none that we made
