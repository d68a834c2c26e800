"""The rules of roles, as the API server lists those that apply to us."""

from __future__ import annotations

from ml_deploy.releases.cluster import Object


def grants(rule: Object, verb: str, group: str, resource: str, name: str) -> bool:
    """Whether one rule of a role allows it."""

    def has(key: str, wanted: str) -> bool:
        return bool({"*", wanted} & set(rule.get(key) or ()))

    names = rule.get("resourceNames") or []
    anywhere = f"*/{resource.partition('/')[2]}" if "/" in resource else resource
    return (
        has("verbs", verb) and has("apiGroups", group) and (has("resources", resource) or has("resources", anywhere))
        and (not names or name in names)
    )  # fmt: skip
