"""Inputs and outputs that several commands share, so that one thing has one name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_deploy.releases.cluster import ClusterAccess
from ml_deploy.runtime.fields import duration, output, secret, text

if TYPE_CHECKING:
    from ml_deploy.commands.ports import Adapters
    from ml_deploy.images.registry import RegistryAccess


@dataclass(frozen=True, kw_only=True)
class AzureInputs:
    """Signing in to Azure. With OIDC (`client-id` and `tenant-id`) no secret is stored."""

    client_id: str = text("Application (client) ID of the identity to sign in with.")
    tenant_id: str = text("Directory (tenant) ID.")
    subscription_id: str = text("Subscription ID.")
    client_secret: str = secret(
        "Client secret. Leave unset to sign in with GitHub's OIDC token, which needs `permissions: id-token: write`."
    )

    def reading(self, registry: str) -> RegistryAccess:
        """This identity at a registry that is only read."""
        from ml_deploy.images.registry import RegistryAccess

        return RegistryAccess(
            registry=registry, client_id=self.client_id, tenant_id=self.tenant_id, reading=True,
            subscription_id=self.subscription_id, client_secret=self.client_secret,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClusterInputs(AzureInputs):
    """Reaching a cluster: AKS by name, or any cluster by kubeconfig."""

    resource_group: str = text("Resource group of the AKS cluster.")
    cluster_name: str = text("Name of the AKS cluster.")
    kubeconfig: str = secret(
        "A kubeconfig (path or text), instead of `resource-group` and `cluster-name`.", masked=False
    )
    kube_context: str = text("Context of the kubeconfig. Default: its current one.")
    namespace: str = text("Namespace. Default: the kubeconfig's, else `default`.")
    timeout: float = duration("How long the whole step may take.", default="10m")

    def access(self) -> ClusterAccess:
        """The part of the inputs that says how to reach the cluster."""
        return ClusterAccess(
            kubeconfig=self.kubeconfig, context=self.kube_context, namespace=self.namespace,
            subscription_id=self.subscription_id, resource_group=self.resource_group, cluster_name=self.cluster_name,
            client_id=self.client_id, tenant_id=self.tenant_id, client_secret=self.client_secret,
        )  # fmt: skip


def cluster_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """What does not go together among the cluster's inputs."""
    aks = [name for name in ("resource-group", "cluster-name") if name in given]
    if "kubeconfig" in given and aks:
        yield f"`kubeconfig` and `{aks[0]}` name two clusters: give one of them"
    elif len(aks) == 1:
        other = {"resource-group": "cluster-name", "cluster-name": "resource-group"}[aks[0]]
        yield f"`{other}` is missing: an AKS cluster is named by `resource-group` and `cluster-name` together"
    yield from azure_contradictions(given)


def azure_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """What does not go together among the sign-in's inputs."""
    for one, other in (("client-id", "tenant-id"), ("tenant-id", "client-id"), ("client-secret", "client-id")):
        if one in given and other not in given:
            yield f"`{other}` is missing: `{one}` needs it"


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What every command gives back. The output `reason` is set by the error boundary."""

    report: str = output("Path of the JSON report; it outlives the step.")

    def summary(self) -> str:
        """Markdown for the job summary."""
        raise NotImplementedError


def write_report(adapters: Adapters, name: str, facts: Mapping[str, Any]) -> str:
    """Write a JSON report that outlives the step, and return its path.

    Secrets are taken out: it may be uploaded, where nobody masks them.
    """

    def redacted(value: Any) -> Any:
        if isinstance(value, str):
            return adapters.console.redact(value)
        if isinstance(value, Mapping):
            return {key: redacted(inner) for key, inner in value.items()}
        return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value

    return str(adapters.job.report(f"{name}.json", json.dumps(redacted(facts), indent=2) + "\n"))
