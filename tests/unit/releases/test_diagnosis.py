"""Causes and remedies, on pods and events as kubelets and controllers write them."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.diagnosis import Finding, of_pod, of_pods, of_workload

READY = [{"type": "Ready", "status": "True"}]


def pod(
    name: str = "p", *, spec: dict[str, Any] | None = None, conditions: Any = (), **container: Any
) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Pending", "conditions": list(conditions)}
    if container:
        status["containerStatuses"] = [{"name": "web", "image": "r.azurecr.io/m:1", "restartCount": 0, **container}]
    spec = spec or {"containers": [{"name": "web", "image": "r.azurecr.io/m:1"}]}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": f"u-{name}", "namespace": "ml"},
        "spec": spec,
        "status": status,
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, reason: str = "Error", restarts: int = 1, message: str = "") -> dict[str, Any]:
    last = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return {**waiting("CrashLoopBackOff"), "lastState": last, "restartCount": restarts}


def event(reason: str, message: str, name: str = "p") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"name": name, "uid": f"u-{name}"}}


def only(given: dict[str, Any], *events: dict[str, Any]) -> Finding:
    (found,) = of_pods([given], list(events))
    return found


PULL = 'failed to pull and unpack image "r.azurecr.io/m:1": failed to resolve reference "r.azurecr.io/m:1": '

IMAGES = [
    (PULL + "r.azurecr.io/m:1: not found", 0.0, "does not exist", "was it pushed"),
    (PULL + "manifest unknown", 0.0, "does not exist", "was it pushed"),
    (PULL + "failed to authorize: failed to fetch anonymous token: 401 Unauthorized", None, "refuses", "--attach-acr r"),
    (PULL + "pull access denied, repository does not exist or may require authorization", None, "refuses", "attach-acr"),
    (PULL + 'dial tcp: lookup r.azurecr.io: no such host', None, "cannot be pulled", "reach the registry"),
    ("no match for platform in manifest: not found", 0.0, "architecture", "--platform"),
]  # fmt: skip


@pytest.mark.parametrize("message, grace, cause, remedy", IMAGES)
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_images(reason: str, message: str, grace: float | None, cause: str, remedy: str) -> None:
    found = only(pod(**waiting(reason, message)))
    assert (found.kind, found.grace) == ("image", grace)
    assert cause in found.cause and remedy in found.remedy and "r.azurecr.io/m:1" in found.cause


def test_a_back_off_without_a_word_waits() -> None:
    assert only(pod(**waiting("ImagePullBackOff"))).grace is None


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_names_that_can_never_be_pulled(reason: str) -> None:
    assert only(pod(**waiting(reason))).grace == 0.0


CONFIGS = [
    ('secret "db" not found', 20.0, "missing", "Secret db does not exist"),
    ('configmap "conf" not found', 20.0, "missing", "ConfigMap conf does not exist"),
    ("couldn't find key url in Secret ml/db", 20.0, "config", "Secret ml/db has no key url"),
    ("container has runAsNonRoot and image will run as root", 0.0, "config", "may not run as root"),
    ("failed to create containerd task: exec: \"serve\": not found", 20.0, "config", "cannot be started"),
]  # fmt: skip


@pytest.mark.parametrize("message, grace, kind, cause", CONFIGS)
def test_configuration(message: str, grace: float, kind: str, cause: str) -> None:
    found = only(pod(**waiting("CreateContainerConfigError", message)))
    assert (found.kind, found.grace) == (kind, grace) and cause in found.cause


def test_a_crash_is_told_and_hopeless_after_three() -> None:
    first, third = only(pod(**ended(1))), only(pod(**ended(1, restarts=3)))
    assert first.grace is None and third.grace == 0.0
    assert "exit code 1 (restarted 1 time)" in first.cause and "(restarted 3 times)" in third.cause
    assert (third.container, third.previous, third.pod, third.namespace) == ("web", True, "p", "ml")


def test_a_crash_while_it_runs_again() -> None:
    running: dict[str, Any] = {
        "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "Error"}},
        "restartCount": 1,
    }
    assert "liveness probe" in only(pod(**running)).cause


def test_out_of_memory_names_the_limit() -> None:
    spec = {"containers": [{"name": "web", "resources": {"limits": {"memory": "128Mi"}}}]}
    found = only(pod(spec=spec, **ended(137, "OOMKilled")))
    assert found.kind == "oom" and "128Mi" in found.cause and "memory" in found.remedy
    child = only(pod(spec=spec, **ended(137, "Error")))
    assert child.kind == "oom" and "most likely for using more than its limit of 128Mi" in child.cause
    spec["containers"][0]["livenessProbe"] = {}
    assert only(pod(spec=spec, **ended(137, "Error"))).kind == "crash", "the probe may have killed it"


def test_a_server_that_ends_by_itself() -> None:
    assert "ended though it should serve" in only(pod(**ended(0, "Completed"))).cause


def test_a_pod_that_is_never_restarted_is_hopeless_at_once() -> None:
    spec = {"restartPolicy": "Never", "containers": [{"name": "web"}]}
    dead: dict[str, Any] = {"state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    assert only(pod(spec=spec, **dead)).grace == 0.0 and "restarted" not in only(pod(spec=spec, **dead)).cause


UNSCHEDULABLE = [
    ("0/3 nodes are available: 3 Insufficient memory.", "Lower its requests"),
    ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "GPU"),
    ("0/3 nodes are available: 3 node(s) had untolerated taint {sku: gpu}.", "toleration"),
    ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "selector"),
    (
        "0/3 nodes are available: 1 node(s) had untolerated taint {sku: gpu}, 2 Insufficient nvidia.com/gpu.",
        "toleration",
    ),
    ('persistentvolumeclaim "data" not found', "claim"),
]


@pytest.mark.parametrize("message, remedy", UNSCHEDULABLE)
def test_unschedulable_waits_for_an_autoscaler(message: str, remedy: str) -> None:
    unfit = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    found = only(pod(conditions=unfit))
    assert found.grace is None and message in found.cause and remedy in found.remedy


def test_what_the_autoscaler_said() -> None:
    unfit = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: Insufficient cpu"}])
    refused = only(unfit, event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"))
    coming = only(unfit, event("TriggeredScaleUp", "pod triggered scale-up: [{gpu 0->1}]"))
    assert refused.grace == 30.0 and "max node group size" in refused.cause
    assert coming.grace is None and "adding nodes" in coming.remedy


@pytest.mark.parametrize(
    "message, remedy",
    [
        ('Usage of EmptyDir volume "cache" exceeds the limit "1Mi". ', "sizeLimit"),
        ('Container web exceeded its local ephemeral storage limit "1Mi". ', "ephemeral-storage"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ", "Write less"),
        ("The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. Container web was using 500Mi, "
         "request is 64Mi, has larger consumption of memory. ", "Request as much as the pod uses"),
    ],
)  # fmt: skip
def test_evicted(message: str, remedy: str) -> None:
    found = only({**pod(), "status": {"phase": "Failed", "reason": "Evicted", "message": message}})
    assert (found.kind, found.pod) == ("evicted", "p") and message[:30] in found.cause and remedy in found.remedy


def test_events_tell_of_volumes_and_probes() -> None:
    spec = {"containers": [{"name": "web", "readinessProbe": {"httpGet": {"path": "/h", "port": 8000}}}]}
    creating = pod(spec=spec, **waiting("ContainerCreating"))
    missing = only(
        creating, event("FailedMount", 'MountVolume.SetUp failed for volume "c": configmap "conf" not found')
    )
    assert (missing.kind, missing.grace) == ("missing", 20.0)
    assert only(creating, event("FailedMount", "timed out")).grace is None
    probe = only(
        pod(spec=spec, state={"running": {}}),
        event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
    )
    assert probe.kind == "probe" and "GET /h on port 8000" in probe.cause and "503" in probe.cause


def test_what_delayed_the_start_is_over_once_a_container_has_started() -> None:
    mount = event("FailedMount", 'MountVolume.SetUp failed for volume "c": secret "conf" not found')
    delays = [event("FailedCreatePodSandBox", "no address is free"), mount]
    assert [one.kind for one in of_pods([pod(**waiting("ContainerCreating"))], delays)] == ["missing"]
    assert list(of_pods([pod(state={"running": {}})], delays)) == []
    initialized = pod(**waiting("PodInitializing"))
    initialized["status"]["initContainerStatuses"] = [{"name": "fetch", "state": {"running": {}}}]
    assert list(of_pods([initialized], delays)) == []
    assert only(pod(state={"running": {}}), event("Unhealthy", "Startup probe failed: x"), mount).kind == "probe"


def test_an_init_container_that_succeeded_after_crashes_is_no_trouble() -> None:
    crash = {"terminated": {"exitCode": 1, "reason": "Error"}}
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    loading = pod(state={"running": {}})
    fetch = {"name": "fetch", "restartCount": 3, "lastState": crash}
    loading["status"]["initContainerStatuses"] = [{**fetch, "state": done, "ready": True}]
    assert list(of_pod(loading)) == []
    loading["status"]["initContainerStatuses"] = [{**fetch, "state": crash}]
    assert only(loading).grace == 0.0


def test_events_of_other_pods_do_not_count() -> None:
    assert list(of_pods([pod(state={"running": {}})], [event("Unhealthy", "Readiness probe failed: x", "other")])) == []


def test_ready_and_leaving_pods_have_no_troubles() -> None:
    ready = pod(conditions=READY, **ended(1, restarts=9))
    leaving = pod(**ended(1, restarts=9))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert list(of_pod(ready)) == list(of_pod(leaving)) == []


def test_the_worst_of_each_kind_comes_first() -> None:
    found = of_pods(
        [pod("a", **ended(1)), pod("b", **ended(1, restarts=5)), pod("c", **waiting("InvalidImageName"))], []
    )
    assert [(f.kind, f.where, f.grace) for f in found] == [("crash", "Pod b", 0.0), ("image", "Pod c", 0.0)]


WORKLOADS = [
    ('pods "x" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=3, limited: cpu=4', "quota", 20.0),
    ('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', "admission", 0.0),
    ('pods "x" is forbidden: error looking up service account ml/sa: serviceaccount "sa" not found', "missing", 20.0),
    ('admission webhook "validate.kyverno.svc" denied the request: no', "admission", 20.0),
    ("Internal error occurred", "admission", None),
]


@pytest.mark.parametrize("message, kind, grace", WORKLOADS)
def test_workloads_that_cannot_make_pods(message: str, kind: str, grace: float | None) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    obj = {"kind": "Deployment", "metadata": {"name": "web"}, "status": {"conditions": [failure]}}
    (found,) = of_workload(obj)
    assert (found.kind, found.grace, found.where) == (kind, grace, "Deployment web")
    (told,) = of_workload({"kind": "StatefulSet", "metadata": {"name": "web"}}, [event("FailedCreate", message)])
    assert told.kind == kind


def test_pods_that_were_made_since_end_the_trouble() -> None:
    failed, made = event("FailedCreate", WORKLOADS[0][0]), event("SuccessfulCreate", "create Pod web-0 successful")
    obj = {"kind": "StatefulSet", "metadata": {"name": "web"}}
    assert list(of_workload(obj, [failed, made])) == []
    assert [one.kind for one in of_workload(obj, [made, failed])] == ["quota"]


def test_a_workload_without_trouble() -> None:
    assert list(of_workload({"kind": "Deployment", "metadata": {"name": "web"}, "status": {}})) == []
