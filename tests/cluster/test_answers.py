"""What an API server answers, status by status: the stand-in must agree with a real one. Plain HTTP, no client of ours."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from ml_deploy.releases.cluster import Object

Ask = Callable[..., requests.Response]

APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
DEPLOYMENT: Object = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
    "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{
                "name": "c", "image": "registry.invalid/x:1", "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "readinessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": 1}},
            }]},
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def server(kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    config = yaml.safe_load(Path(kubeconfig).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if "token" not in user:
        pytest.skip("needs a kubeconfig with a token")
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(ca)
        session.headers["Authorization"] = f"Bearer {user['token']}"

        def ask(
            method: str, path: str, body: Any = None, style: str = "application/json", **more: Any
        ) -> requests.Response:
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": style, **more.pop("headers", {})}
            return session.request(
                method, f"{cluster['server']}/{path}", data=data, headers=headers, timeout=30, **more
            )

        yield ask


@pytest.fixture
def deployments(namespace: str) -> str:
    return f"apis/apps/v1/namespaces/{namespace}/deployments"


def changed(**spec: Any) -> Object:
    other = copy.deepcopy(DEPLOYMENT)
    other["spec"].update(spec)
    return other


def labels(value: str) -> dict[str, Any]:
    selector = {"selector": {"matchLabels": {"app": value}}}
    template = copy.deepcopy(DEPLOYMENT["spec"]["template"])
    template["metadata"]["labels"]["app"] = value
    return {**selector, "template": template}


def refusal(answer: requests.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert (body["kind"], body["status"], body["code"]) == ("Status", "Failure", answer.status_code)
    return answer.status_code, body.get("reason", ""), body["message"]


def test_defaults_and_owners_of_an_applied_deployment(server: Ask, deployments: str) -> None:
    answer = server("PATCH", f"{deployments}/d?fieldManager=m", DEPLOYMENT, APPLY)
    assert answer.status_code == 201, answer.text
    spec = answer.json()["spec"]
    template = spec.pop("template")
    assert spec == {
        "replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
    }  # fmt: skip
    assert template["spec"] | {"containers": []} == {
        "containers": [], "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "securityContext": {}, "schedulerName": "default-scheduler",
    }  # fmt: skip
    (container,) = template["spec"]["containers"]
    assert container["readinessProbe"] == {
        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
        "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["imagePullPolicy"] == "IfNotPresent" and "requests" not in container["resources"]
    (entry,) = (one for one in answer.json()["metadata"]["managedFields"] if one["manager"] == "m")
    assert (entry["operation"], entry["apiVersion"], entry["fieldsType"]) == ("Apply", "apps/v1", "FieldsV1")
    owned = entry["fieldsV1"]["f:spec"]
    assert owned["f:selector"] == {} and owned["f:replicas"] == {}
    item = owned["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert item["f:ports"] == {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}
    assert item["f:env"]['k:{"name":"A"}'] == {".": {}, "f:name": {}, "f:value": {}}


def test_an_unchanged_apply_writes_nothing_and_a_shorter_one_removes(server: Ask, deployments: str) -> None:
    path = f"{deployments}/d?fieldManager=m"
    server("PATCH", path, DEPLOYMENT, APPLY)
    first = _settled(server, f"{deployments}/d")
    again = server("PATCH", path, DEPLOYMENT, APPLY).json()
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    shorter = copy.deepcopy(DEPLOYMENT)
    container = shorter["spec"]["template"]["spec"]["containers"][0]
    del container["readinessProbe"], container["env"][0]
    after = server("PATCH", path, shorter, APPLY).json()
    (live,) = after["spec"]["template"]["spec"]["containers"]
    assert "readinessProbe" not in live and live["env"] == [{"name": "B", "value": "2"}]
    assert after["metadata"]["generation"] == first["metadata"]["generation"] + 1


def _settled(server: Ask, path: str) -> Any:
    """The object once its controller has seen it."""
    for _ in range(100):
        found = server("GET", path).json()
        if found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]:
            time.sleep(0.3)
            return server("GET", path).json()
        time.sleep(0.05)
    return pytest.fail("the controller does not answer")


def test_patches(server: Ask, deployments: str) -> None:
    server("POST", deployments, DEPLOYMENT)
    path = f"{deployments}/d"
    merged = server("PATCH", path, {"metadata": {"labels": {"a": "1", "b": None}}}, MERGE).json()
    assert merged["metadata"]["labels"] == {"a": "1"}
    patch = [
        {"op": "add", "path": "/metadata/labels/x~1y", "value": "2"},
        {"op": "remove", "path": "/metadata/labels/a"},
    ]
    assert server("PATCH", path, patch, JSON_PATCH).json()["metadata"]["labels"] == {"x/y": "2"}
    assert server("PATCH", path, [{"op": "remove", "path": "/metadata/none"}], JSON_PATCH).status_code == 422
    assert server("PATCH", f"{path}-none", {}, MERGE).status_code == 404
    assert server("PATCH", path, {}, "text/plain").status_code == 415


def test_refusals_of_writes(server: Ask, deployments: str, namespace: str) -> None:
    path = f"{deployments}/d"
    server("PATCH", f"{path}?fieldManager=m", DEPLOYMENT, APPLY)
    assert refusal(server("POST", deployments, DEPLOYMENT)) == (
        409,
        "AlreadyExists",
        'deployments.apps "d" already exists',
    )
    code, reason, message = refusal(server("PATCH", f"{path}?fieldManager=m&dryRun=All", changed(**labels("x")), APPLY))
    assert (code, reason) == (422, "Invalid") and message == (
        'Deployment.apps "d" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable'
    )
    dry = f"{deployments}?dryRun=All"
    bad = changed(template={"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}})
    bad["metadata"] = {"name": "E_X"}
    answer = server("POST", dry, bad)
    assert refusal(answer)[0] == 422
    causes = {(one["field"], one["reason"]) for one in answer.json()["details"]["causes"]}
    assert causes == {
        ("metadata.name", "FieldValueInvalid"), ("spec.template.metadata.labels", "FieldValueInvalid"),
        ("spec.template.spec.containers[0].image", "FieldValueRequired"),
    }  # fmt: skip
    stale = {**DEPLOYMENT, "metadata": {"name": "d", "resourceVersion": "1"}}
    assert refusal(server("PUT", path, stale)) == (
        409, "Conflict", 'Operation cannot be fulfilled on deployments.apps "d": the object has been modified; '
        "please apply your changes to the latest version and try again",
    )  # fmt: skip
    here = {**DEPLOYMENT, "metadata": {"name": "e", "namespace": "elsewhere"}}
    assert refusal(server("POST", deployments, here))[:2] == (400, "BadRequest")
    assert refusal(server("POST", f"api/v1/namespaces/{namespace}/pods", DEPLOYMENT))[0] == 400
    assert refusal(server("PATCH", f"{path}?dryRun=All", DEPLOYMENT, APPLY))[0] == 422, "a manager is needed"
    assert refusal(server("POST", "apis/apps/v1/namespaces/none-such/deployments", DEPLOYMENT))[2] == (
        'namespaces "none-such" not found'
    )


def test_fields_that_no_schema_knows(server: Ask, deployments: str) -> None:
    dry = f"{deployments}?dryRun=All"
    loose = server("POST", dry, changed(extra=1))
    assert loose.status_code == 201 and loose.headers["Warning"] == '299 - "unknown field \\"spec.extra\\""'
    assert "strict decoding error" in refusal(server("POST", f"{dry}&fieldValidation=Strict", changed(extra=1)))[2]
    assert refusal(server("POST", dry, changed(replicas="x")))[:2] == (400, "BadRequest")
    applied = server("PATCH", f"{deployments}/d?fieldManager=m&dryRun=All", changed(extra=1), APPLY)
    assert applied.status_code == 500
    assert applied.json()["message"].endswith("apps/v1, Kind=Deployment): .spec.extra: field not declared in schema")


def test_reading_deleting_and_who_may(server: Ask, deployments: str) -> None:
    made = server("POST", deployments, DEPLOYMENT).json()
    assert refusal(server("GET", f"{deployments}/none")) == (404, "NotFound", 'deployments.apps "none" not found')
    listed = server("GET", f"{deployments}?labelSelector=a%3Db").json()
    assert (listed["kind"], listed["items"], bool(listed["metadata"]["resourceVersion"])) == (
        "DeploymentList",
        [],
        True,
    )
    (item,) = server("GET", f"{deployments}?fieldSelector=metadata.name%3Dd").json()["items"]
    assert "kind" not in item
    wrong = {"preconditions": {"uid": "other"}}
    assert refusal(server("DELETE", f"{deployments}/d", wrong))[:2] == (409, "Conflict")
    gone = server("DELETE", f"{deployments}/d", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert gone.status_code == 200 and gone.json()["status"] == "Success"
    assert gone.json()["details"] == {
        "name": "d",
        "group": "apps",
        "kind": "deployments",
        "uid": made["metadata"]["uid"],
    }
    assert refusal(server("DELETE", f"{deployments}/d"))[0] == 404
    assert refusal(server("GET", "api/v1/none"))[0] == 404
    assert server("GET", "apis/none.example/v1/things").status_code == 404
    assert refusal(server("GET", "api/v1/pods", headers={"Authorization": "Bearer wrong"})) == (
        401,
        "Unauthorized",
        "Unauthorized",
    )


def test_watches(server: Ask, namespace: str) -> None:
    path = f"api/v1/namespaces/{namespace}/configmaps"

    def make(name: str, on: str) -> Any:
        metadata = {"name": name, "labels": {"on": on}}
        return server("POST", path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).json()

    def seen(query: str) -> list[tuple[str, str]]:
        text = server("GET", f"{path}?watch=1&timeoutSeconds=1&resourceVersion={version}{query}").text
        events = [json.loads(line) for line in text.splitlines()]
        return [(one["type"], one["object"]["metadata"]["name"]) for one in events if one["type"] != "BOOKMARK"]

    version = make("a", "yes")["metadata"]["resourceVersion"]
    server("PATCH", f"{path}/a", {"metadata": {"labels": {"on": "no"}}}, MERGE)
    make("b", "yes")
    server("DELETE", f"{path}/b")
    assert seen("") == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "b")]
    assert seen("&labelSelector=on%3Dyes") == [("DELETED", "a"), ("ADDED", "b"), ("DELETED", "b")]
    assert seen("&fieldSelector=metadata.name%3Db") == [("ADDED", "b"), ("DELETED", "b")]
    version = "0"
    assert ("ADDED", "a") in seen("")


def test_secrets_and_services(server: Ask, namespace: str) -> None:
    secrets, services = (f"api/v1/namespaces/{namespace}/{plural}" for plural in ("secrets", "services"))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}}
    made = server("POST", secrets, secret).json()
    assert (made["data"], made["type"]) == ({"k": "dg=="}, "Opaque") and "stringData" not in made
    spec = {"type": "NodePort", "selector": {"app": "d"}, "ports": [{"port": 80}]}
    service = server(
        "POST", services, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
    ).json()
    (port,) = service["spec"]["ports"]
    assert 30000 <= port.pop("nodePort") < 32768 and port == {"port": 80, "protocol": "TCP", "targetPort": 80}
    kept = {"clusterIP", "clusterIPs", "ports", "selector", "type", "sessionAffinity", "externalTrafficPolicy",
            "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy"}  # fmt: skip
    assert set(service["spec"]) == kept
    none = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "t"}, "spec": {"selector": {"app": "d"}}}
    assert refusal(server("POST", services, none))[2] == 'Service "t" is invalid: spec.ports: Required value'
