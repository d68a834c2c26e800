"""The cluster adapter against an API server that misbehaves on demand."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.api_double import Server, config, kubeconfig, serving, status, to

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.errors import Conflict, Forbidden, Unreachable
from ml_deploy.releases.cluster import ApiError, Object, Ref

NAME = Ref("v1", "ConfigMap", "ml", "c")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture
def api(server: Server) -> Iterator[ApiServer]:
    cluster = to(kubeconfig(server.port))
    cluster.patience = 3.0
    yield cluster
    cluster.close()


# what is asked again


@pytest.mark.parametrize("trouble", [status(500), status(503), status(504), status(429), {"cut": True}])
def test_temporary_trouble_is_ridden_out(server: Server, api: ApiServer, trouble: dict[str, Any]) -> None:
    server.answers = [trouble, trouble, {"body": config(a="1")}]
    found = api.get(NAME)
    assert found and found["data"] == {"a": "1"} and len(server.seen) == 3


def test_retry_after_is_obeyed(server: Server, api: ApiServer) -> None:
    server.answers = [{**status(429), "headers": {"Retry-After": "1"}}, {"body": config()}]
    started = time.monotonic()
    api.get(NAME)
    assert 1.0 <= time.monotonic() - started < 2.0


def test_trouble_that_lasts_is_named(server: Server, api: ApiServer) -> None:
    api.patience = 0.5
    server.answers = [status(503, message="etcd is away")] * 20
    with pytest.raises(Unreachable, match=r"keeps answering 503.*etcd is away"):
        api.get(NAME)


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422])
def test_refusals_are_not_asked_again(server: Server, api: ApiServer, code: int) -> None:
    server.answers = [status(code, "X", "because")]
    with pytest.raises(ApiError, match="because") as caught:
        api.patch(NAME, {"metadata": {"resourceVersion": "1"}, "data": {}})
    assert (caught.value.code, caught.value.reason, len(server.seen)) == (code, "X", 1)


def test_a_patch_that_names_no_version_is_tried_again_at_a_conflict(server: Server, api: ApiServer) -> None:
    server.answers = [status(409, "Conflict")] * 2 + [{"body": config("8", a="1")}]
    assert api.patch(NAME, {"data": {"a": "1"}}).object["data"] == {"a": "1"}
    assert len(server.seen) == 3
    server.answers = [status(409, "Conflict", "busy")] * 20
    with pytest.raises(ApiError, match="busy"):
        api.patch(NAME, {"data": {"a": "1"}})


def test_an_object_that_does_not_fit_its_schema_is_no_trouble_of_the_server(server: Server, api: ApiServer) -> None:
    server.answers = [status(500, message="failed to create typed patch object: .dat: field not declared in schema")]
    with pytest.raises(ApiError) as caught:
        api.apply(config())
    assert caught.value.code == 422 and len(server.seen) == 1


@pytest.mark.parametrize(
    "said",
    [
        ".stringData.pin: expected string, got &value.valueUnstructured{Value:4711}",
        'errors:\n  .data.pin: expected string, got &value.valueUnstructured{Value:[]interface {}{"4711"}}\n  .typ: field not declared in schema',
        ".stringData: expected map, got &{4711\n}}",
    ],
)
def test_values_of_a_wrong_type_are_not_told_for_they_may_be_secrets(server: Server, api: ApiServer, said: str) -> None:
    server.answers = [status(500, message=f"failed to create typed patch object (ml/s; /v1, Kind=Secret): {said}")]
    with pytest.raises(ApiError, match=r"expected \w+, got another type") as caught:
        api.apply(config())
    assert "4711" not in str(caught.value) and (".typ: field" in said) == (".typ: field" in str(caught.value))


def test_what_is_no_base64_is_no_trouble_of_the_server(server: Server, api: ApiServer) -> None:
    said = "failed to convert new object (ml/s; /v1, Kind=Secret) to proper version: unable to convert unstructured object to"
    server.answers = [
        status(500, message=f"{said} /v1, Kind=Secret: error decoding from json: illegal base64 data at input byte 3")
    ]
    with pytest.raises(ApiError, match="illegal base64") as caught:
        api.apply(config())
    assert caught.value.code == 422 and len(server.seen) == 1


def test_a_missing_right_is_named_with_the_rule_that_grants_it(server: Server, api: ApiServer) -> None:
    said = 'configmaps "c" is forbidden: User "bob" cannot patch resource "configmaps" in API group "" in the namespace "ml"'
    server.answers = [status(403, "Forbidden", said)]
    with pytest.raises(Forbidden) as caught:
        api.apply(config())
    assert '"bob" may not patch configmaps in namespace ml' in caught.value.message
    assert 'apiGroups: [""], resources: [configmaps], verbs: [patch]' in caught.value.hint


def test_a_quota_is_no_missing_right(server: Server, api: ApiServer) -> None:
    server.answers = [status(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q')]
    with pytest.raises(ApiError, match="exceeded quota"):
        api.create(config())


def test_what_is_no_api_server(server: Server, api: ApiServer) -> None:
    server.answers = [{"code": 403, "raw": b"<html>corporate proxy</html>"}]
    with pytest.raises(Unreachable, match=r"no Kubernetes API server \(HTTP 403: <html>corporate proxy"):
        api.get(NAME)


def test_a_slow_answer_is_waited_for(server: Server, api: ApiServer) -> None:
    server.answers = [{"body": config(), "after": 1.0}]
    assert api.get(NAME) and len(server.seen) == 1


def test_nobody_there() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        cluster = to(kubeconfig(one.getsockname()[1]))
        cluster.patience = 0.3
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1.*does not answer \(connection refused"):
            cluster.get(NAME)


def test_a_name_that_does_not_resolve() -> None:
    cluster = to(kubeconfig(1).replace("http://127.0.0.1:1", "https://c.privatelink.westeurope.azmk8s.io.invalid"))
    cluster.patience = 0.2
    with pytest.raises(Unreachable, match="its name does not resolve") as caught:
        cluster.version()
    assert "private cluster" in caught.value.hint


# writes whose answer was lost


def test_a_create_whose_answer_was_lost_is_read_back(server: Server, api: ApiServer) -> None:
    server.answers = [{"cut": True}, status(409, "AlreadyExists"), {"body": config("7", a="1")}]
    assert api.create({**config(a="1"), "metadata": {"name": "c"}}).object["metadata"]["resourceVersion"] == "7"


def test_what_the_server_adds_to_a_created_object_does_not_make_it_anothers(server: Server, api: ApiServer) -> None:
    token = {"name": "kube-api-access-x7", "projected": {}}
    wanted = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"volumes": [{"name": "model"}]}}
    live = {**wanted, "metadata": {"name": "p", "uid": "u"}, "spec": {"volumes": [{"name": "model"}, token]}}
    server.answers = [{"cut": True}, status(409, "AlreadyExists"), {"body": live}]
    assert api.create(wanted).object["metadata"]["uid"] == "u"


def test_a_create_that_somebody_else_won_is_a_conflict(server: Server, api: ApiServer) -> None:
    server.answers = [{"cut": True}, status(409, "AlreadyExists"), {"body": config("7", a="theirs")}]
    with pytest.raises(ApiError) as caught:
        api.create(config(a="ours"))
    assert caught.value.code == 409


def test_a_create_that_was_there_before_is_a_conflict_at_once(server: Server, api: ApiServer) -> None:
    server.answers = [status(409, "AlreadyExists")]
    with pytest.raises(ApiError):
        api.create(config())
    assert len(server.seen) == 1


def test_a_replace_whose_answer_was_lost_is_read_back(server: Server, api: ApiServer) -> None:
    server.answers = [{"cut": True}, status(409, "Conflict"), {"body": config("8", a="1")}]
    assert api.replace(config("7", a="1")).object["metadata"]["resourceVersion"] == "8"


def test_a_delete_whose_answer_was_lost(server: Server, api: ApiServer) -> None:
    server.answers = [{"cut": True}, status(404, "NotFound")]
    assert api.delete(NAME) is True
    server.answers = [status(404, "NotFound")]
    assert api.delete(NAME) is False


def test_warnings_of_the_server(server: Server, api: ApiServer) -> None:
    server.answers = [{"body": config(), "headers": {"Warning": '299 - "policy/v1beta1 is \\"old\\""'}}]
    assert api.apply(config()).warnings == ('policy/v1beta1 is "old"',)


def test_the_guard_is_asked_before_each_attempt_on_a_connection_that_was_closed_meanwhile(
    server: Server, api: ApiServer
) -> None:
    asked: list[int] = []

    def guard() -> None:
        asked.append(len(server.seen))
        if len(asked) > 1:
            raise Conflict("overtaken")

    server.answers = [{"body": config()}, {"cut": True}, {"body": config()}]
    api.get(NAME)
    api.guard_writes(guard)
    with pytest.raises(Conflict):
        api.apply(config())
    assert asked == [1, 2] and len(server.seen) == 2, "what was overtaken while it was asked writes nothing any more"


# watches


def event(kind: str, version: str, **data: str) -> dict[str, Any]:
    return {"type": kind, "object": config(version, **data)}


def listed(version: str, *items: Object) -> dict[str, Any]:
    return {"body": {"kind": "ConfigMapList", "metadata": {"resourceVersion": version}, "items": list(items)}}


def follow(api: ApiServer, count: int, seconds: float = 5.0) -> list[tuple[str, str]]:
    found = []
    for one in api.watch("v1", "ConfigMap", "ml", seconds=seconds):
        if one is not None:
            found.append((one.type, str(one.object["metadata"]["resourceVersion"])))
        if len(found) == count:
            break
    return found


def versions(server: Server) -> list[str]:
    watches = [path for _, path in server.seen if "watch=true" in path]
    return [path.partition("resourceVersion=")[2].partition("&")[0] for path in watches]


def test_a_cut_watch_goes_on_from_the_last_version(server: Server, api: ApiServer) -> None:
    server.answers = [listed("1", config("1")), {"lines": [event("MODIFIED", "2")], "cut": True},
                      {"lines": [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}}]},
                      {"cut": True}, {"lines": [event("MODIFIED", "6")]}]  # fmt: skip
    assert follow(api, 3) == [("ADDED", "1"), ("MODIFIED", "2"), ("MODIFIED", "6")]
    assert versions(server) == ["1", "2", "5", "5"]


@pytest.mark.parametrize("in_stream", [True, False])
def test_after_410_it_lists_again_and_misses_nothing(server: Server, api: ApiServer, in_stream: bool) -> None:
    gone = (
        {"lines": [{"type": "ERROR", "object": status(410, "Expired")["body"]}]}
        if in_stream
        else status(410, "Expired")
    )
    other = config("4")
    other["metadata"] = {**other["metadata"], "uid": "u2"}
    server.answers = [listed("1", config("1")), gone, listed("9", config("8")), {"lines": [event("DELETED", "10")]},
                      gone, listed("12", other)]  # fmt: skip
    assert follow(api, 4) == [("ADDED", "1"), ("MODIFIED", "8"), ("DELETED", "10"), ("ADDED", "4")]


def test_watches_that_are_cut_at_once_do_not_spin(server: Server, api: ApiServer) -> None:
    server.answers = [listed("1"), *([{"lines": [], "cut": True}] * 500)]
    assert set(api.watch("v1", "ConfigMap", "ml", seconds=1.5)) == {None}
    assert 3 <= len(versions(server)) <= 15


def test_what_went_while_it_did_not_look_is_told(server: Server, api: ApiServer) -> None:
    server.answers = [listed("1", config("1")), status(410, "Expired"), listed("9")]
    assert follow(api, 2) == [("ADDED", "1"), ("DELETED", "1")]


def test_a_quiet_watch_yields_none_each_second_and_ends_in_time(server: Server, api: ApiServer) -> None:
    server.answers = [listed("1"), {"lines": [], "after": 2.3}]
    started = time.monotonic()
    found = list(api.watch("v1", "ConfigMap", "ml", seconds=2.2))
    assert found == [None] * 3 and 2.1 < time.monotonic() - started < 3.0


def test_a_watch_that_is_forbidden_raises(server: Server, api: ApiServer) -> None:
    said = (
        'configmaps is forbidden: User "bob" cannot watch resource "configmaps" in API group "" in the namespace "ml"'
    )
    server.answers = [listed("1"), status(403, "Forbidden", said)]
    with pytest.raises(Forbidden, match="may not watch configmaps"):
        follow(api, 1)


# the rest


def test_long_lists_come_in_pages(server: Server, api: ApiServer) -> None:
    first = listed("1", config("1"))
    first["body"]["metadata"]["continue"] = "more"
    server.answers = [first, listed("1", config("2"))]
    assert [one["metadata"]["resourceVersion"] for one in api.list("v1", "ConfigMap", "ml")] == ["1", "2"]
    assert "continue=more" in server.seen[1][1]


def test_an_answer_through_the_proxy_is_the_pods_own(server: Server, api: ApiServer) -> None:
    server.answers = [{"code": 503, "body": {"error": "model is loading"}}]
    answer = api.ask("ml", "pods/p:8000", "POST", "/predict?x=1", body=b"{}", headers={"Authorization": "Bearer mine"})
    assert (answer.status, json.loads(answer.body)) == (503, {"error": "model is loading"})
    assert server.seen == [("POST", "/api/v1/namespaces/ml/pods/p:8000/proxy/predict?x=1")]
    assert server.tokens == ["Bearer first"]


def test_a_pod_that_never_answers_is_not_the_clusters_trouble(server: Server, api: ApiServer) -> None:
    server.answers = [{"body": config()}, {"body": config(), "after": 1.0}]
    api.get(NAME)
    with pytest.raises(ApiError, match=r"no answer within 0\.2 s"):
        api.ask("ml", "pods/p:8000", "POST", "/predict", body=b"{}", seconds=0.2)
    assert len(server.seen) == 2, "a prediction that takes too long once is not asked for until the deadline"


def test_a_pod_that_is_not_there_cannot_be_asked(server: Server, api: ApiServer) -> None:
    server.answers = [status(404, "NotFound", 'pods "p" not found')]
    with pytest.raises(ApiError, match='pods "p" not found'):
        api.ask("ml", "pods/p:8000", "GET", "/")


@pytest.mark.parametrize("code", [400, 404])
def test_logs_of_what_has_not_started_are_empty(server: Server, api: ApiServer, code: int) -> None:
    server.answers = [status(code)]
    assert api.logs("ml", "p", "web") == ""
