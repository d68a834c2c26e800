"""A patch is merged as Kubernetes would: named things by name, the rest replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_deploy.errors import InputError, ManifestError
from ml_deploy.releases.sources import patching
from ml_deploy.releases.sources.generate import App, objects
from ml_deploy.releases.sources.manifests import Manifest

GENERATED = objects(App(name="wine", image="r.io/wine:1", env={"A": "1", "B": "2"}))


def patched(text: str, found: list[Manifest] | None = None) -> dict[str, Any]:
    """The objects by kind after a patch."""
    result = patching.merged(found or GENERATED, patching.read(text, Path()))
    return {one.object["kind"]: one.object for one in result}


def pod(text: str) -> dict[str, Any]:
    """The generated pod spec after a patch of it."""
    document = {"kind": "Deployment", "spec": {"template": {"spec": yaml.safe_load(text)}}}
    spec: dict[str, Any] = patched(yaml.safe_dump(document))["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_what_inputs_do_not_name() -> None:
    spec = pod("""
        serviceAccountName: reader
        tolerations: [{key: gpu, operator: Exists}]
        nodeSelector: {pool: gpu}
        volumes: [{name: cache, emptyDir: {}}]
        containers:
          - name: wine
            envFrom: [{secretRef: {name: keys}}]
            volumeMounts: [{name: cache, mountPath: /cache}]
    """)
    before = GENERATED[1].object["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["nodeSelector"]) == ("reader", {"pool": "gpu"})
    (container,) = spec["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert {k: v for k, v in container.items() if k not in ("envFrom", "volumeMounts")} == before["containers"][0]
    assert "serviceAccountName" not in before  # the original is untouched


def test_env_is_replaced_by_name_and_a_sidecar_comes_last() -> None:
    spec = pod("""
        containers:
          - name: proxy
            image: envoy
          - name: wine
            env: [{name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: C, value: '3'}]
    """)
    main, proxy = spec["containers"]
    assert proxy == {"name": "proxy", "image": "envoy"}
    assert main["env"] == [
        {"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "C", "value": "3"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"name": "http", "containerPort": 9000}, [9000]),
        ({"containerPort": 8000, "hostPort": 80}, [8000]),
        ({"name": "metrics", "containerPort": 9100}, [8000, 9100]),
        ({"name": "http", "$patch": "delete"}, []),
    ],
)
def test_ports_by_name_or_number(port: dict[str, Any], expected: list[int]) -> None:
    spec = pod(yaml.safe_dump({"containers": [{"name": "wine", "ports": [port]}]}))
    assert [one["containerPort"] for one in spec["containers"][0]["ports"]] == expected


def test_null_removes_and_replace_replaces() -> None:
    spec = pod("""
        terminationGracePeriodSeconds: null
        securityContext: {$patch: replace, runAsUser: 7}
        topologySpreadConstraints: [{topologyKey: kubernetes.io/hostname, $patch: delete}]
        containers: [{name: wine, livenessProbe: null}]
    """)
    assert "terminationGracePeriodSeconds" not in spec and "livenessProbe" not in spec["containers"][0]
    assert spec["securityContext"] == {"runAsUser": 7}
    assert [one["topologyKey"] for one in spec["topologySpreadConstraints"]] == ["topology.kubernetes.io/zone"]


def test_several_documents_by_kind_and_by_name() -> None:
    found = patched(
        "kind: Service\nmetadata: {annotations: {a: b}}\n---\nkind: Deployment\nmetadata: {name: wine}\nspec: {paused: true}"
    )
    assert found["Service"]["metadata"]["annotations"] == {"a": "b"} and found["Service"]["metadata"]["name"] == "wine"
    assert found["Deployment"]["spec"]["paused"] is True and "paused" not in found["PodDisruptionBudget"]["spec"]


@pytest.mark.parametrize(
    "text", ["kind: Ingress\nspec: {}", "kind: Deployment\nmetadata: {name: vine}\nspec: {}",
             "apiVersion: apps/v2\nkind: Deployment\nspec: {}"],
)  # fmt: skip
def test_a_patch_that_fits_nothing(text: str) -> None:
    with pytest.raises(ManifestError, match="is for no object of this release; it has Service wine, Deployment wine"):
        patched(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("spec: {}\n", "needs `kind`"),
        ("just\nwords", "needs `kind`"),
        ("nowhere.yaml", "there is no such file"),
        ("# nothing\n---\n", "no document"),
        ("kind: Deployment\nspec: {template: {spec: {containers: [{image: x}]}}}", "has no `name`"),
        ("kind: Deployment\nspec: {$patch: merge}", "not known here"),
    ],
)
def test_patches_that_are_none(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        patched(text)


def test_what_is_not_there_cannot_be_deleted() -> None:
    with pytest.raises(ManifestError, match="no such item"):
        pod("containers: [{name: proxy, $patch: delete}]")


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "patch.yaml").write_text("kind: Deployment\nspec: {minReadySeconds: 5}\n")
    (patch,) = patching.read("patch.yaml", tmp_path)
    assert patch.where == "patch.yaml, line 1" and patch.content["spec"] == {"minReadySeconds": 5}
