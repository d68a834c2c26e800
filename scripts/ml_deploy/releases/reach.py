"""Do the Services of a release lead to its pods, and its routes and autoscalers to what they name?

One with a misspelt selector, port or name would be a success that serves nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ml_deploy.errors import Forbidden, ManifestError
from ml_deploy.releases import selectors
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.history import ref_of
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
    """Judge Services, Ingresses, HTTPRoutes and HorizontalPodAutoscalers; what is live counts like what is in the release."""
    found = Reach()
    _services(cluster, manifests, found)
    _named(cluster, manifests, found)
    return found


def _services(cluster: Cluster, manifests: Sequence[Manifest], found: Reach) -> None:
    """A label that no template has may be put on pods later (by a leader's election, an operator): that is a doubt.

    One that the templates have with another value is misspelt.
    """
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


def _named(cluster: Cluster, manifests: Sequence[Manifest], found: Reach) -> None:
    """What is named and is nowhere: misspelt, where the release has others of that kind; else it may come later."""
    ours = {ref_of(one.object)[1:] for one in manifests}
    kinds = {kind for kind, _, _ in ours}
    for one in manifests:
        for ref in dict.fromkeys(_names(one.object)):
            if ref[1:] in ours or _is_live(cluster, ref):
                continue
            said = f"{one.title} ({one.place}) leads to {ref}, and there is none of that name"
            if ref.kind not in kinds:
                found.doubts.append(f"{said}.")
                continue
            there = ", ".join(sorted(name for kind, _, name in ours if kind == ref.kind))
            found.problems.append(ManifestError(
                f"{said}; this release has {there}.", hint="Correct the name.", file=one.file, line=one.line,
                title="Leads nowhere",
            ))  # fmt: skip


def _names(obj: Object) -> Iterator[Ref]:
    """What an Ingress, an HTTPRoute or an autoscaler leads to."""
    spec, namespace = obj.get("spec") or {}, str(obj["metadata"].get("namespace") or "")
    if obj["kind"] == "HorizontalPodAutoscaler" and (target := spec.get("scaleTargetRef")):
        yield Ref(str(target.get("apiVersion")), str(target.get("kind")), namespace, str(target.get("name")))
    elif obj["kind"] == "Ingress":
        paths = [path for rule in spec.get("rules") or [] for path in (rule.get("http") or {}).get("paths") or []]
        for backend in [spec.get("defaultBackend"), *(path.get("backend") for path in paths)]:
            if name := ((backend or {}).get("service") or {}).get("name"):
                yield Ref("v1", "Service", namespace, name)
    elif obj["kind"] == "HTTPRoute":
        for backend in (ref for rule in spec.get("rules") or [] for ref in rule.get("backendRefs") or []):
            if backend.get("kind", "Service") == "Service":
                yield Ref("v1", "Service", str(backend.get("namespace") or namespace), str(backend.get("name")))


def _is_live(cluster: Cluster, ref: Ref) -> bool:
    """Whether it is there; also where we may not look."""
    try:
        return cluster.get(ref) is not None
    except (ApiError, Forbidden):
        return True
