"""Do the namespace's quotas allow what the rollout needs, its surge included? Pure arithmetic, with the quota's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_deploy.releases.capacity.demand import Demand
from ml_deploy.releases.capacity.packing import Fit
from ml_deploy.releases.capacity.podneeds import matches, requests
from ml_deploy.releases.capacity.quantities import Amounts, amounts, shown
from ml_deploy.releases.capacity.verdict import Opinion
from ml_deploy.releases.cluster import Object

_PLAIN = ("cpu", "memory", "ephemeral-storage")


def judge(quotas: Sequence[Object], demands: Sequence[Demand], made: Mapping[str, int]) -> list[Opinion]:
    """What the quotas do not allow. NO: never, for it is more than the whole quota; MAYBE: unless something goes.

    made: how many objects the release makes anew, by the names that quotas count them under.
    """
    found: list[Opinion] = []
    for quota in quotas:
        name = f"ResourceQuota {quota['metadata']['name']}"
        hard = amounts((quota.get("spec") or {}).get("hard"))
        used = amounts((quota.get("status") or {}).get("used"))
        inside = [one for one in demands if _counts(quota, one.pod)]
        for resource, limit in hard.items():
            found += _of_pods(name, resource, limit, used.get(resource, 0), inside)
            if resource in made and made[resource] > limit - used.get(resource, 0):
                found.append(Opinion(Fit.MAYBE, f"{name} allows {shown(resource, limit)}, {used.get(resource, 0)} are there, "
                                                f"and this release makes {made[resource]} more."))  # fmt: skip
    return found


def made_by(objects: Sequence[Object], plurals: Mapping[tuple[str, str], str]) -> dict[str, int]:
    """How many of these new objects there are, by the names that quotas count them under."""
    counted: dict[str, int] = {}
    for obj in objects:
        group = obj["apiVersion"].rpartition("/")[0]
        plural = plurals.get((obj["apiVersion"], obj["kind"]), "")
        names = [f"count/{plural}.{group}"] if group else [f"count/{plural}", plural]
        kind = (obj.get("spec") or {}).get("type")
        if obj["kind"] == "Service" and kind in ("LoadBalancer", "NodePort"):
            names += ["services.nodeports", *(["services.loadbalancers"] if kind == "LoadBalancer" else [])]
        for name in names:
            counted[name] = counted.get(name, 0) + 1
    return counted


def with_defaults(pod: Object, limit_ranges: Sequence[Object]) -> Object:
    """A pod with the requests and limits that the namespace's LimitRanges give to containers that name none."""
    limits: Object = {}
    asked: Object = {}
    for one in limit_ranges:
        for rule in (one.get("spec") or {}).get("limits") or []:
            if rule.get("type") == "Container":
                limits |= rule.get("default") or {}
                asked |= rule.get("defaultRequest") or {}
    if not limits and not asked:
        return pod

    def filled(container: Object) -> Object:
        own = container.get("resources") or {}
        given = {
            "limits": limits | (own.get("limits") or {}),
            "requests": asked | (own.get("limits") or {}) | (own.get("requests") or {}),
        }
        return {**container, "resources": {**own, **given}}

    spec = pod["spec"]
    parts = {part: [filled(one) for one in spec.get(part) or []] for part in ("initContainers", "containers")}
    return {**pod, "spec": {**spec, **parts}}


def _of_pods(name: str, resource: str, limit: int, used: int, demands: Sequence[Demand]) -> list[Opinion]:
    found = []
    left = limit - used
    for one in demands:
        each = _each(resource, one.pod)
        if not each:
            continue
        pods = f"one new pod of {one.title}" if one.least == 1 else f"{one.least} new pods of {one.title}"
        if one.wanted * each > limit:
            found.append(Opinion(Fit.NO, f"{name} allows {shown(resource, limit)} in all, and the {one.wanted} pods of "
                                         f"{one.title} need {shown(resource, one.wanted * each)}."))  # fmt: skip
        elif one.least and one.least * each > left:
            beside = " beside the old ones" if one.old else ""
            found.append(Opinion(Fit.MAYBE, f"{name} allows {shown(resource, limit)}, {shown(resource, used)} are used, and "
                                            f"{pods}{beside} need {shown(resource, one.least * each)}."))  # fmt: skip
        elif one.beside and one.beside * each > left:
            found.append(Opinion(Fit.YES, f"{name} has {shown(resource, left)} left: not all {one.beside} new pods of {one.title} "
                                          "start at once, and the rollout takes longer."))  # fmt: skip
    return found or _at_last(name, resource, limit, used, demands)


def _at_last(name: str, resource: str, limit: int, used: int, demands: Sequence[Demand]) -> list[Opinion]:
    """When the old pods are gone and all new ones are there."""
    more = sum(one.wanted * _each(resource, one.pod) for one in demands)
    less = sum(one.before * _each(resource, {"spec": one.old["spec"]}) for one in demands if one.old)
    if not more or used - less + more <= limit:
        return []
    return [Opinion(Fit.MAYBE, f"{name} allows {shown(resource, limit)}, {shown(resource, used)} are used, of which the old pods "
                               f"give back {shown(resource, less)}, and the new ones need {shown(resource, more)}.")]  # fmt: skip


def _each(resource: str, pod: Object) -> int:
    """What one pod counts for under a quota's resource name."""
    if resource in ("pods", "count/pods"):
        return 1
    kind, _, name = resource.partition(".")
    if kind == "limits":
        return _of(pod, "limits").get(name, 0)
    if kind == "requests":
        return _of(pod, "requests").get(name, 0)
    return _of(pod, "requests").get(resource, 0) if resource in _PLAIN else 0


def _of(pod: Object, part: str) -> Amounts:
    return requests(pod["spec"], part)


def _counts(quota: Object, pod: Object) -> bool:
    """Whether a pod is within all of the quota's scopes."""
    spec = quota.get("spec") or {}
    selected = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or []]
    selected += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return all(_in_scope(one, pod["spec"]) for one in selected)


def _in_scope(expression: Object, pod_spec: Object) -> bool:
    name = expression.get("scopeName")
    ends = pod_spec.get("activeDeadlineSeconds") is not None
    effortless = not any(requests(pod_spec, part).get(r) for part in ("requests", "limits") for r in ("cpu", "memory"))
    if name == "PriorityClass":
        own = pod_spec.get("priorityClassName")
        return matches({**expression, "key": name}, {name: own} if own else {})
    return {"Terminating": ends, "NotTerminating": not ends, "BestEffort": effortless,
            "NotBestEffort": not effortless}.get(str(name), False)  # fmt: skip
