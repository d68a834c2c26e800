"""A release's objects in one colour: names, labels, selectors and references that follow. Pure functions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ml_deploy.releases import selectors
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.colours import BASE, COLOUR, PODS, Colouring, labels_of, led_to, scaled
from ml_deploy.releases.sources.manifests import Manifest, template_of
from ml_deploy.releases.sources.substitution import references

_CONFIG = ("ConfigMap", "Secret")


def coloured(manifests: Sequence[Manifest], by: Colouring) -> list[Manifest]:
    """The manifests in a colour and in the order they were in; what others use, too, stays beside its coloured self."""
    paint = _Paint([one.object for one in manifests], by)
    return [replace(one, object=obj) for one in manifests for obj in paint.of(one.object)]


class _Paint:
    def __init__(self, objects: Sequence[Object], by: Colouring) -> None:
        self._by, self._objects = by, objects
        named = {
            (kind, str(holder.get(key)))
            for one in by.deployments
            for kind, holder, key in references(template_of(one))
        }  # fmt: skip
        self._config = {(o["kind"], o["metadata"]["name"]) for o in objects} & named

    def of(self, obj: Object) -> list[Object]:
        """What takes the place of an object of the release."""
        kind, spec = obj["kind"], obj.get("spec") or {}
        if self._by.of(obj):
            return [self._deployment(obj)]
        if (kind, obj["metadata"]["name"]) in self._config:
            return [self._named(obj), *([obj] if self._is_used_elsewhere(obj) else [])]
        if kind == "PodDisruptionBudget":
            return self._split(obj, "selector")
        if kind == "NetworkPolicy":
            return self._split(_everywhere(obj, ("podSelector",), self._wide, ("ingress", "egress")), "podSelector")
        if kind == "PodMonitor" and isinstance(spec.get("selector"), dict):
            return [{**obj, "spec": {**spec, "selector": self._wide(spec["selector"])}}]
        if kind in PODS:
            return [_everywhere(obj, ("labelSelector",), self._wide, ("template",))]
        return [self._moved(obj)]

    def _deployment(self, plain: Object) -> Object:
        obj, by = self._named(plain), self._by
        labels, spec = by.labels(plain), obj["spec"]
        own = selectors.narrowed(spec.get("selector") or {}, labels)
        spec["selector"] = {**own, "matchLabels": {**(own.get("matchLabels") or {}), **labels}}
        spec["template"]["metadata"]["labels"] |= labels
        obj = _everywhere(obj, ("labelSelector",), lambda found: self._own(found, plain), ("template",))
        for kind, holder, key in references(obj["spec"]["template"]):
            if (kind, holder.get(key)) in self._config:
                holder[key] = f"{holder[key]}-{by.colour}"
        if plain["metadata"]["name"] in by.replicas:
            obj["spec"]["replicas"] = by.replicas[plain["metadata"]["name"]]
        return obj

    def _own(self, selector: Object, plain: Object) -> Object:
        """Pods spread and keep apart within their colour."""
        return (
            selectors.narrowed(selector, self._by.labels(plain))
            if self._follows(selector, plain)
            else self._wide(selector)
        )

    def _split(self, obj: Object, where: str) -> list[Object]:
        """A budget or policy of each Deployment that it selects; itself when it selects others, or none of ours."""
        found = []
        selector = obj["spec"].get(where)
        ours = [one for one in self._by.deployments if self._follows(selector, one)]
        if any(selectors.matches(selector, {**labels_of(one), **self._by.labels(one)}) for one in ours):
            return [obj]  # any value will do for it: it goes for both colours
        seen: list[Object] = []
        for one in ours:
            narrow = selectors.narrowed(selector, self._by.labels(one))
            if narrow not in seen:
                seen.append(narrow)
                mine = self._named(obj, str(len(seen)) if len(seen) > 1 else "")
                found.append({**mine, "spec": {**mine["spec"], where: narrow}})
        others = [o for o in self._objects if o["kind"] in PODS and not self._by.of(o)]
        if not found or any(selectors.matches(selector, labels_of(one)) for one in others):
            found.append(obj)
        return found

    def _moved(self, obj: Object) -> Object:
        """A Service or autoscaler that leads to the new colour; anything else as it is."""
        by, spec = self._by, obj.get("spec") or {}
        if obj["kind"] == "Service":
            chosen = spec.get("selector") or {}
            for one in led_to(obj, by.deployments):
                chosen = {**chosen, **{k: v for k, v in by.labels(one).items() if k in chosen}}
            return {**obj, "spec": {**spec, "selector": chosen}} if chosen else obj
        if scaled(obj) not in {one["metadata"]["name"] for one in by.deployments}:
            return obj
        name = "scaleTargetRef" if "scaleTargetRef" in spec else "targetRef"
        return {**obj, "spec": {**spec, name: {**spec[name], "name": f"{spec[name]['name']}-{by.colour}"}}}

    def _named(self, plain: Object, suffix: str = "") -> Object:
        obj = copy.deepcopy(plain)
        meta = obj["metadata"]
        meta["labels"] = {**(meta.get("labels") or {}), COLOUR: self._by.colour}
        meta["annotations"] = {**(meta.get("annotations") or {}), BASE: meta["name"]}
        meta["name"] = f"{meta['name']}-{self._by.colour}{suffix}"
        return obj

    def _follows(self, selector: Object | None, plain: Object) -> bool:
        """Whether a selector matches a Deployment's plain pods by one of the labels that change."""
        marks = selectors.keys_of(selector) & set(self._by.labels(plain))
        return bool(marks) and selectors.matches(selector, labels_of(plain))

    def _wide(self, selector: Object) -> Object:
        """The selector with both colours of every Deployment that it matches."""
        for one in self._by.deployments:
            if self._follows(selector, one):
                selector = selectors.widened(selector, self._by.all_labels(one))
        return selector

    def _is_used_elsewhere(self, config: Object) -> bool:
        """Whether anything but the coloured pods names a config map or secret (an Ingress, a job, an operator)."""
        name = config["metadata"]["name"]
        others = [o for o in self._objects if not self._by.of(o) and o["kind"] not in (*_CONFIG, "Service")]
        return any(_says(o.get("spec"), name) or _says(o.get("imagePullSecrets"), name) for o in others)


def _everywhere(obj: Object, names: Sequence[str], change: Callable[[Object], Object], below: Sequence[str]) -> Object:
    """The object with each dictionary of one of these names changed, in these parts of its spec."""

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        return {k: change(v) if k in names and isinstance(v, dict) else walk(v) for k, v in value.items()}

    spec = obj.get("spec") or {}
    return {**obj, "spec": {**spec, **{name: walk(spec[name]) for name in below if name in spec}}}


def _says(value: Any, name: str) -> bool:
    """Whether a text in it is exactly this name, as a value of a field that names something."""
    if isinstance(value, dict):
        return any(_says(inner, name) for inner in value.values())
    if isinstance(value, list):
        return any(_says(inner, name) for inner in value)
    return bool(value == name)
