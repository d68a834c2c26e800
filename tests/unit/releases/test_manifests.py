"""Manifests: what is read, in which order, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_deploy.errors import ManifestError
from ml_deploy.releases.sources import manifests, patching


def one(kind: str, name: str = "x", api_version: str = "v1") -> str:
    return f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "k8s" / "deep").mkdir(parents=True)
    (tmp_path / "k8s" / "a.yaml").write_text(one("ConfigMap", "a") + "---\n---\n" + one("Secret", "a"))
    (tmp_path / "k8s" / "deep" / "b.yml").write_text(one("Service", "b"))
    (tmp_path / "k8s" / "c.json").write_text('{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c"}}')
    (tmp_path / "k8s" / "README.md").write_text("no manifest")
    return tmp_path


def names(found: list[manifests.Manifest]) -> list[str]:
    return [one.title for one in found]


@pytest.mark.parametrize(
    "patterns, expected",
    [
        (["k8s"], ["ConfigMap a", "Secret a", "Pod c", "Service b"]),
        (["k8s/a.yaml"], ["ConfigMap a", "Secret a"]),
        (["k8s/*.yaml", "k8s/a.yaml"], ["ConfigMap a", "Secret a"]),
        (["k8s/**/*.yml"], ["Service b"]),
        (["k8s/deep", "k8s/c.json"], ["Service b", "Pod c"]),
    ],
)
def test_files_folders_and_globs(folder: Path, patterns: list[str], expected: list[str]) -> None:
    assert names(manifests.read(patterns, folder)) == expected


def test_an_absolute_pattern(folder: Path) -> None:
    assert names(manifests.read([str(folder / "k8s" / "*.json")], Path("/"))) == ["Pod c"]


@pytest.mark.parametrize("pattern", ["nowhere", "k8s/*.txt", "k8s/d*.yaml"])
def test_a_pattern_that_matches_nothing_is_an_error(folder: Path, pattern: str) -> None:
    with pytest.raises(ManifestError, match="there is no manifest there") as caught:
        manifests.read(["k8s", pattern], folder)
    assert pattern in caught.value.message


def test_only_empty_documents_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("---\n# nothing\n---\n")
    with pytest.raises(ManifestError, match="no object"):
        manifests.read(["empty.yaml"], tmp_path)


def test_each_object_knows_its_line() -> None:
    found = manifests.parse("# head\n" + one("ConfigMap") + "---\n" + one("Secret"), "f.yaml")
    assert [m.place for m in found] == ["f.yaml:2", "f.yaml:6"]


def test_lists_are_unfolded() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- " + one("ConfigMap").replace("\n", "\n  ")
    assert names(manifests.parse(text, "f")) == ["ConfigMap x"]


@pytest.mark.parametrize(
    "text, message, line",
    [
        ("a: b\n c: d\n", "is not YAML", 2),
        ("a: [1, 2\n", "is not YAML", 2),
        (one("ConfigMap") + "---\n\tx: 1\n", "is not YAML", 5),
        ("just text\n", "is no Kubernetes object but a text", 1),
        ("kind: Pod\nmetadata: {name: x}\n", "has no `apiVersion`", 1),
        ("apiVersion: v1\nmetadata: {name: x}\n", "has no `kind`", 1),
        ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\n", "has no `metadata.name`", 1),
        ("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", "is a kustomization", 1),
        ("apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: x}\n", "the key 'kind' is there twice", 3),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n", "(Pod) has a number for `metadata.name`", 1),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: on}\n",
            "a truth value for `metadata.namespace`",
            1,
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: [a]}\n", "has a list for `metadata.labels`", 1),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: text\n", "has a text for `spec`", 1),
        ("apiVersion: v1\nkind: List\nitems:\n-\n", "is no Kubernetes object but an empty entry", 1),
        (one("ConfigMap") + "data:\n  ? [1, 2]\n  : x\n", "braces or brackets where a key belongs", 5),
        (one("ConfigMap") + "binaryData: {a: !!binary aGVsbG8=}\n", "cannot be sent", 1),
        (one("ConfigMap") + "data: {a: .inf}\n", "cannot be sent", 1),
        ("&all\n" + one("ConfigMap") + "data: *all\n", "cannot be sent", 1),
    ],
)
def test_malformed_documents_name_file_and_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ManifestError) as caught:
        manifests.parse(text, "k8s/f.yaml")
    assert message in caught.value.message and "k8s/f.yaml" in caught.value.message
    assert (caught.value.file, caught.value.line) == ("k8s/f.yaml", line)


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("kustomization.yaml", "resources: [app.yaml]\n", "is a kustomization"),
        ("Chart.yaml", "apiVersion: v2\nname: wine\nversion: 0.1.0\n", "is a Helm chart"),
    ],
)
def test_what_has_an_input_of_its_own_is_recognized(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=told):
        manifests.read(["."], tmp_path)


@pytest.mark.parametrize("written", ["name: {{ .Values.name }}", "{{ a }}: b", "{{- toYaml .Values.x }}"])
def test_a_helm_template_is_recognized(written: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifests.parse(f"apiVersion: v1\nmetadata:\n  {written}\n", "f")
    assert "`chart`" in caught.value.hint


def test_the_same_object_twice_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(one("Service"))
    (tmp_path / "b.yaml").write_text("---\n" + one("Service"))
    with pytest.raises(ManifestError, match=r"Service x is there twice: at a.yaml:1 and at b.yaml:2"):
        manifests.read(["."], tmp_path)


@pytest.mark.parametrize(
    "written, value",
    [
        ("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("=", "="), ("0644", 0o644), ("0o644", 0o644), ("true", True), ("yes", True),
        ("1.5", 1.5), ("'1'", "1"), ("~", None), ("010:20:30", "010:20:30"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_kubernetes_reads_them(written: str, value: object) -> None:
    (found,) = manifests.parse(one("ConfigMap") + f"data: {{key: {written}}}\n", "f")
    assert found.object["data"] == {"key": value}


def test_anchors_do_not_tie_objects_together() -> None:
    text = one("ConfigMap") + "a: &a {x: 1}\nb: *a\n"
    (found,) = manifests.parse(text, "f")
    found.object["a"]["x"] = 2
    assert found.object["b"] == {"x": 1}


def test_the_order_of_applying() -> None:
    kinds = ["HorizontalPodAutoscaler", "Deployment", "Service", "InferenceService", "ConfigMap", "Role", "ServiceAccount",
             "CustomResourceDefinition", "Namespace"]  # fmt: skip
    found = manifests.ordered([manifests.parse(one(kind), "f")[0] for kind in kinds])
    assert [m.object["kind"] for m in found] == [
        "Namespace", "CustomResourceDefinition", "ServiceAccount", "Role", "ConfigMap", "Service", "Deployment",
        "HorizontalPodAutoscaler", "InferenceService",
    ]  # fmt: skip


def test_a_file_in_another_encoding_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(one("ConfigMap").encode("utf-16"))
    with pytest.raises(ManifestError, match=r"The file a\.yaml cannot be read") as caught:
        manifests.read(["a.yaml"], tmp_path)
    assert "UTF-8" in caught.value.hint
    with pytest.raises(ManifestError, match=r"The file a\.yaml cannot be read"):
        patching.read("a.yaml", tmp_path)
