"""What an API server tells of the kinds that it knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ml_deploy.releases.cluster import Kind, Object

#: Asks for all groups with their kinds in one answer; servers before 1.27 answer with groups and versions only.
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def versions(found: Object) -> Iterator[str]:
    """Every `group/version` in an answer of `/api` or `/apis`, and where it tells kinds, `group/version/Kind`."""
    yield from found.get("versions") or []  # of the core group
    for group in found.get("groups") or []:
        yield from (one["groupVersion"] for one in group["versions"])
    for group in found.get("items") or []:
        name = group["metadata"].get("name") or ""
        for version in group["versions"]:
            full = f"{name}/{version['version']}" if name else version["version"]
            yield full
            kinds = [one.get("responseKind") or {} for one in version.get("resources") or []]
            yield from (f"{full}/{kind['kind']}" for kind in kinds if kind.get("kind"))


def kinds(api_version: str, resources: Sequence[Object]) -> list[Kind]:
    """The kinds of one group and version, from the resources and subresources that it has."""
    names = {resource["name"] for resource in resources}
    return [
        Kind(api_version, one["kind"], one["name"], bool(one["namespaced"]), tuple(one.get("verbs") or ()),
             has_status=f"{one['name']}/status" in names)
        for one in resources if "/" not in one["name"]
    ]  # fmt: skip
