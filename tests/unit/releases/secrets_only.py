"""A namespace in which records can be kept."""

from __future__ import annotations

from typing import Any

from ml_deploy.releases.cluster import ApiError, Applied, Object, Ref


class Secrets:
    """A namespace of Secrets, which can be created, merged into and deleted."""

    def __init__(self) -> None:
        self.there: dict[str, Object] = {}

    def get(self, ref: Ref) -> Object | None:
        return self.there.get(ref.name)

    def list(self, api_version: str, kind: str, namespace: str, *, selector: str) -> list[Object]:
        wanted = dict(one.partition("=")[::2] for one in selector.split(","))
        return [one for one in self.there.values() if wanted.items() <= (one["metadata"].get("labels") or {}).items()]

    def create(self, obj: Object) -> Applied:
        if obj["metadata"]["name"] in self.there:
            raise ApiError(409, "AlreadyExists", "exists")
        made = {**obj, "metadata": {**obj["metadata"], "resourceVersion": "1", "uid": "u"}}
        return Applied(self.there.setdefault(obj["metadata"]["name"], made))

    def patch(self, ref: Ref, patch: Any) -> Applied:
        one = self.there[ref.name]
        for part, values in patch["metadata"].items():
            one["metadata"][part] = {**one["metadata"][part], **values} if isinstance(values, dict) else values
        one["data"] |= patch.get("data", {})
        return Applied(one)

    def delete(self, ref: Ref) -> bool:
        return self.there.pop(ref.name, None) is not None
