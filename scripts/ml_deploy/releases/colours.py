"""Blue and green: a release as objects of one colour, beside what is live. Pure functions.

What belongs to one colour carries it in its name: the Deployments that Services lead to, the config maps and secrets
that their pods use (so that the old colour keeps its own), and the disruption budgets and network policies that select
them. What users and autoscalers go by exists once, and is moved: Services, HorizontalPodAutoscalers, KEDA's
ScaledObjects. The labels that any of these selects by get values of the colour, so that the new pods match nothing
that is live.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ml_deploy.errors import ManifestError
from ml_deploy.releases import selectors
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.selectors import selects
from ml_deploy.releases.sources.manifests import template_of

COLOURS = ("blue", "green")
#: A label and an annotation of what belongs to one colour: which, and its name without it.
COLOUR, BASE = "ml-deploy/colour", "ml-deploy/name"
PODS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
_LONGEST = 63  # characters of a label's value


@dataclass(frozen=True)
class Colouring:
    """What a release is coloured by.

    deployments: those that get a colour, as their authors wrote them.
    keys:        the labels whose values tell the colours apart.
    replicas:    the number of pods by Deployment, where the live one counts and not the manifest's.
    """

    colour: str
    deployments: Sequence[Object]
    keys: tuple[str, ...]
    replicas: Mapping[str, int] = field(default_factory=dict)

    def labels(self, deployment: Object, colour: str = "") -> dict[str, str]:
        """The labels that tell a Deployment's pods of a colour apart (by default of the new one)."""
        plain = labels_of(deployment)
        return {key: _value(plain[key], colour or self.colour) for key in self.keys if key in plain}

    def all_labels(self, deployment: Object) -> list[dict[str, str]]:
        """Those of a Deployment in both colours."""
        return [self.labels(deployment, colour) for colour in COLOURS]

    def of(self, obj: Object) -> bool:
        """Whether an object is one of the Deployments that get a colour."""
        return any(same(obj, one) for one in self.deployments)


def same(one: Object, other: Object) -> bool:
    """Whether two objects have the same kind, namespace (where both name one) and name."""
    if one.get("kind") != other.get("kind") or one["metadata"]["name"] != other["metadata"]["name"]:
        return False
    places = {_namespace(one), _namespace(other)} - {""}
    return len(places) < 2


def labels_of(workload: Object) -> dict[str, str]:
    """The labels of a workload's pods."""
    return ((template_of(workload) or {}).get("metadata") or {}).get("labels") or {}


def led_to(service: Object, workloads: Iterable[Object]) -> list[Object]:
    """The workloads whose pods a Service selects."""
    chosen = (service.get("spec") or {}).get("selector")
    return [w for w in workloads if _namespace(w) == _namespace(service) and selects(chosen, labels_of(w))]


def services_of(objects: Iterable[Object]) -> list[Object]:
    """The Services that select pods."""
    return [obj for obj in objects if obj.get("kind") == "Service" and (obj.get("spec") or {}).get("selector")]


def chosen(objects: Sequence[Object], images: Iterable[str] = ()) -> list[Object]:
    """The Deployments that get a colour: those that a Service leads to, and of several those with a deployed image.

    What shares a Service with one of them gets a colour, too. Raises ManifestError where there is none to switch to,
    or where a Service leads to pods that cannot exist twice.
    """
    services, workloads = services_of(objects), [obj for obj in objects if obj.get("kind") in PODS]
    served = [w for w in workloads if any(same(w, one) for s in services for one in led_to(s, workloads))]
    wanted = set(images)
    ours = [w for w in served if wanted & {c.get("image") for c in _containers(w)}] or [
        w for w in served if w["kind"] == "Deployment"
    ]
    found = _with_companions(ours, services, workloads)
    for one in found:
        if one["kind"] != "Deployment":
            raise _cannot_be_twice(one)
    if not found:
        raise _nothing_to_switch(served)
    return found


def _with_companions(found: list[Object], services: Sequence[Object], workloads: Sequence[Object]) -> list[Object]:
    """All that a Service leads to together with one of those found."""
    while True:
        groups = [led_to(service, workloads) for service in services]
        shared = [w for group in groups if any(w in found for w in group) for w in group if w not in found]
        if not shared:
            return [w for w in workloads if w in found]
        found = [*found, *shared]


def _cannot_be_twice(workload: Object) -> ManifestError:
    kind = workload["kind"]
    why = {
        "StatefulSet": "its pods have names and volumes that two colours cannot share",
        "DaemonSet": "it has one pod on each node already",
    }.get(kind, "only a Deployment can be")
    return ManifestError(
        f"{kind} {workload['metadata']['name']} cannot be deployed blue-green: {why}.",
        hint="Deploy it with `strategy: rolling`, or make it a Deployment.",
        title="Not for blue-green",
    )


def _nothing_to_switch(served: Sequence[Object]) -> ManifestError:
    if served:
        return _cannot_be_twice(served[0])
    return ManifestError(
        "No Service of this release leads to a Deployment: blue-green has nothing to switch.",
        hint="Add the Service with the selector of the Deployment's pods, or deploy with `strategy: rolling`.",
        title="Not for blue-green",
    )


def keys(deployments: Sequence[Object], objects: Iterable[Object]) -> tuple[str, ...]:
    """The labels to change so that no selector matches the new pods: one that all of them use, else all that any uses.

    objects: the release's, and what is live of its Services and budgets.
    """
    used: list[set[str]] = []
    for one in deployments:
        plain = labels_of(one)
        own = selectors.keys_of(one["spec"].get("selector"))
        used += [own & set(plain)] + [found & set(plain) for obj in objects if (found := _selecting(obj, plain))]
    used = [one for one in used if one]
    common = set.intersection(*used) if used else set()
    return (min(common),) if common else tuple(sorted(set().union(*used)))


def _selecting(obj: Object, labels: selectors.Labels) -> set[str]:
    """The labels by which a Service or budget selects these pods; none when it does not."""
    chosen = (obj.get("spec") or {}).get("selector")
    if obj.get("kind") == "Service" and selects(chosen, labels):
        return set(chosen or ())
    if obj.get("kind") == "PodDisruptionBudget" and selectors.matches(chosen, labels):
        return selectors.keys_of(chosen)
    return set()


def live_colours(deployments: Sequence[Object], services: Iterable[Object], live: Iterable[Object]) -> list[str]:
    """The colours that users reach: those of live Deployments of these names that one of the live Services leads to.

    deployments: as in the release. services: the live ones of the release.
    """
    names = {one["metadata"]["name"] for one in deployments}
    ours = [one for one in live if base_of(one) in names]
    led = [one for service in services for one in led_to(service, ours)]
    return sorted({str(one["metadata"]["labels"][COLOUR]) for one in led})


def free(deployments: Sequence[Object], services: Sequence[Object], live: Sequence[Object]) -> str:
    """The colour for a new release: one that no user reaches.

    When a run that was killed left both in use, it is the younger one: it was on its way in.
    """
    used = live_colours(deployments, services, live)
    unused = [colour for colour in COLOURS if colour not in used]
    if unused:
        return unused[0]
    names = {one["metadata"]["name"] for one in deployments}
    youngest = max(
        (one for one in live if base_of(one) in names), key=lambda one: str(one["metadata"].get("creationTimestamp"))
    )
    return str(youngest["metadata"]["labels"][COLOUR])


def base_of(obj: Object) -> str:
    """The name that an object of a colour has without it; empty for what has no colour."""
    meta = obj.get("metadata") or {}
    coloured = (meta.get("labels") or {}).get(COLOUR) in COLOURS
    return str((meta.get("annotations") or {}).get(BASE) or "") if coloured else ""


def strangers(by: Colouring, objects: Sequence[Object], live: Iterable[Object]) -> list[Object]:
    """Live Services, policies and autoscalers that go by the live pods or Deployments and are not of this release.

    They would be left behind: nothing in the release moves them to the new colour.
    """
    found = []
    for obj in live:
        if any(same(obj, one) for one in objects) or _of_keda(obj, objects):
            continue
        spec = obj.get("spec") or {}
        for one in by.deployments:
            plain, marks = labels_of(one), set(by.labels(one))
            if (
                (obj["kind"] == "Service" and selects(spec.get("selector"), plain))
                or (obj["kind"] == "NetworkPolicy" and selectors.matches(spec.get("podSelector"), plain)
                    and selectors.keys_of(spec.get("podSelector")) & marks)
                or (scaled(obj) == one["metadata"]["name"])
            ):  # fmt: skip
                found.append(obj)
                break
    return found


def scaled(obj: Object) -> str:
    """The name of the Deployment that an autoscaler of any kind rules; empty for what is none."""
    spec = obj.get("spec") or {}
    for name in ("scaleTargetRef", "targetRef"):
        target = spec.get(name)
        if (
            isinstance(target, dict)
            and target.get("kind", "Deployment" if name == "scaleTargetRef" else "") == "Deployment"
        ):
            return str(target.get("name") or "")
    return ""


def _of_keda(obj: Object, objects: Sequence[Object]) -> bool:
    """Whether KEDA made it for a ScaledObject of the release."""
    owners = (obj.get("metadata") or {}).get("ownerReferences") or []
    made_by = {(one.get("kind"), one.get("name")) for one in owners}
    return any((one.get("kind"), one["metadata"]["name"]) in made_by for one in objects)


def _value(plain: str, colour: str) -> str:
    """A label's value for a colour; a long one is cut, and stays one of its kind."""
    found = f"{plain}-{colour}" if plain else colour
    if len(found) <= _LONGEST:
        return found
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{plain[: _LONGEST - len(colour) - 10]}-{digest}-{colour}"


def _namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace") or "")


def _containers(workload: Object) -> list[Object]:
    return list((template_of(workload) or {}).get("spec", {}).get("containers") or [])
