"""deploy-aks as a step of a job, on any Kubernetes."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.apps import PREDICT, config, secret, service, web
from tests.cluster.deploying import states
from tests.steps import MAIN, Step, environment, step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref

Deploy = Callable[..., Step]


@pytest.fixture
def deploy(kubeconfig: str, namespace: str, tmp_path: Path) -> Deploy:
    """The command with manifests of these objects; inputs as keyword arguments."""

    def run(*objects: Object, app: str = "web", **inputs: Any) -> Step:
        return step(tmp_path, "deploy-aks", **{**given(tmp_path, kubeconfig, namespace, objects, app), **inputs})

    return run


def given(folder: Path, kubeconfig: str, namespace: str, objects: tuple[Object, ...], app: str) -> dict[str, str]:
    """The inputs that all have, and the manifests written."""
    for name in ("output", "summary"):
        (folder / name).unlink(missing_ok=True)
    inputs = {"kubeconfig": kubeconfig, "namespace": namespace, "app": app, "timeout": "45s", "on_failure": "keep"}
    if objects:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        (folder / "app.json").write_text(json.dumps(items))
        inputs["manifests"] = "app.json"
    return inputs


class Deploying:
    """The command as a step, for the app `web`; objects become its manifests."""

    def __init__(self, folder: Path, kubeconfig: str, cluster: ApiServer) -> None:
        self.folder, self.kubeconfig, self.cluster = folder, kubeconfig, cluster

    def __call__(self, *objects: Object, **inputs: Any) -> Step:
        values = given(self.folder, self.kubeconfig, self.cluster.namespace, objects, "web")
        return step(self.folder, "deploy-aks", **{**values, **inputs})


def live(cluster: ApiServer, kind: str = "Deployment", name: str = "web") -> Any:
    return cluster.get(Ref({"Deployment": "apps/v1"}.get(kind, "v1"), kind, cluster.namespace, name))


def answer(cluster: ApiServer) -> str:
    """What a user of the Service gets."""
    return str(json.loads(cluster.ask(cluster.namespace, "services/web:80", "GET", PREDICT).body)["prediction"])


def test_a_first_release_and_a_second(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    first = deploy(web(busybox), service(), image=busybox, model_digest="sha256:" + "1" * 64)
    assert first.code == 0, first.log
    assert first.outputs["revision"] == "1" and first.outputs["previous-revision"] == ""
    assert (first.outputs["status"], first.outputs["rolled-back"], first.outputs.get("reason")) == (
        "deployed",
        "false",
        None,
    )
    assert first.outputs["image"] == busybox
    assert first.outputs["endpoint"] == f"http://web.{cluster.namespace}.svc.cluster.local"
    assert "| Deployment | web | 1 of 1 ready |" in first.summary
    assert first.report["objects"][1] == {
        "kind": "Deployment", "name": "web", "namespace": cluster.namespace, "state": "1 of 1 ready",
    }  # fmt: skip
    assert live(cluster)["metadata"]["annotations"]["ml-deploy/model-digest"] == "sha256:" + "1" * 64
    assert answer(cluster) == "v1"

    second = deploy(web(busybox, answer="v2"), service(), image=busybox, stable_for="1s")
    assert second.code == 0, second.log
    assert (second.outputs["revision"], second.outputs["previous-revision"]) == ("2", "1")
    assert second.outputs["status"] == "good"
    assert answer(cluster) == "v2" and states(cluster) == {1: "superseded", 2: "good"}


def test_a_rerun_rolls_nothing(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    deploy(config("settings", a="1"), uses_config(web(busybox), "settings"), image=busybox)
    before = live(cluster)
    again = deploy(config("settings", a="1"), uses_config(web(busybox), "settings"), image=busybox)
    after = live(cluster)
    assert again.code == 0 and before["metadata"]["generation"] == after["metadata"]["generation"]
    assert "ml-deploy/run" not in json.dumps(after["spec"]) and "ml-deploy/commit" not in json.dumps(after["spec"])


def uses_config(deployment: Object, name: str) -> Object:
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["envFrom"] = [{"configMapRef": {"name": name}}]
    return deployment


def test_a_changed_config_map_restarts_the_pods(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    first = deploy(config("settings", a="1"), uses_config(web(busybox), "settings"))
    before = live(cluster)["metadata"]["generation"]
    second = deploy(config("settings", a="2"), uses_config(web(busybox), "settings"))
    assert first.code == second.code == 0
    assert live(cluster)["metadata"]["generation"] == before + 1


def test_predictions_are_asked_before_traffic(
    cluster: ApiServer, busybox: str, deploy: Deploy, cases: Callable[[str], str]
) -> None:
    good = deploy(web(busybox), service(), image=busybox, cases=cases("v1"))
    assert good.code == 0, good.log
    assert good.outputs["status"] == "good" and "1 golden prediction" in good.summary
    generation = live(cluster)["metadata"]["generation"]

    wrong = deploy(web(busybox, answer="bad"), service(), image=busybox, cases=cases("v1"), on_failure="rollback")
    assert (wrong.code, wrong.outputs["reason"], wrong.outputs["status"]) == (12, "wrong-answers", "failed")
    assert "Revision 1 serves as before." in wrong.log and wrong.outputs["rolled-back"] == "false"
    assert live(cluster)["metadata"]["generation"] == generation and answer(cluster) == "v1"
    assert states(cluster) == {1: "good", 2: "failed"}


def test_predictions_of_a_release_with_a_new_config_map(
    cluster: ApiServer, busybox: str, deploy: Deploy, cases: Callable[[str], str]
) -> None:
    done = deploy(config("settings", a="1"), uses_config(web(busybox), "settings"), service(), cases=cases("v1"))
    assert done.code == 0, done.log


def test_a_crash_is_explained_and_rolled_back(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    assert deploy(web(busybox), service(), image=busybox, stable_for="1s").code == 0
    broken = deploy(web(busybox, crash=True), service(), image=busybox, on_failure="rollback", timeout="12s")
    assert (broken.code, broken.outputs["reason"]) == (11, "rollout"), broken.log
    assert (broken.outputs["status"], broken.outputs["rolled-back"]) == ("rolled-back", "true")
    assert broken.outputs["revision"] == "2" and broken.outputs["previous-revision"] == "1"
    assert "ended with exit code 3" in broken.log and "ValueError: no such model" in broken.log
    assert "Revision 1 serves again." in broken.log and "ValueError: no such model" in broken.summary
    assert answer(cluster) == "v1" and states(cluster) == {1: "good", 2: "rolled-back"}


def test_an_image_that_does_not_exist_ends_at_once(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    assert deploy(web(busybox), service(), image=busybox).code == 0
    missing = busybox.rpartition(":")[0] + "@sha256:" + "0" * 64
    started = time.monotonic()
    bad = deploy(web(busybox), service(), image=missing)
    assert time.monotonic() - started < 20, bad.log
    assert (bad.code, bad.outputs["reason"], bad.outputs["status"]) == (11, "rollout", "failed"), bad.log
    assert "does not exist" in bad.log and "was it pushed" in bad.log
    assert "pods of the version before serve" in bad.log and answer(cluster) == "v1"


def test_a_first_release_that_fails_is_taken_out_of_traffic(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    bad = deploy(web(busybox, crash=True), service(), image=busybox, on_failure="rollback", timeout="6s")
    assert bad.code == 11 and "taken out of traffic (Service web)" in bad.log, bad.log
    assert len(live(cluster, "Service")["spec"]["selector"]) == 2
    good = deploy(web(busybox), service(), image=busybox)
    assert good.code == 0, good.log
    assert live(cluster, "Service")["spec"]["selector"] == {"app": "web"}


def test_bad_to_bad_to_good(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    for _ in range(2):
        assert deploy(web(busybox, crash=True), service(), image=busybox, timeout="4s").code == 11
    good = deploy(web(busybox), service(), image=busybox)
    assert good.code == 0, good.log
    assert "ended with exit code" not in good.log  # the pods of the bad version are not its own
    assert answer(cluster) == "v1"


def test_all_problems_are_told_at_once_and_nothing_changes(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    misspelt = web(busybox)
    misspelt["spec"]["replica"] = 2
    wrong = service()
    wrong["spec"]["ports"][0]["port"] = 0
    done = deploy(misspelt, wrong, config("Bad_Name"))
    assert (done.code, done.outputs["reason"]) == (10, "manifest"), done.log
    assert "3 things stand in the way" in done.log
    assert "replica" in done.log and "misspelt" in done.log and "Bad_Name" in done.log
    assert live(cluster) is None and states(cluster) == {}


def test_a_kind_that_the_cluster_does_not_know(deploy: Deploy) -> None:
    unknown = {"apiVersion": "serving.example.com/v1", "kind": "Model", "metadata": {"name": "m"}}
    done = deploy(config("c"), unknown)
    assert done.code == 10 and "knows no kind Model in serving.example.com/v1" in done.log


def test_a_namespace_that_does_not_exist(kubeconfig: str, busybox: str, tmp_path: Path) -> None:
    done = step(
        tmp_path, "deploy-aks", **given(tmp_path, kubeconfig, "no-such-namespace", (web(busybox), service()), "web")
    )
    assert (done.code, done.outputs["reason"]) == (10, "manifest"), done.log
    assert "The namespace no-such-namespace does not exist" in done.log and "kubectl create namespace" in done.log


def test_an_image_that_no_manifest_uses(deploy: Deploy, busybox: str) -> None:
    done = deploy(web(busybox), image="registry.example.com/other@sha256:" + "0" * 64)
    assert done.code == 10 and f"the images in them: {busybox}" in done.log


def test_what_would_change_without_changing_it(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    deploy(web(busybox), service(), secret("key", token="old-token"))
    done = deploy(web(busybox, answer="v2"), service(), secret("key", token="new-token"), dry_run="server")
    assert (done.code, done.outputs["status"], done.outputs["revision"]) == (0, "checked", ""), done.log
    assert '{"prediction": "v2"}' in done.outputs["diff"] and "-" in done.outputs["diff"]
    for shown in (done.log, done.summary, done.outputs["diff"], json.dumps(done.report)):
        assert "new-token" not in shown and "bmV3LXRva2Vu" not in shown and "old-token" not in shown
    assert answer(cluster) == "v1" and states(cluster) == {1: "deployed"}


def test_two_apps_in_one_namespace(cluster: ApiServer, busybox: str, deploy: Deploy) -> None:
    assert deploy(web(busybox), service()).code == 0
    assert deploy(web(busybox, "other", answer="o"), service("other"), app="other").code == 0
    assert states(cluster) == states(cluster, "other") == {1: "deployed"}
    stolen = deploy(web(busybox, "other", answer="x"), app="web")
    assert (stolen.code, stolen.outputs["reason"]) == (16, "conflict"), stolen.log


def test_a_cancelled_deployment(
    cluster: ApiServer, kubeconfig: str, busybox: str, deploy: Deploy, tmp_path: Path
) -> None:
    assert deploy(web(busybox), service()).code == 0
    crashing = web(busybox, crash=True)
    env = environment(tmp_path, given(tmp_path, kubeconfig, cluster.namespace, (crashing, service()), "web"))
    process = subprocess.Popen(
        [sys.executable, "-E", "-s", "-u", "-X", "utf8", str(MAIN), "deploy-aks"], env=env, cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "old pod" in line:
            break
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    rest = process.stdout.read()
    process.stdout.close()
    log = "".join(lines) + rest
    assert process.wait(10) == 130 and time.monotonic() - started < 5, log
    assert "cancelled" in log and "serve" in log and "Traceback" not in log
    lease = cluster.get(Ref("coordination.k8s.io/v1", "Lease", cluster.namespace, "ml-deploy.web"))
    assert lease and not lease["spec"].get("holderIdentity")
    assert answer(cluster) == "v1"
    again = deploy(web(busybox, answer="v2"), service())
    assert again.code == 0 and answer(cluster) == "v2", again.log
    assert states(cluster) == {1: "superseded", 2: "failed", 3: "deployed"}


def test_the_second_deployment_waits_for_the_first(
    cluster: ApiServer, kubeconfig: str, busybox: str, deploy: Deploy, tmp_path: Path
) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    env = environment(
        folder, given(folder, kubeconfig, cluster.namespace, (web(busybox), service()), "web") | {"stable_for": "3s"}
    )
    first = subprocess.Popen(
        [sys.executable, "-E", "-s", "-u", "-X", "utf8", str(MAIN), "deploy-aks"], env=env, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert first.stdout
    for line in first.stdout:
        if "is recorded" in line:
            break
    second = deploy(web(busybox, answer="v2"), service())
    first.stdout.read()
    first.stdout.close()
    assert first.wait(30) == 0 and second.code == 0, second.log
    assert re.search(r"waiting: another deployment of web is running", second.log)
    assert answer(cluster) == "v2" and states(cluster) == {1: "superseded", 2: "deployed"}


@pytest.mark.real_kubernetes
def test_the_role_in_the_readme_is_enough_and_without_it_all_is_named(
    cluster: ApiServer, kubeconfig: str, busybox: str, cases: Callable[[str], str], tmp_path: Path
) -> None:
    config_of = account(cluster, kubeconfig, tmp_path)
    given_all = given(tmp_path, config_of, cluster.namespace, (web(busybox), service(), config("c", a="1")), "web")
    refused = step(tmp_path, "deploy-aks", **given_all)
    assert (refused.code, refused.outputs["reason"]) == (8, "forbidden"), refused.log
    for right in ("leases (get, create, update)", "deployments (get, create, patch, list, watch)", "configmaps (get"):
        assert right in refused.log
    assert "resources: [leases], verbs: [get, create, update]" in refused.summary

    text = (MAIN.parents[1] / "actions/deploy-aks/README.md").read_text()
    (role,) = re.findall(r"(?s)```yaml\n(apiVersion: rbac.*?)```", text)
    cluster.apply({**yaml.safe_load(role), "metadata": {"name": "some", "namespace": cluster.namespace}}, force=True)
    done = step(tmp_path, "deploy-aks", **given_all, cases=cases("v1"))
    assert done.code == 0, done.log


def account(cluster: ApiServer, kubeconfig: str, folder: Path) -> str:
    """A kubeconfig of a service account that is bound to the Role `some`."""
    name, group = "deployer", "rbac.authorization.k8s.io"
    cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    cluster.create({"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": "some"},
                    "roleRef": {"apiGroup": group, "kind": "Role", "name": "some"},
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}]})  # fmt: skip
    secret_name = {"name": "token", "annotations": {"kubernetes.io/service-account.name": name}}
    cluster.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret_name, "type": "kubernetes.io/service-account-token"}
    )
    until = time.monotonic() + 10
    while not (token := (live(cluster, "Secret", "token").get("data") or {}).get("token")) and time.monotonic() < until:
        time.sleep(0.05)
    content = yaml.safe_load(Path(kubeconfig).read_text())
    content["users"][0]["user"] = {"token": base64.b64decode(str(token)).decode()}
    (folder / "account.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "account.yaml")
