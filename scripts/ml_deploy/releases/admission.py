"""Would the cluster admit the pods? A Deployment is accepted though its pods are not, and then nothing ever starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ml_deploy.errors import Forbidden, ManifestError, MlDeployError
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.sources.manifests import Manifest, is_workload, lone_spec, template_of

_MARK = "ml-deploy-dry-run"


@dataclass(frozen=True)
class Admitted:
    """What the server said of one workload's pods: a problem, or what may become one; `pod` as it would admit one."""

    problem: MlDeployError | None = None
    warning: str = ""
    title: str = ""
    pod: Object | None = None


def check(cluster: Cluster, manifests: Sequence[Manifest]) -> list[Admitted]:
    """Dry-run one pod of each template; what depends on objects of the same release is no problem."""
    made = {(one.object["kind"], one.object["metadata"]["name"]) for one in manifests}
    found = []
    for one in manifests:
        if is_workload(one.object) and (pod := _pod(one.object, cluster.namespace)):
            try:
                done = cluster.create(pod, dry_run=True)
                found.append(Admitted(warning=_warnings(one, done.warnings), title=one.title, pod=done.object))
            except Forbidden:
                return []  # whether pods would be admitted is asked only where we may create them
            except ApiError as error:
                found.append(_refused(one, error, made))
    return found


def _pod(workload: Object, namespace: str) -> Object | None:
    template = template_of(workload)
    if template is None:
        return None
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1", "kind": "Pod", "spec": lone_spec(workload),
        "metadata": {
            "name": f"{workload['metadata']['name'][:200]}-{_MARK}", "labels": meta.get("labels") or {},
            "annotations": meta.get("annotations") or {},
            "namespace": workload["metadata"].get("namespace") or namespace,
        },
    }  # fmt: skip


def _warnings(one: Manifest, warnings: Sequence[str]) -> str:
    return f"{one.title}: {'; '.join(warnings)}" if warnings else ""


def _refused(one: Manifest, error: ApiError, made: set[tuple[str, str]]) -> Admitted:
    message = error.message
    account = re.search(r'service ?account (?:"|\S*/)([^":]+)"?:? ?.*not found', message)
    if account and ("ServiceAccount", account[1]) in made:
        return Admitted()
    if error.code == 404 and message.startswith("namespaces "):
        return Admitted()  # told of already, or made by this release
    if "exceeded quota" in message:  # pods of the version before may make room
        return Admitted(warning=f"{one.title}: the quota may not allow its pods: {_cut(message)}")
    if error.code in (400, 403, 404, 422):
        return Admitted(ManifestError(
            f"{one.title} ({one.place}): its pods would be refused: {_cut(message)}", hint=_hint(message),
            file=one.file, line=one.line,
        ))  # fmt: skip
    return Admitted(warning=f"{one.title}: nobody knows whether its pods are admitted: {_cut(message)}")


def _hint(message: str) -> str:
    if "violates PodSecurity" in message:
        return "Give the pod template the security context that the message names; the namespace's labels demand it."
    if "serviceaccount" in message.lower():
        return "Create the service account first, or put it into the manifests."
    return "Change what the message names in the pod template."


def _cut(message: str) -> str:
    return re.sub(r'^pods? "[^"]*" is (forbidden|invalid): ', "", message, flags=re.IGNORECASE)
