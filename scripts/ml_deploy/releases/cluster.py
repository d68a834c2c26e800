"""What releases need of a Kubernetes API server, as a protocol over plain dictionaries.

Objects stay what their authors wrote, dictionaries from file to server and back: typed
models drop the fields that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Object = dict[str, Any]

FIELD_MANAGER = "ml-deploy"
_LAST_WORDS = 15.0  # seconds


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach a cluster: a kubeconfig (path or text), or AKS by name through ARM."""

    kubeconfig: str = field(default="", repr=False)
    context: str = ""
    namespace: str = ""
    subscription_id: str = ""
    resource_group: str = ""
    cluster_name: str = ""
    client_id: str = ""
    tenant_id: str = ""
    client_secret: str = field(default="", repr=False)


class Ref(NamedTuple):
    """One object's address. `namespace` is empty for what is cluster-scoped."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{where}"


@dataclass(frozen=True)
class Kind:
    """A kind as discovery tells it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ()
    has_status: bool = False


@dataclass(frozen=True)
class Applied:
    """An object as the server has it after a write, with the server's warnings; `live` before it, where that was read."""

    object: Object
    warnings: tuple[str, ...] = ()
    live: Object | None = None


@dataclass(frozen=True)
class Event:
    """One event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class WatchOf(NamedTuple):
    """What one watch is about: a kind in a namespace, by name or label selector."""

    api_version: str
    kind: str
    namespace: str
    name: str = ""
    selector: str = ""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that came through the API server's proxy."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def hurried(cluster: Cluster, seconds: float = 2.0) -> Iterator[None]:
    """Little patience for a while: for tidying up, which must not keep a cancelled job from ending."""
    before = cluster.patience
    cluster.patience = min(before, seconds)
    try:
        yield
    finally:
        cluster.patience = before


def patient_for(cluster: Cluster, seconds: float) -> None:
    """Ride out trouble until a deadline that is so far away; and then for as long as it takes to note what came of it."""
    cluster.patience = max(seconds, _LAST_WORDS)


class ApiError(Exception):
    """The API server refused a request; `code` is the HTTP status, `reason` Kubernetes' own word for it.

    Adapters raise the errors of `ml_deploy.errors` where no caller can do anything about it
    (Unreachable, AuthFailed, and Forbidden for a missing right) and this one where a caller may:
    400, 404, 409, 410, 422, and 403 when admission or a quota refused.
    """

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})


class Cluster(Protocol):
    """A connection to one API server. Each request rides out temporary trouble for `patience` seconds."""

    server: str
    namespace: str
    patience: float

    def guard_writes(self, guard: Callable[[], None]) -> None:
        """Call `guard` before each attempt to write from now on, retries included; it stops them by raising."""

    def version(self) -> str:
        """The server's version, such as v1.33.2."""

    def api_versions(self) -> Sequence[str]:
        """Every `group/version` and `group/version/Kind` of the cluster's discovery."""

    def kind(self, api_version: str, kind: str) -> Kind | None:
        """Discovery, cached; None when the cluster does not know the kind."""

    def get(self, ref: Ref) -> Object | None:
        """The object, or None when there is none."""

    def list(
        self, api_version: str, kind: str, namespace: str, *, selector: str = "", fields: str = "",
        keep: Callable[[Object], Object] | None = None, most: int = 0,
    ) -> list[Object]:  # fmt: skip
        """Objects of a kind, by label selector and field selector, with apiVersion and kind set on each.

        keep: what to keep of each, applied as they come, where there may be thousands. most: how many are enough.
        """

    def create(self, obj: Object, *, dry_run: bool = False) -> Applied:
        """POST. Raises ApiError 409 (AlreadyExists) when it is there."""

    def apply(self, obj: Object, *, dry_run: bool = False, force: bool = False) -> Applied:
        """Server-side apply with field manager `ml-deploy`. Raises ApiError 409 on conflicts unless forced."""

    def replace(self, obj: Object, *, dry_run: bool = False) -> Applied:
        """PUT, guarded by metadata.resourceVersion. Raises ApiError 409 when it has changed."""

    def patch(
        self, ref: Ref, patch: Any, *, style: str = "merge", dry_run: bool = False, subresource: str = ""
    ) -> Applied:
        """PATCH; style is merge or json."""

    def delete(self, ref: Ref, *, uid: str = "", propagation: str = "Background", grace: int | None = None) -> bool:
        """DELETE, guarded by uid when given; False when there was nothing to delete.

        grace: seconds, instead of the object's own. Raises ApiError 409 when another object bears the name.
        """

    def watch(
        self, api_version: str, kind: str, namespace: str, *, name: str = "", selector: str = "", seconds: float
    ) -> Iterator[Event | None]:
        """The present objects as ADDED, then changes, for `seconds`; cut watches and 410 are healed inside.

        Yields None at least once a second, so that the caller can look at its clock. Close it to stop it.
        """

    def watch_all(self, of: Sequence[WatchOf], *, seconds: float) -> Iterator[Event | None]:
        """Several watches as one stream, in the order the events come in."""

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool = False, tail: int = 20) -> str:
        """The last lines of a container's log; an empty string when there are none."""

    def ask(
        self, namespace: str, target: str, method: str, path: str, *,
        body: bytes | None = None, headers: Mapping[str, str] | None = None, seconds: float = 10.0,
    ) -> Answer:  # fmt: skip
        """HTTP through the API server's proxy; target is `pods/NAME:PORT` or `services/NAME:PORT`.

        What the API server itself says of a target that does not answer is an Answer of 502 or 503 too. Raises
        ApiError 504 when no answer came within `seconds`.
        """

    def allowed(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> bool:
        """A SelfSubjectAccessReview."""
