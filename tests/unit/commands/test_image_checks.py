"""Whether images exist, and for the nodes' processors: asked where that can be asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ml_deploy.commands.common import ClusterInputs
from ml_deploy.commands.image_checks import ImageChecks, judge
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import Forbidden, MlDeployError
from ml_deploy.images.availability import Availability, look
from ml_deploy.images.reference import parse
from ml_deploy.images.registry import Manifest, RegistryAccess
from ml_deploy.releases import pod_images
from ml_deploy.releases.platforms import of_nodes
from ml_deploy.runtime import fields

IMAGE = "reg.azurecr.io/ml/churn@sha256:" + "a" * 64
AMD = Availability(True, frozenset({"linux/amd64"}))


@dataclass
class Shelf:
    """A registry with one manifest and its configuration; or one that refuses."""

    content: Any = None
    config: bytes = b""
    error: MlDeployError | None = None
    asked: list[str] = field(default_factory=list)

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        self.asked.append(f"{repository} {reference}")
        if self.error:
            raise self.error
        return None if self.content is None else Manifest("sha256:x", "any", json.dumps(self.content).encode())

    def blob(self, repository: str, digest: str) -> bytes:
        assert (repository, digest) == ("ml/churn", "sha256:c")
        return self.config


def platform(system: str, processor: str) -> dict[str, Any]:
    return {"digest": "sha256:x", "platform": {"os": system, "architecture": processor}}


def test_an_index_tells_its_platforms_and_attestations_are_none() -> None:
    shelf = Shelf(
        {"manifests": [platform("linux", "amd64"), platform("unknown", "unknown"), platform("linux", "arm64")]}
    )
    assert look(shelf, parse(IMAGE)) == Availability(True, frozenset({"linux/amd64", "linux/arm64"}))
    assert shelf.asked == ["ml/churn sha256:" + "a" * 64]


def test_a_single_manifest_tells_it_in_its_configuration() -> None:
    shelf = Shelf({"config": {"digest": "sha256:c"}}, b'{"os": "linux", "architecture": "amd64"}')
    assert look(shelf, parse("reg.azurecr.io/ml/churn:v1")) == AMD
    assert shelf.asked == ["ml/churn v1"]


@pytest.mark.parametrize(
    "content", [{"schemaVersion": 1}, {"config": None}, {"config": {"digest": "sha256:c"}}, []], ids=str
)
def test_what_tells_no_platform_is_held_all_the_same(content: Any) -> None:
    assert look(Shelf(content), parse(IMAGE)) == Availability(True)


def test_no_manifest_and_no_answer_are_two_things() -> None:
    assert look(Shelf(None), parse(IMAGE)).held is False
    refused = look(Shelf(error=Forbidden("An anonymous user may not read it.")), parse(IMAGE))
    assert refused == Availability(None, why="An anonymous user may not read it.")


def test_a_missing_image_stands_in_the_way() -> None:
    judged = judge({IMAGE: Availability(False)}, {})
    assert [one.reason for one in judged.problems] == ["manifest"] and "does not exist" in judged.problems[0].message


def test_on_a_loopback_address_it_is_a_warning_for_nodes_have_another() -> None:
    for image in ("localhost:5000/churn:v1", "127.0.0.1:5000/churn:v1", "[::1]:5000/churn:v1"):
        judged = judge({image: Availability(False)}, {})
        assert not judged.problems and len(judged.warnings) == 1


def test_a_registry_that_cannot_be_asked_is_a_word() -> None:
    judged = judge({IMAGE: Availability(None, why="It does not answer.")}, {IMAGE: {"linux/amd64"}})
    assert judged.notes == [f"whether {IMAGE} exists was not asked: It does not answer."]
    assert not judged.problems and not judged.warnings


def test_processors() -> None:
    wrong = judge({IMAGE: AMD}, {IMAGE: {"linux/arm64"}})
    assert "is for linux/amd64, and nodes are linux/arm64" in wrong.problems[0].message
    assert "--platform linux/arm64" in wrong.problems[0].hint
    some = judge({IMAGE: AMD}, {IMAGE: {"linux/arm64", "linux/amd64"}})
    assert not some.problems and "land on linux/arm64" in some.warnings[0]
    for known in ({"linux/amd64"}, set[str]()):
        right = judge({IMAGE: AMD}, {IMAGE: known})
        assert not right.problems and not right.warnings and not right.notes


def test_only_nodes_that_take_the_pod_count() -> None:
    def node(processor: str, **labels: str) -> dict[str, Any]:
        return {
            "metadata": {
                "name": "n",
                "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": processor, **labels},
            }
        }

    nodes = [node("arm64"), node("amd64", pool="ml"), {"metadata": {"name": "odd"}}]
    assert of_nodes(nodes, {}) == {"linux/arm64", "linux/amd64"}
    assert of_nodes(nodes, {"nodeSelector": {"pool": "ml"}}) == {"linux/amd64"}


def test_images_of_all_containers_but_not_those_that_nodes_must_have() -> None:
    spec = {
        "initContainers": [{"image": "a"}],
        "containers": [{"image": "b"}, {"image": "a"}, {"image": "c", "imagePullPolicy": "Never"}],
    }
    workload = {"kind": "Deployment", "spec": {"template": {"spec": spec}}}
    assert pod_images.of_workloads([workload, {"kind": "ConfigMap", "data": {"image": "x"}}]) == ["a", "b"]


class World:
    """Adapters with one registry."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.seen: list[RegistryAccess] = []

    def registry(self, access: RegistryAccess) -> Shelf:
        self.seen.append(access)
        return self.shelf


def test_it_signs_in_as_the_job_does_and_only_to_read() -> None:
    given = {"client-id": "me", "tenant-id": "here", "resource-group": "g", "cluster-name": "c"}
    world = World(Shelf({"manifests": [platform("linux", "amd64")]}))
    checks = ImageChecks(fields.read(ClusterInputs, given), cast(Adapters, world), [IMAGE, IMAGE, "No:Image"])
    found = checks.result(10)
    assert found[IMAGE] == AMD and found["No:Image"].held is None
    assert [(one.registry, one.client_id, one.reading) for one in world.seen] == [("reg.azurecr.io", "me", True)]
