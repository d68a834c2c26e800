"""What a deployment would change, as a unified diff of YAML that a person can read; values of secrets are masked."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from typing import Any

from ml_deploy.releases.cluster import Object

_OF_THE_SERVER = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
_NOISE = ("kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision")
_OURS = "ml-deploy/"
_CONTEXT = 3


def diff(pairs: Iterable[tuple[Object | None, Object | None]]) -> str:
    """The differences between each live object (None: there is none yet) and what it would become (None: removed).

    Empty when there are none.
    """
    parts = []
    for before, after in pairs:
        old, new = masked(before, after)
        lines = difflib.unified_diff(
            render(old).splitlines() if old else [], render(new).splitlines() if new else [],
            _titled("live", old), _titled("new", new), lineterm="", n=_CONTEXT,
        )  # fmt: skip
        parts += list(lines)
    return "\n".join(parts)


def _titled(which: str, obj: Object | None) -> str:
    return f"{which}/{obj['kind']}/{obj['metadata']['name']}" if obj else "/dev/null"


def render(obj: Object) -> str:
    """The object as YAML, without what the server keeps for itself."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(readable(obj), Dumper=dumper, sort_keys=False, default_flow_style=False, width=120))


def readable(obj: Object) -> Object:
    """A copy without status, what the server keeps for itself, and our notes of commit and run."""
    obj = copy.deepcopy(obj)
    obj.pop("status", None)
    meta = obj.get("metadata") or {}
    for name in _OF_THE_SERVER:
        meta.pop(name, None)
    notes = {
        k: v for k, v in (meta.pop("annotations", None) or {}).items() if k not in _NOISE and not k.startswith(_OURS)
    }
    if notes:
        meta["annotations"] = notes
    first: Object = {k: obj.pop(k) for k in ("apiVersion", "kind", "metadata") if k in obj}
    return {**first, **obj}


def masked(before: Object | None, after: Object | None) -> tuple[Object | None, Object | None]:
    """Both, with every value of a Secret replaced; a changed value is told from an unchanged one, no more."""
    if (after or before or {}).get("kind") != "Secret":
        return before, after
    old, new = copy.deepcopy(before), copy.deepcopy(after)
    for section in ("data", "stringData"):
        for one in (old, new):
            if one and section in one and not isinstance(one[section], dict):
                one[section] = "***"  # malformed, and secret all the same
        olds, news = _section(old, section), _section(new, section)
        for key in {*olds, *news}:
            same = key in olds and key in news and olds[key] == news[key]
            if key in olds:
                olds[key] = "*** (unchanged)" if same else "*** (before)"
            if key in news:
                news[key] = "*** (unchanged)" if same else "*** (new)"
    return old, new


def _section(obj: Object | None, name: str) -> dict[str, Any]:
    section = (obj or {}).get(name)
    return section if isinstance(section, dict) else {}
