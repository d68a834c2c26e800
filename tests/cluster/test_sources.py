"""Charts, kustomizations and custom resources on a cluster: deployed, recorded and rolled back like everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.charts import HELM, chart, definition, kustomization, needs_helm
from tests.cluster.apps import config, service, web
from tests.cluster.deploying import states
from tests.cluster.test_deploy import Deploying, answer, live
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref


class Deploy(Deploying):
    """The command from one source or another."""

    def back(self) -> Step:
        return step(self.folder, "rollback", app="web", kubeconfig=self.kubeconfig, namespace=self.cluster.namespace)


@pytest.fixture
def deploy(tmp_path: Path, kubeconfig: str, cluster: ApiServer) -> Deploy:
    return Deploy(tmp_path, kubeconfig, cluster)


def secret_of(cluster: ApiServer) -> str:
    return str(live(cluster, "Secret", "web-key")["data"]["key"])


@needs_helm
def test_a_chart_is_deployed_recorded_and_rolled_back(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    chart(deploy.folder, busybox, more={"prod.yaml": "answer: v1\n"})
    first = deploy(chart="app", values="app/prod.yaml", image=busybox, stable_for="1s")
    assert first.code == 0 and "hook for Helm's own test" in first.log, first.log
    assert answer(cluster) == "v1" and states(cluster) == {1: "good"}
    about = live(cluster, "ConfigMap", "about")["data"]
    assert about["namespace"] == cluster.namespace and cluster.version().startswith(about["kubernetes"])
    before = secret_of(cluster)

    second = deploy(chart="app", set="answer=v2", image=busybox, patch="kind: Deployment\nspec: {minReadySeconds: 1}")
    assert second.code == 0 and answer(cluster) == "v2", second.log
    assert (
        live(cluster)["spec"]["minReadySeconds"] == 1 and secret_of(cluster) != before
    )  # it renders differently each time

    back = deploy.back()
    assert back.code == 0 and answer(cluster) == "v1" and states(cluster)[1] == "good", back.log
    assert "minReadySeconds" not in live(cluster)["spec"]


@needs_helm
@pytest.mark.real_kubernetes
def test_a_chart_sees_what_the_cluster_can(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    chart(deploy.folder, busybox)
    assert deploy(chart="app", image=busybox).code == 0
    about = live(cluster, "ConfigMap", "about")["data"]
    assert about["deployments"] == "true"
    assert (about["gateways"] == "true") == (cluster.kind("gateway.networking.k8s.io/v1", "Gateway") is not None)


@needs_helm
def test_a_packed_chart_and_charts_that_cannot_be(busybox: str, deploy: Deploy) -> None:
    import subprocess

    chart(deploy.folder, busybox)
    subprocess.run([str(HELM), "package", "app"], cwd=deploy.folder, check=True, capture_output=True)
    packed = deploy(chart="app-0.1.0.tgz", image=busybox, dry_run="server")
    assert packed.code == 0 and packed.outputs["status"] == "checked", packed.log

    (deploy.folder / "app/templates/hook.yaml").write_text(
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: h, annotations: {"helm.sh/hook": pre-install}}\n'
    )
    hooked = deploy(chart="app", image=busybox)
    assert (hooked.code, hooked.outputs["reason"]) == (10, "manifest"), hooked.log
    assert "ConfigMap h (pre-install, app/templates/hook.yaml)" in hooked.log and "--no-hooks" in hooked.log

    (deploy.folder / "app/templates/hook.yaml").write_text("{{ required `no greeting` .Values.greeting }}\n")
    for inputs, told in (({}, "no greeting"), ({"chart": "ap"}, "Name a folder with a Chart.yaml"),
                         ({"values": "none.yaml"}, "none.yaml")):  # fmt: skip
        wrong = deploy(**{"chart": "app", "image": busybox, **inputs})
        assert (wrong.code, wrong.outputs["reason"]) == (10, "manifest") and told in wrong.log, wrong.log
    assert states(deploy.cluster) == {}


def test_a_kustomization_is_deployed_and_rolled_back(
    cluster: ApiServer, kubectl_path: str, busybox: str, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(kubectl_path).parent), prepend=":")
    kustomization(deploy.folder, busybox)
    first = deploy(kustomize="overlay", image=busybox, stable_for="1s")
    assert first.code == 0 and answer(cluster) == "v1", first.log
    kustomization(deploy.folder, busybox, answer="v2")
    second = deploy(kustomize="overlay", image=busybox, prune="true")
    assert second.code == 0 and answer(cluster) == "v2", second.log
    maps = {
        one["metadata"]["name"]
        for one in cluster.list("v1", "ConfigMap", cluster.namespace, selector="ml-deploy/app=web")
    }
    assert len(maps) == 1  # its generator names each content anew; prune takes the old one
    assert deploy.back().code == 0 and answer(cluster) == "v1"
    wrong = deploy(kustomize="base/none", image=busybox)
    assert (wrong.code, wrong.outputs["reason"]) == (10, "manifest") and "kustomization.yaml" in wrong.log, wrong.log


def test_generated_objects_with_a_patch(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    patch = deploy.folder / "patch.yaml"
    command = web(busybox, answer="v1")["spec"]["template"]["spec"]["containers"][0]
    main = {"name": "web", "command": command["command"], "env": command["env"], "envFrom": [{"configMapRef": {"name": "more"}}],
            "securityContext": None, "volumeMounts": [{"name": "www", "mountPath": "/www"}],
            **{probe: {"httpGet": {"path": "/cgi-bin/predict"}} for probe in ("startupProbe", "readinessProbe", "livenessProbe")}}  # fmt: skip
    spec = {"securityContext": None, "volumes": [{"name": "www", "emptyDir": {}}], "containers": [main],
            "terminationGracePeriodSeconds": 6}  # fmt: skip
    patch.write_text(json.dumps({"kind": "Deployment", "spec": {"template": {"spec": spec}}}))
    cluster.create(config("more", GREETING="hello"))
    done = deploy(image=busybox, port="8080", replicas="1", patch="patch.yaml")
    assert done.code == 0, done.log
    (container,) = live(cluster)["spec"]["template"]["spec"]["containers"]
    assert (
        container["envFrom"] == [{"configMapRef": {"name": "more"}}] and container["ports"][0]["containerPort"] == 8080
    )
    assert answer(cluster) == "v1"


def test_variables_in_manifests(cluster: ApiServer, deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    done = deploy(config("c", stage="${STAGE}", home="${HOME}"), substitute="STAGE")
    assert (done.code, done.outputs["reason"]) == (10, "manifest"), done.log
    assert "app.json, line 1: ${STAGE} is to be replaced" in done.log and live(cluster, "ConfigMap", "c") is None


@pytest.fixture
def group(cluster: ApiServer) -> Iterator[str]:
    """An API group of this test alone; its definitions are removed behind it."""
    name = f"{cluster.namespace[-8:]}.example.com"
    yield name
    for one in cluster.list("apiextensions.k8s.io/v1", "CustomResourceDefinition", ""):
        if one["spec"]["group"] == name:
            cluster.delete(Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", one["metadata"]["name"]))


def model(group: str, image: str, **spec: Any) -> Object:
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Model",
        "metadata": {"name": "m"},
        "spec": {"server": {"image": image}, **spec},
    }


@pytest.mark.real_kubernetes
def test_a_definition_and_its_resource_in_one_release(
    cluster: ApiServer, busybox: str, group: str, deploy: Deploy
) -> None:
    objects = [model(group, busybox, size=1), definition(group=group), web(busybox), service()]
    checked = deploy(*objects, dry_run="server")
    assert checked.code == 0 and "Model m: unknown until its CustomResourceDefinition exists" in checked.log, (
        checked.log
    )
    digest = busybox.rpartition(":")[0] + "@sha256:" + "0" * 64
    paths = {"image": digest, "image_paths": "Model:spec.server.image"}
    first = deploy(*objects[:2], stable_for="1s", **paths)
    assert first.code == 0 and f"spec.server.image gets {digest}" in first.log, first.log
    ref = Ref(f"{group}/v1", "Model", cluster.namespace, "m")
    assert (cluster.get(ref) or {})["spec"] == {"server": {"image": digest}, "size": 1}

    second = deploy(model(group, busybox, size=2), objects[1], **paths)
    assert second.code == 0 and (cluster.get(ref) or {})["spec"]["size"] == 2, second.log
    back = deploy.back()
    assert back.code == 0 and (cluster.get(ref) or {})["spec"]["size"] == 1, back.log
    gone = step(
        deploy.folder,
        "deploy-aks",
        app="web",
        kubeconfig=deploy.kubeconfig,
        namespace=cluster.namespace,
        action="teardown",
    )
    assert gone.code == 0 and "CustomResourceDefinition" in gone.log and cluster.get(ref) is None, gone.log
    assert cluster.kind(f"{group}/v1", "Model")


@pytest.mark.real_kubernetes
def test_a_definition_that_changes_together_with_its_resource(
    cluster: ApiServer, busybox: str, group: str, deploy: Deploy
) -> None:
    narrow, wide = (definition(group=group, fields=names) for names in (("server",), ("server", "size")))
    assert deploy(narrow, model(group, busybox)).code == 0
    wrong = deploy(narrow, model(group, busybox, size=2))
    assert wrong.code == 10 and "size" in wrong.log, wrong.log
    done = deploy(wide, model(group, busybox, size=2))
    assert done.code == 0 and "unknown until its CustomResourceDefinition is changed" in done.log, done.log
    live = cluster.get(Ref(f"{group}/v1", "Model", cluster.namespace, "m"))
    assert live and live["spec"]["size"] == 2
