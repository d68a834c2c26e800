"""The Kubernetes stand-in, asked by kubectl and over plain HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from tests.busybox import static_busybox
from tests.integration.kube_process import ROOT, SERVICE, StandIn, web

APPLY = {"Content-Type": "application/apply-patch+yaml"}


@pytest.fixture(scope="module")
def stand_in(docker_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    one = StandIn(tmp_path_factory.mktemp("kube"))
    yield one
    output = one.stop()
    assert one.containers() == []
    assert "Traceback" not in output and "never retrieved" not in output, output


@pytest.fixture(scope="module")
def busybox(docker_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with busybox in the engine, and in no registry."""
    folder = tmp_path_factory.mktemp("busybox")
    static_busybox(folder, folder / "root" / "bin")
    tar = subprocess.run(["tar", "-C", str(folder / "root"), "-c", "."], check=True, capture_output=True).stdout
    image = f"ml-deploy-test-{os.getpid()}:1"
    subprocess.run(["docker", "import", "-", image], input=tar, check=True, capture_output=True)
    yield image
    subprocess.run(["docker", "rmi", "-f", image], check=False, capture_output=True)


Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(stand_in: StandIn) -> Kubectl:
    path = shutil.which("kubectl")
    if not path:
        pytest.skip("needs kubectl on the PATH")

    def run(*words: str, stdin: Any = None, code: int = 0) -> str:
        done = subprocess.run(
            [path, "--kubeconfig", str(stand_in.kubeconfig), *words], capture_output=True, text=True, check=False,
            input=json.dumps(stdin) if stdin else None, env={**os.environ, "HOME": str(stand_in.state)},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def namespace(stand_in: StandIn, request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    made = stand_in.ask(
        "POST", "api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    assert made.status_code == 201, made.text
    yield name
    stand_in.ask("DELETE", f"api/v1/namespaces/{name}")
    wait(lambda: stand_in.ask("GET", f"api/v1/namespaces/{name}").status_code == 404, 20)


def wait(true: Callable[[], Any], seconds: float = 15) -> Any:
    """Ask again until it is so."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


def apply(kubectl: Kubectl, namespace: str, *objects: Any) -> str:
    """Apply on the server, as one list."""
    listed = {"kind": "List", "apiVersion": "v1", "items": list(objects)}
    return kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=listed)


def events(stand_in: StandIn, namespace: str) -> list[str]:
    """What happened in a namespace, in words."""
    return [one["message"] for one in stand_in.ask("GET", f"api/v1/namespaces/{namespace}/events").json()["items"]]


def test_unchanged_apply_rolls_nothing_and_an_update_drops_no_request(
    stand_in: StandIn, kubectl: Kubectl, namespace: str, busybox: str
) -> None:
    here = ("-n", namespace)
    assert "serverside-applied" in apply(kubectl, namespace, web(busybox), SERVICE)
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/web", *here, "--timeout", "30s")
    path = f"apis/apps/v1/namespaces/{namespace}/deployments/web"
    before = stand_in.ask("GET", path).json()
    apply(kubectl, namespace, web(busybox), SERVICE)
    assert stand_in.ask("GET", path).json() == before
    assert "serving v1\n" in kubectl("logs", "deployment/web", *here)
    address = wait(
        lambda: kubectl("get", "service", "web", *here, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    )
    users = Users(address, 8099)
    time.sleep(1)
    apply(kubectl, namespace, web(busybox, "v2"))
    kubectl("rollout", "status", "deployment/web", *here, "--timeout", "30s")
    time.sleep(1)
    answers, failures = users.stop()
    assert failures == [] and {answer[:2] for answer in answers} == {"v1", "v2"} and answers[-1].startswith("v2")
    assert len({answer for answer in answers if answer.startswith("v1")}) == 2, (
        "both pods of the first version were asked"
    )
    assert [line.split()[0] for line in kubectl("rollout", "history", "deployment/web", *here).splitlines()[2:4]] == [
        "1",
        "2",
    ]
    kubectl("rollout", "undo", "deployment/web", *here)
    kubectl("rollout", "status", "deployment/web", *here, "--timeout", "30s")
    after = stand_in.ask("GET", path).json()
    assert after["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert {one["type"]: one["reason"] for one in after["status"]["conditions"]} == {
        "Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable",
    }  # fmt: skip
    kubectl("delete", "deployment", "web", *here)
    wait(lambda: "No resources" in kubectl("get", "pods", *here), 20)


class Users:
    """Asks over and over on connections of their own."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port, self.answers, self.failures, self._over = host, port, [""][:0], [""][:0], False
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
            try:
                connection.request("GET", "/")
                self.answers.append(connection.getresponse().read().decode().strip())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            connection.close()
            time.sleep(0.03)

    def stop(self) -> tuple[list[str], list[str]]:
        self._over = True
        self._thread.join()
        return self.answers, self.failures


def test_what_is_applied_no_more_goes_and_what_others_applied_stays(stand_in: StandIn, namespace: str) -> None:
    path = f"api/v1/namespaces/{namespace}/configmaps/c"
    base = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}

    def apply(manager: str, data: Any) -> Any:
        answer = stand_in.ask("PATCH", f"{path}?fieldManager={manager}", {**base, "data": data}, headers=APPLY)
        assert answer.ok, answer.text
        return answer.json()

    apply("one", {"a": "1", "b": "1"})
    apply("two", {"c": "2"})
    assert apply("one", {"a": "1"})["data"] == {"a": "1", "c": "2"}
    entries = stand_in.ask("GET", path).json()["metadata"]["managedFields"]
    assert {one["manager"]: list(one["fieldsV1"]["f:data"]) for one in entries} == {"one": ["f:a"], "two": ["f:c"]}
    first = stand_in.ask("GET", path).json()
    assert apply("one", {"a": "1"}) == first, "an unchanged apply writes nothing"


def test_dry_run_writes_nothing_and_judges_as_the_real_one(stand_in: StandIn, namespace: str) -> None:
    path = f"apis/apps/v1/namespaces/{namespace}/deployments"
    assert stand_in.ask("PATCH", f"{path}/web?fieldManager=m&dryRun=All", web("x"), headers=APPLY).status_code == 201
    assert stand_in.ask("GET", f"{path}/web").status_code == 404
    assert stand_in.ask("POST", path, web("x")).status_code == 201
    other = web("x")
    other["spec"]["selector"]["matchLabels"] = other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    refused = stand_in.ask("PATCH", f"{path}/web?fieldManager=m&dryRun=All", other, headers=APPLY)
    assert (refused.status_code, refused.json()["details"]["causes"][0]["field"]) == (422, "spec.selector")


def test_a_crashing_container_backs_off_and_the_deadline_passes(
    stand_in: StandIn, kubectl: Kubectl, namespace: str, busybox: str
) -> None:
    here = ("-n", namespace)
    app = web(busybox, args=["echo bad model >&2; echo no such file > /dev/termination-log; exit 3"])
    app["spec"] |= {"replicas": 1, "progressDeadlineSeconds": 3}
    apply(kubectl, namespace, app)
    status = "jsonpath={.items[0].status.containerStatuses[0]}"

    def waiting() -> Any:
        return json.loads(kubectl("get", "pods", *here, "-o", status) or "{}").get("state", {}).get("waiting", {})

    wait(lambda: waiting().get("reason") == "CrashLoopBackOff")
    assert waiting()["message"].startswith("back-off 10s restarting failed container=web pod=web-")
    one = json.loads(kubectl("get", "pods", *here, "-o", status))
    assert one["lastState"]["terminated"]["exitCode"] == 3 and one["restartCount"] == 1
    assert one["lastState"]["terminated"]["message"] == "no such file\n"
    assert "bad model" in kubectl("logs", "deployment/web", "--previous", "--tail", "1", *here)
    assert "exceeded its progress deadline" in kubectl("rollout", "status", "deployment/web", *here, code=1)
    assert any("Back-off restarting failed container web" in message for message in events(stand_in, namespace))


@pytest.mark.parametrize(
    ("change", "reason", "event"),
    [
        ({"image": "localhost:9/none:1"}, "ImagePullBackOff", "Failed to pull image"),
        ({"image": "Not An Image"}, "InvalidImageName", "InvalidImageName"),
        ({"envFrom": [{"configMapRef": {"name": "gone"}}]}, "CreateContainerConfigError", 'configmap "gone" not found'),
        ({"securityContext": {"runAsNonRoot": True}}, "CreateContainerConfigError", "image will run as root"),
        ({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "Unschedulable", "1 Insufficient nvidia.com/gpu"),
        ({"command": ["/bin/nothing"]}, "CrashLoopBackOff", "/bin/nothing"),
    ],
)  # fmt: skip
def test_what_keeps_a_pod_from_running_is_said(
    stand_in: StandIn, kubectl: Kubectl, namespace: str, busybox: str, change: Any, reason: str, event: str
) -> None:
    app = web(busybox, **change)
    apply(kubectl, namespace, app)

    def reasons() -> str:
        path = "{.items[*].status.containerStatuses[*].state.waiting.reason} {.items[*].status.conditions[*].reason}"
        return kubectl("get", "pods", "-n", namespace, "-o", f"jsonpath={path}")

    wait(lambda: reason in reasons())
    assert any(event in message for message in events(stand_in, namespace))


def test_probes_gate_traffic_and_restart(stand_in: StandIn, kubectl: Kubectl, namespace: str, busybox: str) -> None:
    files = {"exec": {"command": ["/bin/busybox", "test", "-e", "/www/ready"]}, "periodSeconds": 1}
    alive = {
        "exec": {"command": ["/bin/busybox", "test", "!", "-e", "/www/dead"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    script = [
        "/bin/busybox sleep 2; echo > /www/ready; /bin/busybox sleep 3; echo > /www/dead; exec /bin/busybox sleep 60"
    ]
    app = web(
        busybox,
        args=script,
        readinessProbe=files,
        livenessProbe=alive,
        startupProbe={**alive, "initialDelaySeconds": 1},
    )
    app["spec"]["replicas"] = 1
    apply(kubectl, namespace, app, SERVICE)

    def ready() -> list[bool]:
        slices = stand_in.ask("GET", f"apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices").json()["items"]
        return [one["conditions"]["ready"] for slice_ in slices for one in slice_["endpoints"]]

    wait(lambda: ready() == [False])
    wait(lambda: ready() == [True])
    pods = f"api/v1/namespaces/{namespace}/pods"
    wait(lambda: stand_in.ask("GET", pods).json()["items"][0]["status"]["containerStatuses"][0]["restartCount"] == 1)
    said = " ".join(events(stand_in, namespace))
    assert "Container web failed liveness probe, will be restarted" in said and "Readiness probe failed" in said


def test_proxies_to_pods_and_services(stand_in: StandIn, kubectl: Kubectl, namespace: str, busybox: str) -> None:
    base = f"api/v1/namespaces/{namespace}"
    apply(kubectl, namespace, web(busybox), SERVICE)
    none = stand_in.ask("GET", f"{base}/services/web:http/proxy/")
    assert (none.status_code, none.json()["message"]) == (503, 'no endpoints available for service "web"')
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout", "30s")
    pod = stand_in.ask("GET", f"{base}/pods").json()["items"][0]["metadata"]["name"]
    assert stand_in.ask("GET", f"{base}/pods/{pod}:8080/proxy/index.html?x=1").text == f"v1 {pod}\n"
    assert stand_in.ask("GET", f"{base}/services/web:8099/proxy/").text.startswith("v1 ")
    assert stand_in.ask("GET", f"{base}/services/http:web:http/proxy/none").status_code == 404
    assert stand_in.ask("GET", f"{base}/pods/{pod}:81/proxy/").status_code == 503


def test_watches_replay_bookmark_and_expire(stand_in: StandIn, namespace: str) -> None:
    path = f"api/v1/namespaces/{namespace}/configmaps"

    def make(name: str, **labels: str) -> Any:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
        return stand_in.ask("POST", path, body).json()

    def seen(query: str) -> list[tuple[str, str]]:
        lines = stand_in.ask("GET", f"{path}?watch=1&timeoutSeconds=1&{query}").text.splitlines()
        found = [json.loads(line) for line in lines]
        return [
            (one["type"], one["object"].get("metadata", {}).get("name", one["object"].get("reason", "")))
            for one in found
        ]

    version = make("a", on="yes")["metadata"]["resourceVersion"]
    patch = {"Content-Type": "application/merge-patch+json"}
    stand_in.ask("PATCH", f"{path}/a", {"metadata": {"labels": {"on": "no"}}}, headers=patch)
    make("b", on="yes")
    stand_in.ask("DELETE", f"{path}/b")
    assert seen(f"resourceVersion={version}") == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "b")]
    assert seen(f"resourceVersion={version}&labelSelector=on%3Dyes") == [
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("DELETED", "b"),
    ]
    assert seen("fieldSelector=metadata.name%3Da&allowWatchBookmarks=true") == [("ADDED", "a"), ("BOOKMARK", "")]
    for _ in range(260):
        stand_in.ask("PATCH", f"{path}/a", {"data": {"n": str(time.time())}}, headers=patch)
        stand_in.ask("PATCH", f"{path}/a", {"data": {"m": str(time.time())}}, headers=patch)
    assert seen(f"resourceVersion={version}") == [("ERROR", "Expired")]


def test_refusals_and_warnings(stand_in: StandIn, namespace: str) -> None:
    path = f"apis/apps/v1/namespaces/{namespace}/deployments"
    assert requests.get(f"{stand_in.server}/api", verify=str(stand_in.state / "ca.pem"), timeout=5).status_code == 401
    assert (
        stand_in.ask("POST", "apis/apps/v1/namespaces/none/deployments", web("x")).json()["message"]
        == 'namespaces "none" not found'
    )
    made = stand_in.ask("POST", f"{path}?dryRun=All", {**web("x"), "extra": 1})
    assert made.headers["Warning"] == '299 - "unknown field \\"extra\\""'
    assert stand_in.ask("POST", f"{path}?fieldValidation=Strict", {**web("x"), "extra": 1}).status_code == 400
    old = stand_in.ask("POST", path, web("x")).json()
    assert stand_in.ask("POST", path, web("x")).json()["reason"] == "AlreadyExists"
    stale = {**old, "metadata": {**old["metadata"], "resourceVersion": "1"}}
    assert stand_in.ask("PUT", f"{path}/web", stale).json()["reason"] == "Conflict"
    assert stand_in.ask("DELETE", f"{path}/web", {"preconditions": {"uid": "other"}}).status_code == 409
    patched = stand_in.ask(
        "PATCH", f"{path}/web", [{"op": "replace", "path": "/spec/replicas", "value": 0}],
        headers={"Content-Type": "application/json-patch+json"},
    ).json()  # fmt: skip
    assert patched["spec"]["replicas"] == 0 and patched["metadata"]["generation"] == 2
    review = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}}}
    asked = stand_in.ask("POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert asked.json()["status"]["allowed"] is True


def test_a_killed_one_is_cleared_up_by_the_next_of_its_folder(docker_engine: Any, tmp_path: Path, busybox: str) -> None:
    one = StandIn(tmp_path)
    assert one.ask("POST", "apis/apps/v1/namespaces/default/deployments", web(busybox)).status_code == 201
    wait(lambda: len(one.containers()) == 2)
    one.process.kill()
    one.process.communicate()
    one.kubeconfig.unlink()
    again = StandIn(tmp_path)
    assert again.containers() == []
    second = subprocess.run(
        [sys.executable, "-E", "-s", str(ROOT / "scripts/local/kube/main.py"), "--state", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 1 and "already running" in second.stderr
    assert urlsplit(again.server).hostname == "127.0.0.1"
    again.stop()
    assert not again.kubeconfig.exists()
