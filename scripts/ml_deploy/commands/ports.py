"""What a command is handed: protocols only, wired to the real things by `wiring.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # no command imports what only another one needs
    from ml_deploy.checks.http import Endpoint, EndpointAccess
    from ml_deploy.images.engine import Engine
    from ml_deploy.images.registry import Registry, RegistryAccess
    from ml_deploy.models.manifests import Signatures
    from ml_deploy.releases.cluster import Cluster, ClusterAccess
    from ml_deploy.releases.sources.rendering import Renderer
    from ml_deploy.runtime.console import Console
    from ml_deploy.runtime.github import Job


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Adapters(Protocol):
    """Everything outside that a command may use. Methods connect lazily, on their first call."""

    console: Console
    job: Job
    clock: Clock

    def cluster(self, access: ClusterAccess) -> Cluster:
        """Connect to a cluster. Raises AuthFailed, Forbidden, Unreachable or InputError."""

    def endpoint(self, access: EndpointAccess) -> Endpoint:
        """An HTTP endpoint. Nothing is sent yet. Raises InputError for an address or CA that cannot be used."""

    def registry(self, access: RegistryAccess) -> Registry:
        """A registry; nobody is asked before its first method. Raises AuthFailed, Forbidden, Unreachable."""

    def engine(self) -> Engine:
        """The container engine. Nothing is asked yet; its methods raise EngineUnavailable when none answers."""

    def signatures(self) -> Signatures:
        """Verifies signatures of models. Nothing is imported before its first method."""

    def renderer(self) -> Renderer:
        """The tools that render charts and kustomizations, run in the workspace. None is looked for yet."""
