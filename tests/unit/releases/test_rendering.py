"""What becomes of the YAML that Helm and kustomize give."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_deploy.errors import ManifestError
from ml_deploy.releases.sources.manifests import ordered
from ml_deploy.releases.sources.rendering import Chart, objects_of_chart, objects_of_kustomization

CHART = Chart(reference="charts/wine", release="wine", namespace="ml")
RENDERED = """\
---
# Source: wine/crds/models.yaml
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: models.example.com}
---
# Source: wine/templates/all.yaml
apiVersion: v1
kind: Service
metadata: {name: wine}
---
# Source: wine/templates/all.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: wine}
---
# Source: wine/charts/cache/templates/cm.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: cache}
"""


def hook(words: str) -> str:
    return (
        "---\n# Source: wine/templates/hook.yaml\napiVersion: batch/v1\nkind: Job\n"
        f'metadata: {{name: migrate, annotations: {{"helm.sh/hook": "{words}"}}}}\n'
    )


def objects(text: str, root: Path = Path(), told: list[str] | None = None) -> list[tuple[str, str]]:
    found = objects_of_chart(text, CHART, root, (told if told is not None else []).append)
    return [(one.title, one.place) for one in ordered(found)]


def test_objects_with_their_templates_and_definitions_first(tmp_path: Path) -> None:
    (tmp_path / "charts/wine/templates").mkdir(parents=True)
    (tmp_path / "charts/wine/templates/all.yaml").write_text("")
    assert objects(RENDERED, tmp_path) == [
        ("CustomResourceDefinition models.example.com", "wine/crds/models.yaml"),
        ("ConfigMap cache", "wine/charts/cache/templates/cm.yaml"),
        ("Service wine", "charts/wine/templates/all.yaml"),
        ("Deployment wine", "charts/wine/templates/all.yaml"),
    ]


@pytest.mark.parametrize("words", ["pre-install", "post-upgrade, test", "pre-install,pre-delete"])
def test_hooks_that_helm_would_run_are_refused(words: str) -> None:
    with pytest.raises(ManifestError, match=r"has hooks, .* Job migrate .*wine/templates/hook.yaml"):
        objects(RENDERED + hook(words))


@pytest.mark.parametrize("words", ["test", "test-success", "pre-delete", "post-rollback,pre-rollback"])
def test_hooks_that_a_deployment_never_runs_are_left_out_and_said(words: str) -> None:
    told: list[str] = []
    assert "Job migrate" not in dict(objects(RENDERED + hook(words), told=told))
    assert len(told) == 1 and "Job migrate" in told[0] and "left out" in told[0]


@pytest.mark.parametrize("text", ["", "---\n# Source: wine/templates/all.yaml\n\n"])
def test_a_chart_that_renders_to_nothing(text: str) -> None:
    with pytest.raises(ManifestError, match="renders to no object"):
        objects(text)


def test_a_chart_of_nothing_but_hooks() -> None:
    with pytest.raises(ManifestError, match="nothing but hooks"):
        objects(hook("test"))


def test_an_object_twice() -> None:
    with pytest.raises(ManifestError, match=r"is there twice: at wine/crds/models\.yaml"):
        objects(RENDERED + RENDERED)


def test_a_kustomization() -> None:
    (one,) = objects_of_kustomization("apiVersion: v1\nkind: Service\nmetadata: {name: a}", "k8s/prod", None)
    assert (one.title, one.place) == ("Service a", "k8s/prod")
    with pytest.raises(ManifestError, match="renders to no object"):
        objects_of_kustomization("", "k8s/prod", None)
