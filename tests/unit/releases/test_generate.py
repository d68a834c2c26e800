"""Generated objects: what is in them, and what keeps requests from failing."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.sources.generate import App, objects


def made(**given: Any) -> dict[str, dict[str, Any]]:
    app = App(name="churn", image="r.io/churn@sha256:0", **given)
    return {one.object["kind"]: one.object for one in objects(app)}


def pod(**given: Any) -> dict[str, Any]:
    found: dict[str, Any] = made(**given)["Deployment"]["spec"]["template"]["spec"]
    return found


def test_a_deployment_a_service_and_a_budget() -> None:
    found = made()
    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget"}
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert found["Deployment"]["spec"]["replicas"] == 2


def test_one_replica_has_no_budget_that_would_block_node_upgrades() -> None:
    assert "PodDisruptionBudget" not in made(replicas=1)


def test_the_service_leads_to_the_pods() -> None:
    found = made(port=9000, service_type="LoadBalancer")
    spec, labels = found["Service"]["spec"], found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert spec["selector"].items() <= labels.items() and spec["type"] == "LoadBalancer"
    assert spec["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert container["ports"][0]["containerPort"] == 9000
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_an_autoscaler_has_the_say_over_replicas() -> None:
    found = made(max_replicas=5, min_replicas=3)
    assert "replicas" not in found["Deployment"]["spec"]
    spec = found["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["scaleTargetRef"]["name"]) == (3, 5, "churn")
    assert made(max_replicas=4)["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2
    assert made(max_replicas=1)["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 1
    assert "PodDisruptionBudget" not in made(max_replicas=4, min_replicas=1)


def test_the_restricted_profile_of_pod_security() -> None:
    spec = pod()
    security = spec["containers"][0]["securityContext"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["automountServiceAccountToken"] is False


def test_pods_leave_after_load_balancers_have_noticed() -> None:
    spec = pod()
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < spec["terminationGracePeriodSeconds"]
    assert made()["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    "path, live",
    [("/v2/health/ready", "/v2/health/live"), ("/m/v2/health/ready", "/m/v2/health/live"), ("/healthz", "/healthz")],
)
def test_probes(path: str, live: str) -> None:
    container = pod(health_path=path)["containers"][0]
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {"startupProbe": path, "readinessProbe": path, "livenessProbe": live}


def test_resources_env_and_gpu() -> None:
    spec = pod(cpu="1", memory="2Gi", gpu=1, env={"A": "b=c"})
    (container,) = spec["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "2Gi"},
        "limits": {"memory": "2Gi", "nvidia.com/gpu": 1},
    }
    assert container["env"] == [{"name": "A", "value": "b=c"}]
    assert {t["key"] for t in spec["tolerations"]} == {"nvidia.com/gpu", "sku"}
    assert "tolerations" not in pod()
