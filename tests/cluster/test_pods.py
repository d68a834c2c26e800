"""What becomes of pods, as users and deploy-aks see it: the stand-in must agree with a real node."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.apps import service, web

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object, Ref


def wait(true: Callable[[], Any], seconds: float = 40) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.2)
    return found


def pods(cluster: ApiServer) -> list[Object]:
    return cluster.list("v1", "Pod", cluster.namespace)


def state(cluster: ApiServer) -> Any:
    """The first container's status of the first pod."""
    found = pods(cluster)
    return ((found[0].get("status") or {}).get("containerStatuses") or [{}])[0] if found else {}


def why(cluster: ApiServer) -> str:
    return str((state(cluster).get("state", {}).get("waiting") or {}).get("reason", ""))


def events(cluster: ApiServer, reason: str) -> list[str]:
    return [one["message"] for one in cluster.list("v1", "Event", cluster.namespace) if one["reason"] == reason]


def shape(app: Object, **container: Any) -> Object:
    app["spec"]["template"]["spec"]["containers"][0].update(container)
    return app


def test_a_crash_loop(cluster: ApiServer, busybox: str) -> None:
    cluster.create(
        shape(web(busybox), command=["/bin/sh", "-c", "echo no model; echo gone > /dev/termination-log; exit 3"])
    )
    wait(lambda: why(cluster) == "CrashLoopBackOff")
    found = state(cluster)
    assert found["lastState"]["terminated"]["exitCode"] == 3 and found["lastState"]["terminated"]["reason"] == "Error"
    assert found["lastState"]["terminated"]["message"] == "gone\n"
    assert found["restartCount"] >= 1 and not found["ready"] and not found["started"]
    assert found["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=web pod=web-")
    (pod,) = pods(cluster)
    ready = {one["type"]: one for one in pod["status"]["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert pod["status"]["phase"] == "Running"
    assert cluster.logs(cluster.namespace, pod["metadata"]["name"], "web", previous=True).strip() == "no model"
    assert any("Back-off restarting failed container web" in message for message in events(cluster, "BackOff"))


@pytest.mark.parametrize(
    ("container", "reason", "event"),
    [
        ({"image": "localhost:1/none:1"}, "ImagePullBackOff", 'Failed to pull image "localhost:1/none:1"'),
        ({"image": "not an image"}, "InvalidImageName", "InvalidImageName"),
        ({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]},
         "CreateContainerConfigError", 'configmap "none" not found'),
        ({"securityContext": {"runAsNonRoot": True}}, "CreateContainerConfigError", "image will run as root"),
    ],
)  # fmt: skip
def test_a_container_that_waits_says_why(
    cluster: ApiServer, busybox: str, container: dict[str, Any], reason: str, event: str
) -> None:
    cluster.create(shape(web(busybox), **container))
    wait(lambda: why(cluster) == reason)
    said = events(cluster, "Failed") + events(cluster, "InspectFailed")
    assert any(event in message for message in said), said
    assert pods(cluster)[0]["status"]["phase"] == "Pending"


def test_a_pod_that_fits_nowhere(cluster: ApiServer, busybox: str) -> None:
    cluster.create(shape(web(busybox), resources={"limits": {"nvidia.com/gpu": "1"}}))

    def unscheduled() -> list[Object]:
        conditions = [one for pod in pods(cluster) for one in (pod.get("status") or {}).get("conditions") or []]
        return [one for one in conditions if (one["type"], one["status"]) == ("PodScheduled", "False")]

    (condition,) = wait(unscheduled)
    assert condition["reason"] == "Unschedulable"
    assert re.match(r"0/\d+ nodes are available: \d+ Insufficient nvidia.com/gpu", condition["message"])
    assert events(cluster, "FailedScheduling")


def test_environment_volumes_and_users(cluster: ApiServer, busybox: str) -> None:
    cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"A": "1", "file": "text"}}
    )
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"KEY": "hidden"}})
    script = (
        "echo $A $KEY $NAME $(COPY) '$$(COPY)' `/bin/busybox cat /etc/c/file` `/bin/busybox id -u`; "
        "/bin/busybox touch /x 2>/dev/null || echo read-only; exec /bin/busybox sleep 60"
    )
    container = {
        "command": ["/bin/sh", "-c", script],
        "envFrom": [{"configMapRef": {"name": "c"}}, {"configMapRef": {"name": "none", "optional": True}}],
        "env": [
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "KEY"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "COPY", "value": "of-$(KEY)"},
        ],
        "volumeMounts": [{"name": "c", "mountPath": "/etc/c"}],
        "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1234},
    }
    app = shape(web(busybox), **container)
    del app["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    app["spec"]["template"]["spec"]["volumes"] = [{"name": "c", "configMap": {"name": "c"}}]
    cluster.create(app)
    wait(lambda: state(cluster).get("ready"))
    name = pods(cluster)[0]["metadata"]["name"]
    said = wait(lambda: cluster.logs(cluster.namespace, name, "web")).splitlines()
    assert said[0].split() == ["1", "hidden", name, "of-hidden", "$(COPY)", "text", "1234"], said
    assert said[-1] == "read-only"


def test_what_the_proxy_says(cluster: ApiServer, busybox: str) -> None:
    cluster.create(service())
    time.sleep(0.5)
    refused = cluster.ask(cluster.namespace, "services/web:80", "GET", "/")
    message = json.loads(refused.body)["message"]
    assert (refused.status, message) == (503, 'no endpoints available for service "web"')
    cluster.create(web(busybox))
    wait(lambda: state(cluster).get("ready"))
    pod = pods(cluster)[0]["metadata"]["name"]
    assert cluster.ask(cluster.namespace, f"pods/{pod}:8080", "GET", "/none").status == 404
    assert cluster.ask(cluster.namespace, f"pods/{pod}:8080", "GET", "/cgi-bin/predict").status == 200
    served = wait(
        lambda: [
            one for one in cluster.list("discovery.k8s.io/v1", "EndpointSlice", cluster.namespace) if one["endpoints"]
        ]
    )
    (endpoint,) = served[0]["endpoints"]
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert endpoint["targetRef"]["name"] == pod and served[0]["ports"][0]["port"] == 8080
    refused = cluster.ask(cluster.namespace, f"pods/{pod}:81", "GET", "/")
    assert refused.status == 503 and b"error trying to reach service" in refused.body


def test_a_deletion_waits_for_the_hook_and_takes_dependents(cluster: ApiServer, busybox: str) -> None:
    app = shape(web(busybox), lifecycle={"preStop": {"sleep": {"seconds": 3}}})
    app["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 10
    cluster.create(service())
    cluster.create(app)
    wait(lambda: state(cluster).get("ready"))
    assert cluster.delete(Ref("apps/v1", "Deployment", cluster.namespace, "web"))
    (pod,) = wait(lambda: [one for one in pods(cluster) if "deletionTimestamp" in one["metadata"]])
    begin = time.monotonic()
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 10
    answer = cluster.ask(cluster.namespace, f"pods/{pod['metadata']['name']}:8080", "GET", "/cgi-bin/predict")
    assert answer.status == 200, "it still serves those who know it"

    def ready() -> list[bool]:
        slices = cluster.list("discovery.k8s.io/v1", "EndpointSlice", cluster.namespace)
        return [one["conditions"]["ready"] for slice_ in slices for one in slice_["endpoints"] or []]

    wait(lambda: not any(ready()), 2)
    assert time.monotonic() - begin < 2.5, "out of traffic before it is stopped"
    wait(lambda: not pods(cluster))
    assert time.monotonic() - begin > 1.5
    assert cluster.list("apps/v1", "ReplicaSet", cluster.namespace) == []


def test_a_deadline_passes_and_a_new_template_begins_anew(cluster: ApiServer, busybox: str) -> None:
    app = web(busybox, pull="localhost:1/none:1")
    app["spec"] |= {"progressDeadlineSeconds": 2, "revisionHistoryLimit": 1}
    cluster.apply(app)
    ref = Ref("apps/v1", "Deployment", cluster.namespace, "web")

    def progressing() -> Any:
        status = (cluster.get(ref) or {}).get("status") or {}
        return {one["type"]: one for one in status.get("conditions") or []}.get("Progressing", {})

    wait(lambda: progressing().get("reason") == "ProgressDeadlineExceeded")
    assert progressing()["status"] == "False" and progressing()["message"].endswith("has timed out progressing.")
    good = web(busybox)
    good["spec"] |= {"progressDeadlineSeconds": 20, "revisionHistoryLimit": 1}
    cluster.apply(good)
    wait(lambda: progressing().get("reason") == "NewReplicaSetAvailable")
    found = cluster.get(ref)
    assert found and found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    status = {key: value for key, value in found["status"].items() if key not in ("conditions", "terminatingReplicas")}
    assert status == {
        "observedGeneration": 2,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
    }
    sets = cluster.list("apps/v1", "ReplicaSet", cluster.namespace)
    assert sorted(one["spec"]["replicas"] for one in sets) == [0, 1]
    hashes = {one["metadata"]["labels"]["pod-template-hash"] for one in sets}
    assert (
        all(one["metadata"]["name"] == f"web-{one['metadata']['labels']['pod-template-hash']}" for one in sets)
        and len(hashes) == 2
    )
