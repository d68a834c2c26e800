"""Do the Services of a release lead to its pods? One with a misspelt selector or port would be a success that serves nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ml_deploy.errors import Forbidden, ManifestError
from ml_deploy.releases import selectors
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.sources.manifests import Manifest, template_of


@dataclass
class Reach:
    """problems: Services that can lead nowhere. doubts: those that may, in words."""

    problems: list[ManifestError] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pods:
    """The pods that a workload of the release starts."""

    title: str
    namespace: str
    labels: dict[str, str]
    spec: Object = field(repr=False)
    selector: Object | None = field(default=None, repr=False)


def check(cluster: Cluster, manifests: Sequence[Manifest]) -> Reach:
    """Judge every Service with a selector; live pods of others are looked for where none of the release fits.

    A label that no template has may be put on pods later (by a leader's election, an operator): that is a doubt. One
    that the templates have with another value is misspelt.
    """
    found = Reach()
    ours = [pods for one in manifests if (pods := _pods(one.object))]
    for one in manifests:
        spec = one.object.get("spec") or {}
        chosen = (
            spec.get("selector") if one.object["kind"] == "Service" and spec.get("type") != "ExternalName" else None
        )
        here = [pods for pods in ours if pods.namespace == one.object["metadata"].get("namespace")]
        led = [pods for pods in here if selectors.selects(chosen, pods.labels)]
        if led:
            _ports(one, led, found)
        elif chosen and here and not _leads_to_others(cluster, one.object, chosen, here):
            _nowhere(one, chosen, here, found, operated=any(_custom(other.object) for other in manifests))
    return found


def _pods(obj: Object) -> _Pods | None:
    template = obj if obj["kind"] == "Pod" else template_of(obj)
    if template is None or obj["kind"] in ("Job", "CronJob"):
        return None
    labels = (template.get("metadata") or {}).get("labels") or {}
    title, selector = f"{obj['kind']} {obj['metadata']['name']}", (obj.get("spec") or {}).get("selector")
    return _Pods(title, str(obj["metadata"].get("namespace") or ""), labels, template.get("spec") or {}, selector)


def _custom(obj: Object) -> bool:
    """Whether an operator may make pods of it."""
    group = obj["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def _leads_to_others(cluster: Cluster, service: Object, chosen: dict[str, str], here: Sequence[_Pods]) -> bool:
    """Whether live pods that no workload of the release will replace fit the selector; also where we may not look."""
    wanted = selectors.query({"matchLabels": chosen})
    try:
        live = cluster.list("v1", "Pod", service["metadata"]["namespace"], selector=wanted)
    except (ApiError, Forbidden):
        return True
    replaced = [pods.selector for pods in here if pods.selector]
    labels = [pod["metadata"].get("labels") or {} for pod in live]
    return any(not any(selectors.matches(one, own) for one in replaced) for own in labels)


def _nowhere(one: Manifest, chosen: dict[str, str], here: Sequence[_Pods], found: Reach, *, operated: bool) -> None:
    asked = ", ".join(f"{key}={value}" for key, value in chosen.items())
    said = f"{one.title} ({one.place}) leads to no pod: none has {asked}"
    if operated or any(all(pods.labels.get(key, value) == value for key, value in chosen.items()) for pods in here):
        found.doubts.append(f"{said} from its template.")
        return
    there = "; ".join(f"{pods.title} has {', '.join(f'{k}={v}' for k, v in pods.labels.items())}" for pods in here[:5])
    found.problems.append(ManifestError(
        f"{said}. {there}.", file=one.file, line=one.line, title="Service without pods",
        hint="Correct the Service's selector or the labels of the pod template; or deploy first what it leads to.",
    ))  # fmt: skip


def _ports(one: Manifest, led: Sequence[_Pods], found: Reach) -> None:
    for port in one.object["spec"].get("ports") or []:
        wanted = port.get("targetPort") or port.get("port")
        declared = [own for pods in led for own in _declared(pods.spec)]
        titles = " and ".join(pods.title for pods in led)
        if isinstance(wanted, str):
            names = sorted({str(own["name"]) for own in declared if own.get("name")})
            if wanted not in names:
                found.problems.append(ManifestError(
                    f"{one.title} ({one.place}) leads to a port called {wanted}, and {titles} has none of that name"
                    f" ({', '.join(names) or 'no port has a name'}).",
                    hint="Correct `targetPort`, or the port's name in the container.", file=one.file, line=one.line,
                    title="Service without a port",
                ))  # fmt: skip
        elif declared and wanted not in {own.get("containerPort") for own in declared}:
            numbers = ", ".join(sorted({str(own.get("containerPort")) for own in declared}))
            found.doubts.append(
                f"{one.title} ({one.place}) leads to port {wanted}, and the containers of {titles} declare {numbers}."
            )


def _declared(spec: Object) -> list[Object]:
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    return [port for container in containers for port in container.get("ports") or []]
