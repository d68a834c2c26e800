"""Many objects, few requests: what is live is listed once per kind instead of being asked for one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

from ml_deploy.errors import Forbidden
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.sources.manifests import rank

_MANY = 20  # objects of one kind that make a list cheaper than asking for each
_AT_ONCE = 6  # requests in flight
T = TypeVar("T")


def listed(cluster: Cluster, objects: Sequence[Object]) -> Cluster:
    """The cluster, with the first `get` of each object answered from lists where there are many of a kind."""
    refs = [ref_of(obj, cluster.namespace) for obj in objects]
    many = (
        {ref[:3] for ref in refs if sum(other[:3] == ref[:3] for other in refs) >= _MANY}
        if len(refs) >= _MANY
        else set()
    )
    return cast(Cluster, _Listed(cluster, many, refs)) if many else cluster


class _Listed:
    """A cluster with a memory that answers once: who asks again wants to know what is there now."""

    def __init__(self, cluster: Cluster, kinds: set[tuple[str, str, str]], refs: Sequence[Ref]) -> None:
        self._cluster, self._kinds, self._refs = cluster, set(kinds), refs
        self._known: dict[Ref, Object | None] = {}
        self._lock = threading.Lock()

    def get(self, ref: Ref) -> Object | None:
        """From the list the first time, from the server after that."""
        with self._lock:
            if ref[:3] in self._kinds:
                self._kinds.remove(ref[:3])
                self._list(ref[:3])
            if ref in self._known:
                return self._known.pop(ref)
        return self._cluster.get(ref)

    def _list(self, where: tuple[str, str, str]) -> None:
        try:
            live = {one["metadata"]["name"]: one for one in self._cluster.list(*where)}
        except (ApiError, Forbidden):
            return  # we may get but not list: then each is asked for
        self._known.update({ref: live.get(ref.name) for ref in self._refs if ref[:3] == where})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)


def in_order(objects: Sequence[Object], work: Callable[[Object], T]) -> Iterator[T]:
    """The work on each object, in their order; several at a time where many stand on the same rank."""
    for _, group in groupby(objects, key=lambda obj: rank(obj["kind"])):
        same = list(group)
        if len(same) < _MANY:
            yield from map(work, same)
            continue
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            yield from pool.map(work, same)
        finally:
            pool.shutdown(cancel_futures=True)
