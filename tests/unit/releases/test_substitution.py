"""Images find their containers, and configuration its pod templates."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.errors import InputError, ManifestError
from ml_deploy.releases.sources.image_paths import Paths
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.sources.substitution import CONFIG_HASH, containers, put_images, tie_configuration, unpinned

DIGEST = "@sha256:" + "a" * 64


def workload(*images: str, kind: str = "Deployment", init: str = "") -> Manifest:
    spec: dict[str, Any] = {"containers": [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]}
    if init:
        spec["initContainers"] = [{"name": "init", "image": init}]
    outer: dict[str, Any] = {"template": {"spec": spec}}
    if kind == "CronJob":
        outer = {"jobTemplate": {"spec": outer}}
    return Manifest({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w"}, "spec": outer})


def images_of(found: list[Manifest]) -> list[str]:
    return [c["image"] for one in found for c in containers(one.object)]


@pytest.mark.parametrize(
    "written",
    [
        "reg.azurecr.io/ml/churn", "reg.azurecr.io/ml/churn:v1", "reg.azurecr.io/ml/churn:v1@sha256:" + "b" * 64,
        "other.azurecr.io/ml/churn:v1", "localhost:5000/ml/churn", "ml/churn", "churn", "churn:latest",
    ],
)  # fmt: skip
def test_the_image_goes_where_its_repository_is(written: str) -> None:
    image = "reg.azurecr.io/ml/churn" + DIGEST
    found, puts = put_images([workload("nginx:1", written)], [image])
    assert images_of(found) == ["nginx:1", image]
    assert [(p.where, p.before, p.after) for p in puts] == [("container c1", written, image)]


def test_a_port_is_no_tag_and_other_images_of_the_registry_stay() -> None:
    image = "localhost:5000/app" + DIGEST
    found, _ = put_images([workload("localhost:5000/app:v1", "localhost:5000/other:v1")], [image])
    assert images_of(found) == [image, "localhost:5000/other:v1"]


def test_the_exact_repository_comes_before_the_same_name_elsewhere() -> None:
    image = "a.io/ml/churn" + DIGEST
    found, _ = put_images([workload("a.io/ml/churn:1", "b.io/ml/churn:1")], [image])
    assert images_of(found) == [image, "b.io/ml/churn:1"]


def test_a_longer_name_is_another_repository() -> None:
    with pytest.raises(ManifestError, match="No container"):
        put_images([workload("reg.io/churn-sidecar:1", "reg.io/my/churner")], ["reg.io/churn" + DIGEST])


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "CronJob", "InferenceService"])
def test_init_containers_cron_jobs_and_custom_resources(kind: str) -> None:
    image = "r.io/churn" + DIGEST
    found, puts = put_images([workload("churn", kind=kind, init="churn")], [image])
    assert images_of(found) == [image, image] and len(puts) == 2


def test_several_images() -> None:
    images = ["r.io/a" + DIGEST, "r.io/b" + DIGEST]
    found, _ = put_images([workload("a", "b", "c")], images)
    assert images_of(found) == [*images, "c"]


def test_an_image_that_belongs_nowhere_lists_what_there_is() -> None:
    with pytest.raises(ManifestError) as caught:
        put_images([workload("nginx:1", "redis")], ["r.io/churn" + DIGEST])
    assert "nginx:1, redis" in caught.value.message and "image: r.io/churn`" in caught.value.hint


def test_no_containers_at_all() -> None:
    config = Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"image": "churn"}})
    with pytest.raises(ManifestError, match="the images in them: none"):
        put_images([config], ["r.io/churn" + DIGEST])


def test_two_images_of_one_repository_are_refused() -> None:
    with pytest.raises(InputError, match="one repository"):
        put_images([workload("a")], ["r.io/a:1", "r.io/a:2"])


def test_placeholders_that_are_no_references_are_left_alone() -> None:
    with pytest.raises(ManifestError, match="IMAGE_PLACEHOLDER"):
        put_images([workload("IMAGE_PLACEHOLDER")], ["r.io/a:1"])


def test_the_authors_objects_are_not_changed() -> None:
    before = workload("churn")
    put_images([before], ["r.io/churn" + DIGEST])
    assert images_of([before]) == ["churn"]


def test_unpinned() -> None:
    assert unpinned(["r.io/a:1", "r.io/b" + DIGEST, "r.io/c"]) == ["r.io/a:1", "r.io/c"]


def config(name: str, kind: str = "ConfigMap", **data: str) -> Manifest:
    return Manifest({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data})


def hash_of(manifests: list[Manifest]) -> str:
    template = tie_configuration(manifests)[-1].object["spec"]["template"]
    return str((template.get("metadata", {}).get("annotations") or {}).get(CONFIG_HASH, ""))


USES: list[dict[str, Any]] = [
    {"volumes": [{"name": "v", "configMap": {"name": "c"}}]},
    {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}]},
    {"containers": [{"name": "x", "image": "i", "envFrom": [{"configMapRef": {"name": "c"}}]}]},
    {
        "containers": [
            {"name": "x", "image": "i", "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "c"}}}]}
        ]
    },
]


@pytest.mark.parametrize("use", USES)
def test_a_changed_config_map_changes_the_templates_that_use_it(use: dict[str, Any]) -> None:
    one = workload("i")
    one.object["spec"]["template"]["spec"] |= use
    first, again, changed = (hash_of([config("c", a=value), one]) for value in ("1", "1", "2"))
    assert first == again != changed and first


def test_secrets_count_by_their_name_in_volumes() -> None:
    one = workload("i")
    one.object["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "s"}}]
    assert hash_of([config("s", "Secret", a="1"), one]) != hash_of([config("s", "Secret", a="2"), one])


def test_what_the_release_does_not_have_or_the_template_does_not_use_is_left_out() -> None:
    one = workload("i")
    assert hash_of([config("c", a="1"), one]) == ""
    one.object["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "elsewhere"}}]
    assert hash_of([config("c", a="1"), one]) == ""


def resource(spec: dict[str, Any], kind: str = "Model") -> Manifest:
    return Manifest({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "m"}, "spec": spec})


IMAGE = "reg.io/churn" + DIGEST


@pytest.mark.parametrize(
    ("path", "spec", "where"),
    [
        ("Model:spec.server.image", {"server": {"image": "churn"}}, "spec.server.image"),
        ("Model:spec.steps[*].image", {"steps": [{"image": "other"}, {"image": "churn"}]}, "spec.steps[1].image"),
        ("Model:spec.*.image", {"a": 1, "b": {"image": "churn"}}, "spec.b.image"),
        ("Model:spec.images[*]", {"images": ["churn"]}, "spec.images[0]"),
    ],
)
def test_images_of_custom_resources_by_a_path(path: str, spec: dict[str, Any], where: str) -> None:
    found, puts = put_images([resource(spec), workload("nginx")], [IMAGE], Paths.read([path]))
    assert [(p.where, p.before, p.after) for p in puts] == [(where, "churn", IMAGE)]
    assert IMAGE in str(found[0].object)


def test_known_kinds_need_no_path_and_no_container_is_taken_twice() -> None:
    spec = {"predictor": {"model": {"image": "churn"}, "containers": [{"name": "c", "image": "churn"}]}}
    _, puts = put_images([resource(spec, "InferenceService")], [IMAGE])
    assert [p.where for p in puts] == ["container c", "spec.predictor.model.image"]


@pytest.mark.parametrize("path", ["Model:spec.sever.image", "Modle:spec.server.image", "Model:spec.server[*].image"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(InputError, match="there is no image at this path"):
        put_images([resource({"server": {"image": "churn"}})], [IMAGE], Paths.read([path]))


@pytest.mark.parametrize("line", ["spec.server.image", "Model:", "Model:spec..image", "Model:spec.a[0].b", ":spec"])
def test_a_line_that_is_no_path(line: str) -> None:
    with pytest.raises(InputError, match="is not Kind:path"):
        Paths.read([line])
