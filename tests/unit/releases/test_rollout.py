"""Verdicts on objects as API servers have them."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.rollout import Done, Stuck, Verdict, Waiting, verdict, waited_for


def obj(
    kind: str, spec: dict[str, Any] | None = None, generation: int = 2, api: str = "apps/v1", **status: Any
) -> dict[str, Any]:
    status.setdefault("observedGeneration", 2)
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "x", "generation": generation},
            "spec": spec or {}, "status": status}  # fmt: skip


def conditions(**by_type: tuple[str, str]) -> list[dict[str, str]]:
    return [{"type": name, "status": s, "reason": r, "message": f"{r} said"} for name, (s, r) in by_type.items()]


THREE: dict[str, Any] = {"replicas": 3}
FULL: dict[str, Any] = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}

CASES: list[tuple[dict[str, Any], Verdict]] = [
    (obj("Deployment", THREE, **FULL), Done("3 of 3 ready")),
    (obj("Deployment", {}, replicas=1, updatedReplicas=1, availableReplicas=1), Done("1 of 1 ready")),
    (obj("Deployment", THREE, generation=3, **FULL), Waiting("its controller has not seen the change yet")),
    (obj("Deployment", THREE, **{**FULL, "updatedReplicas": 1}), Waiting("1 of 3 new pods made")),
    (obj("Deployment", THREE, **{**FULL, "replicas": 4}), Waiting("1 old pod still to go")),
    (obj("Deployment", THREE, **{**FULL, "availableReplicas": 2}), Waiting("2 of 3 new pods available")),
    (
        obj("Deployment", THREE, updatedReplicas=0, conditions=conditions(ReplicaFailure=("True", "FailedCreate"))),
        Waiting("0 of 3 new pods made: FailedCreate said"),
    ),
    (
        obj("Deployment", THREE, conditions=conditions(Progressing=("False", "ProgressDeadlineExceeded"))),
        Waiting("0 of 3 new pods made; no progress within its progressDeadlineSeconds (600 s)"),
    ),
    (obj("StatefulSet", THREE, **FULL, currentRevision="b", updateRevision="b"), Done("3 of 3 ready")),
    (obj("StatefulSet", THREE, **{**FULL, "readyReplicas": 2}), Waiting("2 of 3 pods ready")),
    (obj("StatefulSet", THREE, **{**FULL, "updatedReplicas": 2}), Waiting("2 of 3 pods updated")),
    (
        obj("StatefulSet", THREE, **FULL, currentRevision="a", updateRevision="b"),
        Waiting("waiting for the last pods to be updated"),
    ),
    (
        obj("StatefulSet", {**THREE, "updateStrategy": {"rollingUpdate": {"partition": 2}}}, **{**FULL, "updatedReplicas": 1}),
        Done("3 of 3 ready, 1 of the new version (partition 2)"),
    ),
    (
        obj("StatefulSet", {**THREE, "updateStrategy": {"type": "OnDelete"}}, **{**FULL, "updatedReplicas": 0}),
        Done("3 of 3 ready, 0 of the new version (OnDelete)"),
    ),
    (obj("StatefulSet", {**THREE, "updateStrategy": {"type": "OnDelete"}}, readyReplicas=1), Waiting("1 of 3 pods ready")),
    (obj("ReplicaSet", THREE, readyReplicas=2), Waiting("2 of 3 pods ready")),
    (obj("ReplicaSet", THREE, readyReplicas=3), Done("3 of 3 ready")),
    (
        obj("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, desiredNumberScheduled=2, numberAvailable=2),
        Done("2 of 2 ready, 0 of the new version (OnDelete)"),
    ),
    (
        obj("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, desiredNumberScheduled=2, numberAvailable=1),
        Waiting("1 of 2 pods available"),
    ),
    (
        obj("DaemonSet", desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=2),
        Done("2 of 2 ready"),
    ),
    (obj("DaemonSet", desiredNumberScheduled=2, updatedNumberScheduled=1), Waiting("1 of 2 pods updated")),
    (
        obj("DaemonSet", desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=1),
        Waiting("1 of 2 pods available"),
    ),
    (obj("Job", conditions=conditions(Complete=("True", "")), api="batch/v1"), Done("complete")),
    (obj("Job", api="batch/v1", succeeded=0), Waiting("0 of 1 completed")),
    (
        obj("Job", conditions=conditions(Failed=("True", "BackoffLimitExceeded")), api="batch/v1"),
        Stuck("it failed: BackoffLimitExceeded said"),
    ),
    (obj("Pod", phase="Running", conditions=conditions(Ready=("True", "")), api="v1"), Done("ready")),
    (obj("Pod", phase="Running", conditions=conditions(Ready=("False", "")), api="v1"), Waiting("it is Running, not ready")),
    (obj("Pod", phase="Failed", message="out of disk", api="v1"), Stuck("it failed: out of disk")),
    (obj("Service", {"type": "ClusterIP"}, api="v1"), Done("")),
    (obj("Service", {"type": "LoadBalancer"}, api="v1"), Waiting("its load balancer has no address yet")),
    (
        obj("Service", {"type": "LoadBalancer"}, api="v1", loadBalancer={"ingress": [{"ip": "10.0.0.1"}]}),
        Done("10.0.0.1"),
    ),
    (obj("InferenceService", conditions=conditions(Ready=("True", "")), api="serving.kserve.io/v1beta1"), Done("ready")),
    (
        obj("InferenceService", conditions=conditions(Ready=("False", "NoImage")), api="serving.kserve.io/v1beta1"),
        Waiting("not ready: NoImage said"),
    ),
    (obj("Rollout", phase="Progressing", message="1 of 2", api="argoproj.io/v1alpha1"), Waiting("its phase is Progressing: 1 of 2")),
    (obj("Rollout", phase="Healthy", api="argoproj.io/v1alpha1"), Done("")),
    (obj("Rollout", phase="Healthy", observedGeneration="0", api="argoproj.io/v1alpha1"), Waiting("its controller has not seen the change yet")),
    (obj("CustomResourceDefinition", conditions=conditions(Established=("True", ""))), Done("established")),
    (obj("ConfigMap", api="v1"), Done("")),
]  # fmt: skip


@pytest.mark.parametrize("given, expected", CASES, ids=lambda v: v["kind"] if isinstance(v, dict) else "")
def test_verdicts(given: dict[str, Any], expected: Verdict) -> None:
    assert verdict(given) == expected


def test_a_paused_deployment_will_not_go_on_by_itself() -> None:
    found = verdict(obj("Deployment", {**THREE, "paused": True}, **FULL))
    assert isinstance(found, Stuck) and "resume" in found.hint


@pytest.mark.parametrize(
    "kind, api, spec, expected",
    [
        ("Deployment", "apps/v1", {}, True), ("ConfigMap", "v1", {}, False), ("Service", "v1", {}, False),
        ("Service", "v1", {"type": "LoadBalancer"}, True), ("CronJob", "batch/v1", {}, False),
        ("InferenceService", "serving.kserve.io/v1beta1", {}, True), ("Role", "rbac.authorization.k8s.io/v1", {}, False),
    ],
)  # fmt: skip
def test_what_is_waited_for(kind: str, api: str, spec: dict[str, Any], expected: bool) -> None:
    assert waited_for(obj(kind, spec, api=api)) is expected
