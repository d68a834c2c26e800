"""Quotas against what a rollout needs, with the arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.releases.test_capacity import deployment, fresh, rollout

from ml_deploy.releases.capacity import quota
from ml_deploy.releases.capacity.packing import Fit
from ml_deploy.releases.capacity.podneeds import requests
from ml_deploy.releases.cluster import Object


def of(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}


@pytest.mark.parametrize(
    "resource, amount", [("pods", "2"), ("requests.cpu", "2"), ("cpu", "2"), ("requests.memory", "2Gi")]
)
def test_more_than_the_whole_quota_never_fits(resource: str, amount: str) -> None:
    (found,) = quota.judge([of({resource: amount})], fresh(deployment(replicas=3)), {})
    assert found.fit is Fit.NO and "the 3 pods of Deployment web need 3" in found.text
    assert quota.judge([of({resource: amount})], fresh(deployment(replicas=2)), {}) == []


def test_a_surge_that_the_quota_does_not_allow_may_stand_still() -> None:
    tight = of({"requests.cpu": "2"}, {"requests.cpu": "2"})
    (found,) = quota.judge([tight], [rollout(replicas=2)], {})
    assert found.fit is Fit.MAYBE
    assert found.text == (
        "ResourceQuota team allows 2 requests.cpu, 2 requests.cpu are used, and one new pod of Deployment web beside the old "
        "ones need 1 requests.cpu."
    )
    (slow,) = quota.judge([tight], [rollout(replicas=2, missing=1)], {})
    assert slow.fit is Fit.YES and "takes longer" in slow.text


def test_a_rollout_without_a_surge_asks_nothing_of_a_quota_that_is_overdrawn() -> None:
    overdrawn = of({"pods": "3"}, {"pods": "4"})
    assert quota.judge([overdrawn], [rollout(replicas=2, surge=0, missing=1)], {})[0].text.startswith(
        "ResourceQuota team allows 3 pods, 4 pods are used, of which the old pods give back 2"
    )


def test_in_the_end_the_old_pods_give_back_what_they_had() -> None:
    grown = rollout(replicas=2, cpu=1)
    assert quota.judge([of({"pods": "4"}, {"pods": "3"})], [grown], {}) == []
    others = of({"requests.cpu": "6"}, {"requests.cpu": "5"})  # two of ours, three of others
    assert quota.judge([others], [rollout(replicas=2)], {}) == []
    more = rollout(replicas=2)
    more.pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1900m"
    (found,) = quota.judge([of({"requests.cpu": "6"}, {"requests.cpu": "4500m"})], [more], {})
    assert found.fit is Fit.MAYBE and "beside the old ones" in found.text


def test_limits_and_extended_resources() -> None:
    app = deployment(extra={"nvidia.com/gpu": "1"})
    app["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] = {"memory": "3Gi", "nvidia.com/gpu": "1"}
    for resource, hard in (("limits.memory", "2Gi"), ("requests.nvidia.com/gpu", "0")):
        (found,) = quota.judge([of({resource: hard})], fresh(app), {})
        assert found.fit is Fit.NO and resource in found.text


@pytest.mark.parametrize(
    "spec, counted",
    [({"scopes": ["BestEffort"]}, False), ({"scopes": ["NotBestEffort"]}, True), ({"scopes": ["Terminating"]}, False),
     ({"scopes": ["NotTerminating"]}, True),
     ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, True),
     ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}}, False)],
    ids=str,
)  # fmt: skip
def test_scopes(spec: Object, counted: bool) -> None:
    app = deployment(priorityClassName="high")
    assert bool(quota.judge([of({"pods": "0"}, **spec)], fresh(app), {})) is counted


def test_objects_are_counted_under_all_their_names() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "LoadBalancer"}}
    made = quota.made_by([service, service], {("v1", "Service"): "services"})
    assert made == {"count/services": 2, "services": 2, "services.nodeports": 2, "services.loadbalancers": 2}
    (found,) = quota.judge([of({"services": "2"}, {"services": "1"})], [], made)
    assert found.text == "ResourceQuota team allows 2 services, 1 are there, and this release makes 2 more."


def test_limit_ranges_fill_in_what_containers_leave_out() -> None:
    rule = {"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "500m", "memory": "1Gi"}}
    bare = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "2Gi"}}}]}}
    filled = quota.with_defaults(bare, [{"spec": {"limits": [rule]}}])
    assert requests(filled["spec"]) == {"cpu": 500, "memory": 2 << 30}
    assert requests(filled["spec"], "limits") == {"cpu": 2000}
    assert quota.with_defaults(bare, []) is bare
