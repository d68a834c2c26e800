"""Blue-green: a second set of pods, asked before the Services are switched; the way back is one patch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.cluster.apps import config, service, web
from tests.cluster.deploying import deploy as rolled
from tests.cluster.deploying import good, states
from tests.cluster.releasing import Failed, names, release, serves

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases import restore
from ml_deploy.releases.cluster import Object, Ref
from ml_deploy.releases.records import Records
from ml_deploy.releases.wait import Until, wait_ready


@contextmanager
def fails(reason: str) -> Iterator[None]:
    with pytest.raises(Failed) as caught:
        yield
    assert caught.value.error.reason == reason, caught.value
    assert not caught.value.progress.problem


def roll_back(cluster: ApiServer, to: int | None = None) -> restore.Restored:
    records = Records(cluster, cluster.namespace, "web", clock=time)
    history, current = records.all(), records.current()
    assert current
    target = restore.choose(history, current) if to is None else restore.named(history, to)

    ready = Until(cluster, time.monotonic() + 30, clock=time, tell=print)
    return restore.restore(cluster, records, target, current, wait=ready, tell=print)


def test_good_to_good(cluster: ApiServer, busybox: str) -> None:
    first = release(cluster, service(), web(busybox, answer="v1", replicas=2), answer="v1")
    assert first.release and (first.release.state, first.release.strategy) == ("good", "blue-green")
    assert serves(cluster) == "v1" and names(cluster) == ["web-blue"]
    second = release(cluster, service(), web(busybox, answer="v2", replicas=2), answer="v2")
    assert second.release and second.release.state == "good"
    assert serves(cluster) == "v2" and names(cluster) == ["web-blue", "web-green"]
    release(cluster, service(), web(busybox, answer="v3", replicas=2), answer="v3", keep_old=1.0)
    assert serves(cluster) == "v3" and names(cluster) == ["web-blue"]
    assert states(cluster) == {1: "superseded", 2: "superseded", 3: "good"}
    assert roll_back(cluster, to=1).release.revision == 1  # two back: of the same colour as what is live
    assert serves(cluster) == "v1" and names(cluster) == ["web-blue"]


def test_good_to_bad_to_bad_to_good(cluster: ApiServer, busybox: str) -> None:
    release(cluster, service(), web(busybox, answer="v1"), answer="v1")
    for _ in range(2):
        with fails("wrong-answers"):
            release(cluster, service(), web(busybox, answer="bad"), answer="v2")
        assert serves(cluster) == "v1" and names(cluster) == ["web-blue"]
    release(cluster, service(), web(busybox, answer="v2"), answer="v2")
    assert serves(cluster) == "v2" and states(cluster) == {1: "superseded", 2: "failed", 3: "failed", 4: "good"}


def test_a_first_release_that_is_bad_leaves_nothing_behind(cluster: ApiServer, busybox: str) -> None:
    with fails("wrong-answers"):
        release(
            cluster, service(), config("settings", a="1"), uses(web(busybox, answer="bad"), "settings"), answer="v1"
        )
    assert names(cluster) == names(cluster, "Service", "v1") == []
    assert names(cluster, "ConfigMap", "v1") == ["kube-root-ca.crt"]
    release(cluster, service(), web(busybox, answer="v1"), answer="v1")
    assert serves(cluster) == "v1"


def test_failure_before_promotion(cluster: ApiServer, busybox: str) -> None:
    """The new colour never gets ready: users do not notice. Asked to `keep`, it stays to be looked at."""
    release(cluster, service(), web(busybox, answer="v1"), answer="v1")
    with fails("rollout"):
        release(cluster, service(), web(busybox, crash=True), answer="v2", rollback_timeout=None, seconds=4)
    assert serves(cluster) == "v1" and names(cluster) == ["web-blue", "web-green"]
    with fails("rollout"):
        release(cluster, service(), web(busybox, crash=True), answer="v2", seconds=3)
    assert serves(cluster) == "v1" and names(cluster) == ["web-blue"]


def test_failure_after_promotion(cluster: ApiServer, busybox: str) -> None:
    """It gets ready, answers rightly, is switched to, and fails while it is watched: the old colour serves again."""
    release(cluster, service(), web(busybox, answer="v1"), answer="v1")
    with pytest.raises(Failed) as caught:
        release(cluster, service(), fading(web(busybox, answer="v2"), 5), answer="v2", stable_for=30.0, seconds=40)
    assert caught.value.progress.rolled_back_to and caught.value.progress.rolled_back_to.revision == 1
    assert serves(cluster) == "v1" and names(cluster) == ["web-blue"]
    assert states(cluster) == {1: "good", 2: "rolled-back"}


def test_another_number_of_replicas_at_once(cluster: ApiServer, busybox: str) -> None:
    release(cluster, service(), web(busybox, answer="v1", replicas=1), answer="v1")
    release(cluster, service(), web(busybox, answer="v2", replicas=3), answer="v2")
    live = cluster.get(Ref("apps/v1", "Deployment", cluster.namespace, "web-green"))
    assert live and live["status"]["readyReplicas"] == 3 and serves(cluster) == "v2"
    roll_back(cluster)
    assert serves(cluster) == "v1" and names(cluster) == ["web-blue"]


def test_two_apps_in_one_namespace(cluster: ApiServer, busybox: str) -> None:
    for version in ("v1", "v2"):
        for app in ("web", "other"):
            release(
                cluster, service(app), web(busybox, app, answer=f"{app} {version}"), answer=f"{app} {version}", app=app
            )
    assert serves(cluster) == "web v2" and serves(cluster, "other") == "other v2"
    assert names(cluster) == ["other-blue", "other-green", "web-blue", "web-green"]


def test_adoption_and_back(cluster: ApiServer, busybox: str) -> None:
    """An app without colours serves until the switch, and can be gone back to, its configuration as it was."""
    for obj in (config("settings", mode="old"), service(), uses(web(busybox, answer="v0"), "settings")):
        cluster.create({**obj, "metadata": {**obj["metadata"], "namespace": cluster.namespace}})
    plain = cluster.get(Ref("apps/v1", "Deployment", cluster.namespace, "web"))
    assert plain
    wait_ready(cluster, [plain], seconds=30, clock=time, tell=print)
    with fails("wrong-answers"):
        release(
            cluster,
            config("settings", mode="new"),
            service(),
            uses(web(busybox, answer="bad"), "settings"),
            answer="v1",
        )
    assert serves(cluster) == "v0" and names(cluster) == ["web"]
    release(
        cluster, config("settings", mode="new"), service(), uses(web(busybox, answer="v1"), "settings"), answer="v1"
    )
    assert serves(cluster) == "v1" and names(cluster) == ["web", "web-blue"]
    assert mode(cluster, "settings") == "old" and mode(cluster, "settings-blue") == "new"
    assert roll_back(cluster, to=0).release.revision == 0
    assert serves(cluster) == "v0" and names(cluster) == ["web"]
    release(
        cluster, config("settings", mode="new"), service(), uses(web(busybox, answer="v1"), "settings"), answer="v1"
    )
    release(
        cluster, config("settings", mode="next"), service(), uses(web(busybox, answer="v2"), "settings"), answer="v2"
    )
    assert serves(cluster) == "v2" and names(cluster) == ["web-blue", "web-green"]
    assert mode(cluster, "settings-blue") == "new" and mode(cluster, "settings-green") == "next"


def test_adoption_of_an_app_by_another_name(cluster: ApiServer, busybox: str) -> None:
    """What the Service leads to is what users would miss, whatever it is called."""
    old = web(busybox, answer="v0")
    old["metadata"]["name"] = "made-by-hand"
    created = [cluster.create({**o, "metadata": {**o["metadata"], "namespace": cluster.namespace}}).object
               for o in (service(), old)]  # fmt: skip
    wait_ready(cluster, created, seconds=30, clock=time, tell=print)
    release(cluster, service(), web(busybox, answer="v1"), answer="v1")
    assert serves(cluster) == "v1" and names(cluster) == ["made-by-hand", "web-blue"]
    assert roll_back(cluster, to=0).release.revision == 0
    assert serves(cluster) == "v0" and names(cluster) == ["made-by-hand"]


def test_other_labels_in_each_release(cluster: ApiServer, busybox: str) -> None:
    """A selector cannot be changed, but a colour is made anew each time."""
    for version in ("v1", "v2", "v3"):
        app, leads = web(busybox, answer=version), service()
        for labels in (app["spec"]["selector"]["matchLabels"], app["spec"]["template"]["metadata"]["labels"],
                       leads["spec"]["selector"]):  # fmt: skip
            labels["version"] = version
        release(cluster, leads, app, answer=version)
        assert serves(cluster) == version


def test_from_rolling_to_blue_green_and_back(cluster: ApiServer, busybox: str) -> None:
    good(cluster, rolled(cluster, service(), web(busybox, answer="v1")))
    release(cluster, service(), web(busybox, answer="v2"), answer="v2")
    assert serves(cluster) == "v2" and names(cluster) == ["web", "web-blue"]
    release(cluster, service(), web(busybox, answer="v3"), answer="v3", strategy="rolling")
    assert serves(cluster) == "v3" and names(cluster) == ["web"]
    assert roll_back(cluster).release.revision == 2  # the colour is gone: it is made ready before the Service follows
    assert serves(cluster) == "v2" and names(cluster) == ["web-blue"]
    assert roll_back(cluster, to=1).release.revision == 1
    assert serves(cluster) == "v1" and names(cluster) == ["web"]


def test_several_services_and_what_has_no_colour(cluster: ApiServer, busybox: str) -> None:
    """A headless Service is switched, too; a workload behind no Service is updated in its place, after the switch."""
    headless = service("peers")
    headless["spec"] |= {"clusterIP": "None", "selector": {"app": "web"}}
    for version in ("v1", "v2"):
        worker = web(busybox, "worker", answer=version)
        release(cluster, service(), headless, web(busybox, answer=version), worker, answer=version)
        assert serves(cluster) == serves_directly(cluster, "worker") == version
    found = cluster.list("v1", "Service", cluster.namespace)
    assert [one["spec"]["selector"]["app"] for one in found] == ["web-green", "web-green"]
    assert names(cluster) == ["web-blue", "web-green", "worker"]


def test_what_cannot_be_blue_green_is_refused(cluster: ApiServer, busybox: str) -> None:
    stateful = {**web(busybox), "kind": "StatefulSet"}
    with pytest.raises(Failed, match="StatefulSet web cannot be deployed blue-green: its pods have names"):
        release(cluster, service(), stateful)
    with pytest.raises(Failed, match="nothing to switch"):
        release(cluster, web(busybox))
    stranger = {**service("all"), "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    cluster.create({**stranger, "metadata": {"name": "all", "namespace": cluster.namespace}})
    with pytest.raises(Failed, match="Service all: goes by the pods of this release"):
        release(cluster, service(), web(busybox))
    assert states(cluster) == {}


def fading(deployment: Object, seconds: int) -> Object:
    """Ready at first, and not any more after some seconds."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["command"][2] = f"(/bin/busybox sleep {seconds}; echo > /tired) & " + container["command"][2]
    container["readinessProbe"] = {"exec": {"command": ["/bin/busybox", "test", "!", "-e", "/tired"]}, "periodSeconds": 1,
                                   "failureThreshold": 1}  # fmt: skip
    return deployment


def uses(deployment: Object, settings: str) -> Object:
    """The app with a config map in its environment."""
    deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": settings}}]
    return deployment


def mode(cluster: ApiServer, name: str) -> str:
    found = cluster.get(Ref("v1", "ConfigMap", cluster.namespace, name))
    return str(found["data"]["mode"]) if found else "none"


def serves_directly(cluster: ApiServer, app: str) -> str:
    """What a pod behind no Service was told to answer."""
    (live,) = [d for d in cluster.list("apps/v1", "Deployment", cluster.namespace) if d["metadata"]["name"] == app]
    body = live["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    return str(json.loads(body)["prediction"])


@pytest.mark.real_kubernetes
def test_the_autoscaler_keeps_its_say(cluster: ApiServer, busybox: str) -> None:
    """The new colour starts with as many pods as the autoscaler has made of the old one; so does the way back."""
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
              "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                       "minReplicas": 1, "maxReplicas": 5}}  # fmt: skip
    release(cluster, service(), web(busybox, answer="v1", replicas=1), scaler, answer="v1")
    for colour, number, version in (("blue", 3, "v2"), ("green", 4, "")):
        cluster.patch(Ref("apps/v1", "Deployment", cluster.namespace, f"web-{colour}"), {"spec": {"replicas": number}})
        if version:
            release(cluster, service(), web(busybox, answer=version, replicas=1), scaler, answer=version)
        else:
            roll_back(cluster)
        (leads,) = {s["spec"]["selector"]["app"] for s in cluster.list("v1", "Service", cluster.namespace)}
        live = cluster.get(Ref("apps/v1", "Deployment", cluster.namespace, leads))
        moved = cluster.get(Ref("autoscaling/v2", "HorizontalPodAutoscaler", cluster.namespace, "web"))
        assert live and live["status"]["readyReplicas"] == number and leads != f"web-{colour}"
        assert moved and moved["spec"]["scaleTargetRef"]["name"] == leads
    assert serves(cluster) == "v1"


@pytest.mark.real_kubernetes
def test_network_policies(cluster: ApiServer, busybox: str) -> None:
    """The app's own gets a colour; another's lets both colours in, from before the new pods start until they failed."""

    def policy(name: str, **spec: object) -> Object:
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}

    def live(name: str) -> Object:
        found = cluster.get(Ref("networking.k8s.io/v1", "NetworkPolicy", cluster.namespace, name))
        return dict(found["spec"]) if found else {}

    web_pods = {"matchLabels": {"app": "web"}}
    own = policy("web", podSelector=web_pods, ingress=[{}])
    other = policy("db", podSelector={"matchLabels": {"app": "db"}}, ingress=[{"from": [{"podSelector": web_pods}]}])
    release(cluster, service(), web(busybox, answer="v1"), own, other, answer="v1", strategy="rolling")
    before = live("db")
    with fails("wrong-answers"):
        release(cluster, service(), web(busybox, answer="bad"), own, other, answer="v2")
    assert live("db") == before and live("web-blue") == {}
    release(cluster, service(), web(busybox, answer="v2"), own, other, answer="v2")
    (wide,) = live("db")["ingress"][0]["from"][0]["podSelector"]["matchExpressions"]
    assert wide["values"] == ["web", "web-blue", "web-green"]
    assert live("web-blue")["podSelector"] == {"matchLabels": {"app": "web-blue"}}
    assert live("web")["podSelector"] == web_pods  # it goes with the old pods
