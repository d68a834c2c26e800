"""Diffs are for people, and show no secret."""

from __future__ import annotations

from typing import Any

from ml_deploy.releases.diff import diff, masked, render


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def secret(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data}


def test_a_changed_value() -> None:
    lines = diff([(config(a="1", b="2"), config(a="1", b="3"))]).splitlines()
    assert "-  b: '2'" in lines and "+  b: '3'" in lines and "--- live/ConfigMap/c" in lines


def test_no_difference_and_a_new_object() -> None:
    assert diff([(config(a="1"), config(a="1"))]) == ""
    assert "--- /dev/null" in diff([(None, config(a="1"))])


def test_what_the_server_and_our_notes_add_is_no_difference() -> None:
    live = config(a="1")
    live["metadata"] |= {"uid": "u", "resourceVersion": "5", "managedFields": [{}], "generation": 2,
                         "annotations": {"ml-deploy/run": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}}  # fmt: skip
    live["status"] = {"x": 1}
    assert diff([(live, config(a="1"))]) == ""
    assert "annotations" in live["metadata"]


def test_values_of_secrets_never_appear() -> None:
    before, after = (
        secret(same="c2FtZQ==", changed="b2xk", gone="Z29uZQ=="),
        secret(same="c2FtZQ==", changed="bmV3", more="bW9yZQ=="),
    )
    text = diff([(before, after)])
    for value in ("c2FtZQ==", "b2xk", "bmV3", "Z29uZQ==", "bW9yZQ=="):
        assert value not in text
    assert (
        "-  changed: '*** (before)'" in text and "+  changed: '*** (new)'" in text and "gone" in text and "more" in text
    )
    assert "(unchanged)" in text and before["data"]["same"] == "c2FtZQ=="


def test_values_in_string_data_and_in_the_last_applied_annotation() -> None:
    given = {"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "plain"},
             "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "plain"}}}  # fmt: skip
    shown = masked(None, given)[1]
    assert shown is not None and "plain" not in render(shown)


def test_a_malformed_secret_is_one_too() -> None:
    malformed = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": "hunter2"}
    assert "hunter2" not in diff([(None, malformed)])
