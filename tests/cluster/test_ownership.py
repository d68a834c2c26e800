"""Whose fields are whose, on a real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.apps import config, web

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.errors import Conflict
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.ownership import LAST_APPLIED, Applier

pytestmark = pytest.mark.real_kubernetes

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(kubeconfig: str, namespace: str, kubectl_path: str) -> Kubectl:
    def run(*arguments: str, stdin: Object | None = None) -> str:
        done = subprocess.run(
            [kubectl_path, "--kubeconfig", kubeconfig, "-n", namespace, *arguments],
            input=json.dumps(stdin) if stdin else None, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def applier(cluster: ApiServer, *objects: Object, said: list[str] | None = None, adopt: bool = False) -> Applier:
    return Applier(cluster, "web", objects, tell=(said if said is not None else []).append, adopt=adopt)


def live(cluster: ApiServer, kind: str, name: str) -> Any:
    api_version = {"Deployment": "apps/v1"}.get(kind, "v1")
    found = cluster.get(Ref(api_version, kind, cluster.namespace, name))
    assert found
    return found


def deployment() -> Object:
    """A Deployment that starts no pods."""
    return web("registry.invalid/none:1", replicas=0)


@pytest.mark.parametrize("how", [["apply", "-f", "-"], ["create", "-f", "-"], ["apply", "--server-side", "-f", "-"]])
def test_what_kubectl_owned_goes_when_the_manifest_drops_it(
    cluster: ApiServer, kubectl: Kubectl, how: list[str]
) -> None:
    before = deployment()
    before["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "OLD", "value": "1"})
    before["metadata"]["annotations"] = {"old": "yes"}
    kubectl(*how, stdin=before)
    said: list[str] = []
    applier(cluster, said=said).apply(deployment())
    now = live(cluster, "Deployment", "web")
    assert [e["name"] for e in now["spec"]["template"]["spec"]["containers"][0]["env"]] == ["BODY"]
    assert "old" not in now["metadata"].get("annotations", {})
    assert LAST_APPLIED not in now["metadata"].get("annotations", {})
    assert any("was applied with kubectl until now" in line for line in said)
    said.clear()
    applier(cluster, said=said).apply(deployment())
    assert said == [], "the second meeting has nothing to say"


def test_conflicts_are_forced_over_kubectl_and_said(cluster: ApiServer, kubectl: Kubectl) -> None:
    applier(cluster).apply(config("c", x="1"))
    kubectl("patch", "configmap", "c", "-p", '{"data":{"x":"by hand"}}')
    said: list[str] = []
    applier(cluster, said=said).apply(config("c", x="2"))
    assert live(cluster, "ConfigMap", "c")["data"] == {"x": "2"}
    assert said and ".data.x" in said[0] and "kubectl-patch" in said[0]


def test_others_are_a_conflict_that_names_them_unless_adopted(cluster: ApiServer, kubectl: Kubectl) -> None:
    applier(cluster).apply(config("c", x="1"))
    kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=terraform", "-f", "-", stdin=config("c", x="9")
    )
    with pytest.raises(Conflict, match=r"terraform set \.data\.x"):
        applier(cluster).apply(config("c", x="2"))
    applier(cluster, adopt=True).apply(config("c", x="2"))
    assert live(cluster, "ConfigMap", "c")["data"] == {"x": "2"}


@pytest.mark.parametrize(
    ("meta", "owner"),
    [
        ({"annotations": {"meta.helm.sh/release-name": "shop"}}, "Helm release shop"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:x/web"}}, "Argo CD application shop"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}, "Flux kustomization shop"),
        ({"labels": {"ml-deploy/app": "shop"}}, "ml-deploy app shop"),
    ],
)
def test_objects_of_others_are_left_alone(cluster: ApiServer, meta: dict[str, Any], owner: str) -> None:
    theirs = config("c", x="1")
    theirs["metadata"] |= meta
    cluster.create(theirs)
    with pytest.raises(Conflict, match=owner):
        applier(cluster).apply(config("c", x="2"))
    with pytest.raises(Conflict, match=owner):
        applier(cluster).apply(config("c", x="2"), dry_run=True)
    assert live(cluster, "ConfigMap", "c")["data"] == {"x": "1"}
    applier(cluster, adopt=True).apply(config("c", x="2"))
    applier(cluster).apply(config("c", x="3"))  # adopted for good, so that a rollback may write it, too
    assert live(cluster, "ConfigMap", "c")["data"] == {"x": "3"}


HPA: Object = {
    "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
    "spec": {"minReplicas": 1, "maxReplicas": 9,
             "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
}  # fmt: skip


def paused(replicas: int) -> Object:
    obj = deployment()
    obj["spec"]["replicas"] = replicas
    obj["spec"]["paused"] = True
    return obj


@pytest.mark.parametrize("first", ["ours", "kubectl"])
def test_under_an_autoscaler_the_live_number_of_replicas_stays(
    cluster: ApiServer, kubectl: Kubectl, first: str
) -> None:
    if first == "ours":
        applier(cluster).apply(paused(4))
    else:
        kubectl("apply", "-f", "-", stdin=paused(4))
    assert applier(cluster, HPA).apply(HPA).object["metadata"]["uid"]
    for wanted in (2, 3):
        applier(cluster, HPA).apply(paused(wanted))
        assert live(cluster, "Deployment", "web")["spec"]["replicas"] == 4
    kubectl("scale", "deployment/web", "--replicas=6")
    applier(cluster).apply(paused(1))  # the release does not have it, but the namespace does
    assert live(cluster, "Deployment", "web")["spec"]["replicas"] == 6


def test_an_autoscaler_that_is_gone_has_no_say(cluster: ApiServer, kubectl: Kubectl) -> None:
    applier(cluster).apply(paused(2))
    scale = ("patch", "deployment", "web", "--subresource", "scale", "-p", '{"spec":{"replicas":5}}')
    kubectl(*scale, "--field-manager", "kube-controller-manager")
    said: list[str] = []
    assert applier(cluster, said=said).apply(paused(3), dry_run=True).object["spec"]["replicas"] == 3
    applier(cluster, said=said).apply(paused(3))
    assert live(cluster, "Deployment", "web")["spec"]["replicas"] == 3
    assert said == [
        f"Deployment web in namespace {cluster.namespace}: taking over .spec.replicas from kube-controller-manager"
    ]


def test_a_new_workload_under_an_autoscaler_starts_with_the_manifests_number(cluster: ApiServer) -> None:
    applier(cluster, HPA).apply(paused(3))
    assert live(cluster, "Deployment", "web")["spec"]["replicas"] == 3


def test_without_an_autoscaler_the_manifest_rules(cluster: ApiServer) -> None:
    applier(cluster).apply(paused(4))
    applier(cluster).apply(paused(2))
    assert live(cluster, "Deployment", "web")["spec"]["replicas"] == 2


def test_a_dry_run_changes_nothing(cluster: ApiServer, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=paused(4))
    before = live(cluster, "Deployment", "web")
    told = applier(cluster, HPA).apply(paused(2), dry_run=True).object
    assert told["spec"]["replicas"] == 4, "what it would do is what it does"
    after = live(cluster, "Deployment", "web")
    assert {**before, "status": 0, "metadata": {**before["metadata"], "resourceVersion": 0, "managedFields": 0}} == {
        **after, "status": 0, "metadata": {**after["metadata"], "resourceVersion": 0, "managedFields": 0}
    }  # fmt: skip
