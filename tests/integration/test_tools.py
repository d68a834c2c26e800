"""The tools that render, as they are found on the PATH."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.charts import chart, kustomization, needs_helm

from ml_deploy.adapters.tools import Tools
from ml_deploy.errors import InputError, ManifestError
from ml_deploy.releases.sources.rendering import Capabilities, Chart

IMAGE = "r.example.com/app:1"


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but this folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def tools(root: Path, told: list[str] | None = None) -> Tools:
    return Tools(root, (told if told is not None else []).append, lambda: root)


def of(reference: str = "app", **more: tuple[str, ...]) -> Chart:
    return Chart(reference=reference, release="wine", namespace="ml", **more)  # type: ignore[arg-type]


def test_what_is_missing_is_named_with_the_step_that_brings_it(only: Path) -> None:
    with pytest.raises(InputError, match="needs helm") as helm:
        tools(only).chart(of(), None)
    assert "azure/setup-helm" in helm.value.hint
    with pytest.raises(InputError, match="needs the kustomize binary or kubectl") as kustomize:
        tools(only).kustomization("overlay")
    assert "azure/setup-kubectl" in kustomize.value.hint


def test_kustomize_comes_before_kubectl(only: Path) -> None:
    told: list[str] = []
    tool(only, "kubectl", 'echo "kubectl: $*"')
    assert tools(only, told).kustomization("over lay") == "kubectl: kustomize over lay\n"
    tool(only, "kustomize", 'echo "kustomize: $*"; echo "a warning" >&2')
    assert tools(only, told).kustomization("over lay") == "kustomize: build over lay\n"
    assert told[-1] == "kustomize: a warning"


def test_how_helm_is_asked(only: Path) -> None:
    tool(only, "helm", 'for one in "$@"; do echo "$one"; done')
    given = of("charts/wine", values=("a b.yaml",), settings=("x=1,y=2",))
    text = tools(only).chart(given, Capabilities("v1.33.1", ("v1", "apps/v1/Deployment")))
    assert text.split("\n") == [
        "template", "--namespace=ml", "--include-crds", "--kube-version=v1.33.1", "--api-versions=v1",
        "--api-versions=apps/v1/Deployment", "--values=a b.yaml", "--set=x=1,y=2", "--", "wine", "charts/wine", "",
    ]  # fmt: skip


def test_a_login_is_handed_to_helm_in_a_file_of_ours(only: Path, tmp_path: Path) -> None:
    tool(
        only,
        "helm",
        'for one in "$@"; do case "$one" in --registry-config=*) IFS= read -r line < "${one#*=}"; echo "$line";; esac; done; echo "$@"',
    )
    given = Chart(reference="oci://r.example.com:5000/charts/wine", login={"identitytoken": "secret-word"}, release="wine",
                  namespace="ml")  # fmt: skip
    told: list[str] = []
    text = tools(tmp_path, told).chart(given, None)
    assert '{"auths": {"r.example.com:5000": {"identitytoken": "secret-word"}}}' in text
    assert text.count("secret-word") == 1 and not any("secret-word" in line for line in told)
    (file,) = tmp_path.glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600


@needs_helm
def test_what_helm_says_of_a_template_is_told_at_its_line(tmp_path: Path) -> None:
    chart(tmp_path, IMAGE, more={"templates/bad.yaml": "\n{{ .Values.x.y.z }}\n"})
    with pytest.raises(ManifestError, match="nil pointer") as caught:
        tools(tmp_path).chart(of(), None)
    assert (caught.value.file, caught.value.line) == ("app/templates/bad.yaml", 2)


@needs_helm
@pytest.mark.parametrize("reference", ["charts/none", "./none.tgz", "none", "base"])
def test_what_is_no_chart(tmp_path: Path, reference: str) -> None:
    kustomization(tmp_path, IMAGE)
    with pytest.raises(ManifestError) as caught:
        tools(tmp_path).chart(of(reference), None)
    assert "Name a folder with a Chart.yaml" in caught.value.hint


@needs_helm
def test_capabilities_and_definitions_reach_the_chart(tmp_path: Path) -> None:
    chart(tmp_path, IMAGE, more={"crds/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n"})
    text = tools(tmp_path).chart(of(), Capabilities("v1.33.1", ("gateway.networking.k8s.io/v1",)))
    assert 'kubernetes: "v1.33.1"' in text and 'gateways: "true"' in text and "name: first" in text
    assert "Thank you" not in text


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl on the PATH")
def test_a_real_kustomization_and_a_folder_that_is_none(tmp_path: Path) -> None:
    kustomization(tmp_path, IMAGE, answer="v7")
    assert "v7" in tools(tmp_path).kustomization("overlay")
    with pytest.raises(ManifestError) as caught:
        tools(tmp_path).kustomization("nowhere")
    assert "Name the folder" in caught.value.hint
