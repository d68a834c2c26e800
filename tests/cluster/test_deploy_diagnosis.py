"""What goes wrong in pods is told within 15 s, with its cause and a remedy; what is hopeless ends the wait."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.apps import config, service, web
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.history import ref_of

pytestmark = pytest.mark.real_kubernetes

Spoil = Callable[[Object], None]


def pod_spec(obj: Object) -> Any:
    return obj["spec"]["template"]["spec"]


def too_big(obj: Object) -> None:
    pod_spec(obj)["containers"][0]["resources"] = {"requests": {"cpu": "900"}}


def no_config(obj: Object) -> None:
    pod_spec(obj)["containers"][0]["envFrom"] = [{"configMapRef": {"name": "nowhere"}}]


def no_secret_volume(obj: Object) -> None:
    pod_spec(obj)["volumes"] = [{"name": "v", "secret": {"secretName": "nowhere"}}]
    pod_spec(obj)["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]


def no_claim(obj: Object) -> None:
    pod_spec(obj)["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "nowhere"}}]


def wrong_probe(obj: Object) -> None:
    pod_spec(obj)["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/nope", "port": 8080}, "periodSeconds": 1}


def greedy(obj: Object) -> None:
    container = pod_spec(obj)["containers"][0]
    container["command"] = ["/bin/sh", "-c", "/bin/busybox tail /dev/zero"]
    container["resources"] = {"limits": {"memory": "16Mi"}}


def root(obj: Object) -> None:
    pod_spec(obj)["securityContext"] = {"runAsNonRoot": True}


def no_command(obj: Object) -> None:
    pod_spec(obj)["containers"][0]["command"] = ["/bin/serve-model"]


def no_image(obj: Object) -> None:
    container = pod_spec(obj)["containers"][0]
    container["image"] = container["image"].replace("busybox:1", "none:1")


def crashing(obj: Object) -> None:
    pod_spec(obj)["containers"][0]["command"] = ["/bin/sh", "-c", "echo no such model >&2; exit 3"]


def no_node(obj: Object) -> None:
    pod_spec(obj)["nodeSelector"] = {"gpu": "a100"}


TROUBLES: list[tuple[Spoil, str, str]] = [
    (too_big, "no node can take it: .*Insufficient cpu", "Lower its requests"),
    (no_config, "ConfigMap nowhere does not exist", "Create the ConfigMap nowhere"),
    (no_secret_volume, "Secret nowhere does not exist", "Create the Secret nowhere"),
    (no_claim, 'persistentvolumeclaim "nowhere" not found', "Create the claim"),
    (wrong_probe, r"its readiness probe fails \(GET /nope on port 8080\): .*404", "probe's path and port"),
    (greedy, "for using more than its limit of 16Mi", "Raise the memory limit"),
    (root, "container web may not run as root", "USER 10001"),
    (no_command, "serve-model.*no such file", "command"),
    (no_node, "node affinity/selector", "node selector or affinity"),
    (no_image, "none:1 does not exist", "was it pushed"),
    (crashing, r"ended with exit code 3", "no such model"),
]


@pytest.mark.parametrize("spoil, cause, remedy", TROUBLES, ids=lambda v: getattr(v, "__name__", ""))
def test_troubles_of_pods(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path, spoil: Spoil, cause: str, remedy: str
) -> None:
    app = web(busybox)
    spoil(app)
    done = deploy(tmp_path, kubeconfig, cluster.namespace, app, service())
    assert (done.code, done.outputs["reason"]) == (11, "rollout"), done.log
    told = re.search(rf"(?m)^ *(\d+\.\d) s  Pod .*{cause}", done.log)
    assert told and float(told[1]) < 15, done.log
    print(f"{spoil.__name__}: told after {told[1]} s")
    assert remedy in done.log and re.search(cause, done.summary)


def test_a_registry_that_refuses_the_nodes(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    with closed_registry(tmp_path) as host:
        app = web(busybox, pull=f"{host}/ml/web:v1")
        done = deploy(tmp_path, kubeconfig, cluster.namespace, app)
    assert done.code == 11, done.log
    told = re.search(r"(?m)^ *(\d+\.\d) s  Pod .*the registry refuses the nodes the image", done.log)
    assert told and float(told[1]) < 15, done.log
    assert "az aks update --attach-acr" in done.log and "imagePullSecrets" in done.log
    assert "exists was not asked" in done.log
    print(f"refused: told after {told[1]} s")


@contextmanager
def closed_registry(folder: Path) -> Iterator[str]:
    """A registry that lets nobody in."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (folder / "users").write_text("")
    (folder / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"auth: {{htpasswd: {{realm: closed, path: {folder}/users}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "registry.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(10)


def test_a_policy_that_refuses_pods_is_named_before_anything_changes(
    api: ApiServer, cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    name = f"no-{cluster.namespace}"
    group = "admissionregistration.k8s.io/v1"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    here = {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}
    policy = {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
              "spec": {"matchConstraints": {"resourceRules": rules, "namespaceSelector": here},
                       "validations": [{"expression": "false", "message": "team labels are missing"}]}}  # fmt: skip
    bound = {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
             "spec": {"policyName": name, "validationActions": ["Deny"]}}  # fmt: skip
    try:
        api.create(policy)
        api.create(bound)
        time.sleep(3)  # the API server reads its policies now and then
        done = deploy(tmp_path, kubeconfig, cluster.namespace, web(busybox), config("c", a="1"))
        assert done.code == 10, done.log
        assert "its pods would be refused" in done.log and name in done.log and "team labels are missing" in done.log
        assert cluster.get(Ref("v1", "ConfigMap", cluster.namespace, "c")) is None
    finally:
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            api.delete(Ref(group, kind, "", name))


def test_a_quota(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    cluster.create(quota)
    until = time.monotonic() + 10
    while not (cluster.get(ref_of(quota, cluster.namespace)) or {}).get("status") and time.monotonic() < until:
        time.sleep(0.05)  # a quota that its controller has not seen yet allows everything
    other = web(busybox)["spec"]["template"]["spec"]
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": other})
    done = deploy(tmp_path, kubeconfig, cluster.namespace, web(busybox))
    assert done.code == 11 and "the namespace's quota does not allow its pods" in done.log, done.log


def test_an_immutable_field_is_found_before_anything_changes(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    assert deploy(tmp_path, kubeconfig, cluster.namespace, config("c", a="1"), web(busybox)).code == 0
    other = web(busybox)
    other["spec"]["selector"]["matchLabels"] = other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    done = deploy(tmp_path, kubeconfig, cluster.namespace, config("c", a="2"), other)
    assert done.code == 10 and "field is immutable" in done.log and "another name" in done.log, done.log
    live = cluster.get(Ref("v1", "ConfigMap", cluster.namespace, "c"))
    assert live and live["data"] == {"a": "1"}


def test_an_autoscaler_keeps_the_say_over_replicas(
    cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
              "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": target}}  # fmt: skip
    assert deploy(tmp_path, kubeconfig, cluster.namespace, web(busybox, replicas=3)).code == 0
    done = deploy(tmp_path, kubeconfig, cluster.namespace, web(busybox, answer="v2", replicas=1), scaler)
    assert done.code == 0, done.log
    live = cluster.get(Ref("apps/v1", "Deployment", cluster.namespace, "web"))
    assert live and live["spec"]["replicas"] == 3 and '"v2"' in json.dumps(live["spec"]).replace("\\", "")


def deploy(folder: Path, kubeconfig: str, namespace: str, *objects: Object, timeout: str = "16s") -> Step:
    for name in ("output", "summary"):
        (folder / name).unlink(missing_ok=True)
    (folder / "app.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    return step(folder, "deploy-aks", kubeconfig=kubeconfig, namespace=namespace, app="web", manifests="app.json",
                timeout=timeout, on_failure="keep")  # fmt: skip


def test_a_custom_resource_with_its_definition_in_one_release(
    api: ApiServer, cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path
) -> None:
    group = f"{cluster.namespace}.example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Model", "plural": "models", "singular": "model"}
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                  "metadata": {"name": f"models.{group}"},
                  "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}}  # fmt: skip
    model = {"apiVersion": f"{group}/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": {"a": 1}}
    try:
        first = deploy(tmp_path, kubeconfig, cluster.namespace, model, definition, web(busybox))
        assert first.code == 0, first.log
        assert "unknown until its CustomResourceDefinition exists" in first.log
        live = cluster.get(Ref(f"{group}/v1", "Model", cluster.namespace, "m"))
        assert live and live["spec"] == {"a": 1}
        again = deploy(tmp_path, kubeconfig, cluster.namespace, model, definition, web(busybox))
        assert again.code == 0, again.log
    finally:
        api.delete(Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", f"models.{group}"))


def test_a_namespace_in_the_release(api: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    name = f"ml-deploy-test-own-{tmp_path.name[-20:].replace('_', '-').lower()}"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        done = deploy(tmp_path, kubeconfig, name, config("c", a="1"), namespace)
        assert done.code == 0, done.log
        assert f"unknown until namespace {name} exists" in done.log
    finally:
        api.delete(Ref("v1", "Namespace", "", name))
