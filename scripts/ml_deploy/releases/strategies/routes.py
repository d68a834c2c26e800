"""A canary's share of the traffic as weights of a Gateway API HTTPRoute. Pure functions over the live route.

Each rule that leads to the app's Service gets a sibling backend, `<service>-canary`; the proportions of other
backends stay. Two rules in front, matched by the header `x-ml-deploy-track`, lead to one version alone: by them the
versions are asked at the edge, and a header in their answers says which edit the gateway works with by now. What the
rules were before is kept in an annotation, so that any later run can put them back.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ml_deploy.checks.http import Request
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.strategies import edge
from ml_deploy.releases.strategies.canary_objects import name_of

KIND = "HTTPRoute"
NOTE = "ml-deploy/canary"
#: Request header that asks for one version: `canary` or `stable`.
TRACK = "x-ml-deploy-track"
#: Header of the answers to such requests: the edit that the gateway works with.
EDIT = "x-ml-deploy-edit"
CANARY, STABLE = "canary", "stable"

Rule = dict[str, Any]


class Edit(NamedTuple):
    """What a route is to say: an app's share for its canary in percent, and a word that tells this edit from others.

    request: what will be asked at the edge; only the rule that takes it gets the two rules in front.
    away:    even who asks for the canary gets the stable version: the canary is about to go.
    """

    app: str
    service: str
    share: int
    word: str
    request: Request
    away: bool = False


def leads_to(route: Object, service: str) -> bool:
    """Whether some rule of a route sends traffic to a Service of the route's own namespace."""
    return any(_live(ref, service, route) for rule in _rules(route) for ref in rule.get("backendRefs") or [])


def edited(route: Object, edit: Edit) -> Object:
    """A merge patch that makes a live route say what `edit` says, whatever an earlier edit made it say."""
    before = original(route)
    note = {"app": edit.app, "service": edit.service, "share": edit.share, "rules": before}
    return _patch(route, weighed(before, edit, route), json.dumps(note, separators=(",", ":")))


def undone(route: Object) -> Object | None:
    """A merge patch that takes all edits out of a live route; None when there are none."""
    return _patch(route, original(route), None) if is_edited(route) else None


def is_edited(route: Object) -> bool:
    """Whether a route bears an edit of ours."""
    return NOTE in (route["metadata"].get("annotations") or {})


def edited_for(route: Object) -> tuple[str, str]:
    """The app and the Service whose canary has a share on this route by now; empty when none has."""
    note = json.loads((route["metadata"].get("annotations") or {}).get(NOTE, "{}"))
    return str(note.get("app", "")), str(note.get("service", ""))


def original(route: Object) -> list[Rule]:
    """The rules of a live route without our edits; rules that others changed meanwhile stay changed."""
    rules = copy.deepcopy(_rules(route))
    if not is_edited(route):
        return rules
    note = json.loads(route["metadata"]["annotations"][NOTE])
    before: list[Rule] = note["rules"]
    stripped = list(_stripped(rules, note["service"]))
    return before if _unweighed(before) == _unweighed(stripped) else stripped


def weighed(rules: Sequence[Rule], edit: Edit, route: Object) -> list[Rule]:
    """Rules with the canary's share, and the rules in front by which each version is asked alone."""
    front: list[Rule] = []
    way = edge.way(rules, edit.request, lambda ref: _live(ref, edit.service, route))
    if way:
        taken = rules[way.rule]
        front = [_alone(taken, edit, route, track) for track in (CANARY, STABLE)]
    return [*front, *(_weighed(rule, edit, route) for rule in rules)]


def _weighed(rule: Rule, edit: Edit, route: Object) -> Rule:
    """One rule with the canary's share of what went to the Service."""
    refs = rule.get("backendRefs") or []
    ours = [ref for ref in refs if _live(ref, edit.service, route)]
    if not ours or not edit.share:
        return rule
    if len(refs) == 1:
        stable, canary = {**ours[0], "weight": 100 - edit.share}, _sibling(ours[0], edit.share)
        return {**rule, "backendRefs": [stable, canary]}
    factor = math.lcm(*(100 // math.gcd(_weight(ref) * edit.share, 100) for ref in ours))
    shared: list[Object] = []
    for ref in refs:
        whole = _weight(ref) * factor
        if ref in ours:
            part = whole * edit.share // 100
            shared += [{**ref, "weight": whole - part}, _sibling(ref, part)]
        else:
            shared.append({**ref, "weight": whole})
    return {**rule, "backendRefs": shared}


def _alone(rule: Rule, edit: Edit, route: Object, track: str) -> Rule:
    """A copy of a rule for requests that ask for one version."""
    ref = next(ref for ref in rule["backendRefs"] if _live(ref, edit.service, route))
    alone = _sibling(ref, 1) if track == CANARY and not edit.away else {**ref, "weight": 1}
    asked = {"type": "Exact", "name": TRACK, "value": track}
    said = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": EDIT, "value": edit.word}]}}
    matches = rule.get("matches") or [{"path": {"type": "PathPrefix", "value": "/"}}]
    kept = [one for one in rule.get("filters") or [] if one.get("type") != "ResponseHeaderModifier"]
    return {
        **{name: value for name, value in rule.items() if name != "name"},
        "matches": [{**match, "headers": [*(match.get("headers") or []), asked]} for match in matches],
        "filters": [*kept, said],
        "backendRefs": [alone],
    }


def _sibling(ref: Object, weight: int) -> Object:
    return {**ref, "name": name_of(ref["name"]), "weight": weight}


def _stripped(rules: Sequence[Rule], service: str) -> Iterator[Rule]:
    """Rules without those in front, and without the canary among the backends."""
    for rule in rules:
        asked = [h.get("name", "").lower() for match in rule.get("matches") or [] for h in match.get("headers") or []]
        if TRACK in asked:
            continue
        refs = rule.get("backendRefs") or []
        kept = [ref for ref in refs if ref.get("name") != name_of(service)]
        yield {**rule, "backendRefs": kept} if len(kept) < len(refs) else rule


def _unweighed(rules: Sequence[Rule]) -> list[Rule]:
    """Rules for comparison, without weights."""
    return [
        {
            **rule,
            "backendRefs": [{k: v for k, v in ref.items() if k != "weight"} for ref in rule.get("backendRefs") or []],
        }
        for rule in rules
    ]


def _patch(route: Object, rules: list[Rule], note: str | None) -> Object:
    meta = {"resourceVersion": route["metadata"]["resourceVersion"], "annotations": {NOTE: note}}
    return {"metadata": meta, "spec": {"rules": rules}}


def _rules(route: Object) -> list[Rule]:
    return list((route.get("spec") or {}).get("rules") or [])


def _live(ref: Object, service: str, route: Object) -> bool:
    """Whether a backend is this Service, in the route's namespace, and gets traffic at all."""
    at_home = ref.get("namespace") in (None, "", (route["metadata"]).get("namespace"))
    a_service = ref.get("kind", "Service") == "Service" and not ref.get("group")
    return bool(ref.get("name") == service and at_home and a_service and _weight(ref) > 0)


def _weight(ref: Object) -> int:
    weight = ref.get("weight")
    return 1 if weight is None else int(weight)
