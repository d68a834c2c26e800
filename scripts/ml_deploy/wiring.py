"""The real adapters behind what commands are handed; every SDK is imported on first use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job

if TYPE_CHECKING:
    from ml_deploy.adapters.azure import Azure
    from ml_deploy.checks.http import Endpoint, EndpointAccess
    from ml_deploy.images.engine import Engine
    from ml_deploy.images.registry import Registry, RegistryAccess
    from ml_deploy.models.manifests import Signatures
    from ml_deploy.releases.cluster import Cluster, ClusterAccess
    from ml_deploy.releases.sources.rendering import Renderer


class Wiring:
    """Satisfies `ml_deploy.commands.ports.Adapters`."""

    def __init__(self, console: Console, job: Job) -> None:
        self.console = console
        self.job = job
        self.clock = time

    def cluster(self, access: ClusterAccess) -> Cluster:
        """A connection to the cluster that `access` names."""
        from ml_deploy.adapters.cluster import connect

        return connect(access, lambda: self._azure_for(access), self.console.mask)

    def endpoint(self, access: EndpointAccess) -> Endpoint:
        """An HTTP endpoint."""
        from ml_deploy.adapters.http import HttpEndpoint

        return HttpEndpoint(access)

    def engine(self) -> Engine:
        """The container engine of this job."""
        from ml_deploy.adapters.engine import DockerEngine

        return DockerEngine(self.job.temp)

    def renderer(self) -> Renderer:
        """The tools that render charts and kustomizations, run in the workspace."""
        from ml_deploy.adapters.tools import Tools

        return Tools(self.job.workspace, self.console.line, lambda: self.job.temp)

    def signatures(self) -> Signatures:
        """Verifies signatures of models."""
        from ml_deploy.adapters.signatures import ModelSigning

        return ModelSigning(self.job.temp)

    def registry(self, access: RegistryAccess) -> Registry:
        """A registry, signed in to on first use."""
        from ml_deploy.adapters.registry import HttpRegistry

        log = (lambda _line: None) if access.reading else self.console.line
        return HttpRegistry(access, lambda: self._azure_for(access), log)

    def _azure_for(self, access: ClusterAccess | RegistryAccess) -> Azure:
        from ml_deploy.adapters.azure import Azure

        return Azure(
            client_id=access.client_id, tenant_id=access.tenant_id, subscription_id=access.subscription_id,
            client_secret=access.client_secret, assertion=self.job.oidc_token,
            folder=lambda: self.job.temp / "azure",
        )  # fmt: skip
