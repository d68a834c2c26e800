"""What a canary finds: the stable version beside which it is put, and the means to give it a share of the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml_deploy.errors import Conflict, Forbidden, InputError
from ml_deploy.releases import before_traffic, endpoint, ownership, selectors
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.colours import led_to
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.rbac import Right
from ml_deploy.releases.strategies import canary_objects, routes, steps

ROUTE_API = "gateway.networking.k8s.io/v1"
AUTO, REPLICAS, GATEWAY = "auto", "replicas", "gateway"


@dataclass(frozen=True)
class Setup:
    """Where a canary starts. `stable` is live, and had `total` pods when no canary was there.

    by:       REPLICAS or GATEWAY.
    services: the live Services that lead to the stable pods; with GATEWAY `service` is the one whose traffic is shared.
    routes:   the HTTPRoutes that lead to `service`.
    """

    workload: Object
    port: int
    stable: Object
    total: int
    by: str
    services: tuple[Object, ...] = ()
    service: str = ""
    routes: tuple[Ref, ...] = ()


@dataclass(frozen=True)
class Direct:
    """There is nothing to compare with: the release is deployed at once. `why` says so."""

    why: str


def survey(
    cluster: Cluster, objects: Sequence[Object], *, app: str, images: Sequence[str], traffic: str, shares: Sequence[int],
    adopt: bool = False,
) -> Setup | Direct:  # fmt: skip
    """Look at what is live. Raises InputError for what cannot be done here, Conflict where something is in the way."""
    if not any(share < steps.ALL for share in shares):
        return Direct("`steps` has none below 100")
    workload, port = _workload(objects, images, cluster.namespace)
    ref = ref_of(workload, cluster.namespace)
    stable = cluster.get(ref)
    if stable is None:
        return Direct(f"{ref} is not there yet: there is no version to compare a canary with")
    beside = ref._replace(name=canary_objects.name_of(ref.name))
    total = _all_pods(stable, cluster.get(beside))
    if not total:
        return Direct(f"{ref} has no pods: there is no version to compare a canary with")
    template = stable["spec"]["template"]["metadata"].get("labels") or {}
    services = tuple(
        one for one in cluster.list("v1", "Service", ref.namespace)
        if selectors.selects((one.get("spec") or {}).get("selector"), template)
        and not canary_objects.is_ours(one, app)
    )  # fmt: skip
    if not services and not any(led_to(one, [workload]) for one in objects if one["kind"] == "Service"):
        raise InputError(
            f"A canary is not possible: no Service leads to {ref}, so that there is no traffic to share.",
            hint="Add the Service with the selector of the Deployment's pods, or deploy with `strategy: rolling`.",
        )
    if not services:
        return Direct(f"no live Service leads to {ref}: no user would reach a canary beside it")
    _refuse_strangers(cluster, beside, app)
    service, found = (
        ("", ()) if traffic == REPLICAS else _routes(cluster, services, app, adopt, must=traffic == GATEWAY)
    )
    if service:
        _refuse_strangers(cluster, Ref("v1", "Service", ref.namespace, canary_objects.name_of(service)), app)
        return Setup(workload, port, stable, total, GATEWAY, services, service, found)
    _check_replicas(cluster, objects, ref, total, shares)
    return Setup(workload, port, stable, total, REPLICAS, services)


def _all_pods(stable: Object, canary: Object | None) -> int:
    """How many pods the stable version has when a canary that an ended run left has given them back."""
    notes = (canary or {"metadata": {}})["metadata"].get("annotations") or {}
    return max(int((stable.get("spec") or {}).get("replicas", 1)), int(notes.get(canary_objects.STABLE_PODS, 0)))


def rights(setup: Setup, namespace: str) -> list[Right]:
    """What a canary must be allowed beyond what its release needs anyway."""
    needed = [Right(verb, "apps", "deployments", namespace) for verb in ("list", "watch", "create", "patch", "delete")]
    needed += [Right("list", "", kind, namespace) for kind in ("configmaps", "services")]
    if setup.by == GATEWAY:
        needed += [Right(verb, "", "services", namespace) for verb in ("create", "patch", "delete")]
        needed += [
            Right(verb, "gateway.networking.k8s.io", "httproutes", namespace) for verb in ("get", "list", "patch")
        ]
    return needed


def live_routes(cluster: Cluster) -> list[Object]:
    """The namespace's HTTPRoutes; none where the cluster has no Gateway API. Raises Forbidden."""
    if cluster.kind(ROUTE_API, routes.KIND) is None:
        return []
    return cluster.list(ROUTE_API, routes.KIND, cluster.namespace)


def _workload(objects: Sequence[Object], images: Sequence[str], namespace: str) -> tuple[Object, int]:
    try:
        target = before_traffic.target(objects, images=images)
    except InputError as error:
        raise InputError(error.message.replace("`cases` cannot be asked", "A canary is not possible"), hint=error.hint) from error  # fmt: skip
    ref = ref_of(target.workload, namespace)
    if ref.kind != "Deployment":
        raise InputError(
            f"A canary is not possible: {ref} is no Deployment.",
            hint="Use `strategy: rolling` for a StatefulSet or DaemonSet.",
        )
    if ref.namespace != namespace:
        raise InputError(
            f"A canary is not possible: {ref} is not in `namespace`, which is {namespace}.",
            hint=f"Set `namespace: {ref.namespace}`.",
        )
    return target.workload, target.port


def _refuse_strangers(cluster: Cluster, ref: Ref, app: str) -> None:
    live = cluster.get(ref)
    if live and not canary_objects.is_ours(live, app):
        raise Conflict(
            f"{ref} exists and is not ours: the canary would bear its name.", hint="Rename or remove it.",
            title="Name taken",
        )  # fmt: skip


def _routes(
    cluster: Cluster, services: Sequence[Object], app: str, adopt: bool, *, must: bool
) -> tuple[str, tuple[Ref, ...]]:
    """The Service whose traffic comes by HTTPRoutes, and these; empty when there are none, unless there must be."""
    try:
        live = live_routes(cluster)
    except Forbidden:
        if must:
            raise
        live = []
    first = endpoint.service_of(services, app)
    ordered = sorted(services, key=lambda one: one is not first)
    for service in ordered:
        name = service["metadata"]["name"]
        found = [route for route in live if routes.leads_to(route, name)]
        for route in found:
            ownership.check_owner(route, app, adopt=adopt)
            _refuse_other_canary(route, app)
        if found:
            return name, tuple(ref_of(route) for route in found)
    if must:
        names = ", ".join(str(one["metadata"]["name"]) for one in services)
        raise InputError(
            f"`traffic: gateway` needs an HTTPRoute that leads to the Service {names} in namespace {cluster.namespace},"
            " and there is none.",
            hint="Deploy one first (with `strategy: rolling`), or use `traffic: replicas`.",
        )
    return "", ()


def _refuse_other_canary(route: Object, app: str) -> None:
    other, service = routes.edited_for(route)
    if other and other != app:
        raise Conflict(
            f"{ref_of(route)} has the weights of another canary, of app {other} (Service {service}).",
            hint="Promote or reject that one first: a route is shared by one canary at a time.",
        )


def _check_replicas(cluster: Cluster, objects: Sequence[Object], ref: Ref, total: int, shares: Sequence[int]) -> None:
    try:
        autoscalers = cluster.list("autoscaling/v2", "HorizontalPodAutoscaler", ref.namespace)
    except ApiError:
        autoscalers = []
    if ("Deployment", ref.name) in ownership.autoscaled(objects, autoscalers):
        raise InputError(
            f"An autoscaler has the say over the number of pods of {ref}, so that it cannot set a canary's share.",
            hint="Let a Gateway API HTTPRoute that leads to the Service set the weights, or use another `strategy`.",
        )
    try:
        for share in shares:
            if share < steps.ALL:
                steps.by_replicas(total, share)
    except InputError as error:
        error.hint = f"{total} is what {ref} has now; another number in the manifest counts from the next release on. {error.hint}"
        raise
