"""push-acr's decisions, with a registry and an engine that fail on what was not expected."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.clock import FakeClock

from ml_deploy.commands import push_acr
from ml_deploy.errors import AuthFailed, Forbidden, InputError, MlDeployError, RegistryError, TimedOut
from ml_deploy.images.engine import ImageInfo
from ml_deploy.images.registry import Manifest, PushEvent, RegistryAccess
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.fields import read
from ml_deploy.runtime.github import Job

ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "d" * 64
MANIFEST = Manifest(
    DIGEST, "application/vnd.oci.image.manifest.v1+json", json.dumps({"config": {"digest": ID}}).encode()
)
OK: list[PushEvent] = [{"status": "Pushed", "id": "a", "progressDetail": {}}, {"aux": {"Digest": DIGEST}}]


def fails(message: str) -> list[PushEvent]:
    return [{"status": "Preparing", "id": "a", "progressDetail": {}}, {"error": message}]


@dataclass
class FakeRegistry:
    """Holds manifests by tag and digest; `pushes` are the answers to pushes, in order."""

    pushes: list[list[PushEvent]] = field(default_factory=list)
    held: dict[str, Manifest] = field(default_factory=dict)
    host: str = "reg.azurecr.io"
    busy: float | None = None
    sign_ins: int = 0
    puts: list[str] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    loses_tags: bool = False

    def sign_in(self, repository: str) -> None:
        assert repository == "ml/churn"
        self.sign_ins += 1

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        return self.held.get(reference)

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        self.puts.append(reference)
        if not self.loses_tags:
            self.held[reference] = manifest

    def digest(self, repository: str, reference: str) -> str:
        found = self.held.get(reference)
        return found.digest if found else ""

    def push(self, repository: str, tag: str, seconds: float) -> Iterator[PushEvent]:
        self.pushed.append(tag)
        events = self.pushes.pop(0)
        if not any("error" in event for event in events):
            self.held |= {tag: MANIFEST, DIGEST: MANIFEST}
        yield from events

    def denied(self, repository: str) -> MlDeployError:
        return Forbidden(f"may not push to {repository}")

    def busy_for(self, repository: str) -> float | None:
        return self.busy


@dataclass
class FakeEngine:
    """Has one image."""

    image: ImageInfo | None = field(default_factory=lambda: ImageInfo(id=ID, size=1))
    tagged: list[tuple[str, str]] = field(default_factory=list)

    def inspect(self, image: str) -> ImageInfo | None:
        return self.image

    def tag(self, image: str, reference: str) -> None:
        self.tagged.append((image, reference))


class World:
    """The adapters of one test."""

    def __init__(self, folder: Path, registry: FakeRegistry, engine: FakeEngine | None = None) -> None:
        self.the_registry = registry
        self.the_engine = engine or FakeEngine()
        self.clock = FakeClock()
        self.output = io.StringIO()
        self.console = Console(self.output)
        self.job = Job({"RUNNER_TEMP": str(folder)})
        self.access: RegistryAccess | None = None

    def registry(self, access: RegistryAccess) -> FakeRegistry:
        self.access = access
        return self.the_registry

    def engine(self) -> Any:
        return self.the_engine

    def cluster(self, access: object) -> Any:
        raise AssertionError("push-acr needs no cluster")

    def endpoint(self, access: object) -> Any:
        raise AssertionError("push-acr needs no endpoint")

    def run(self, **values: str) -> push_acr.Result:
        given = {"registry": "reg.azurecr.io", "image": "churn:v1", "repository": "ml/churn"} | values
        inputs = read(push_acr.Inputs, {name.replace("_", "-"): value for name, value in given.items()})
        return push_acr.run(inputs, self)  # type: ignore[arg-type]


def test_an_image_is_pushed_under_its_own_tag(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[OK]))
    result = world.run()
    assert result.image == f"reg.azurecr.io/ml/churn@{DIGEST}"
    assert (result.repository, result.digest, result.tags) == ("reg.azurecr.io/ml/churn", DIGEST, ("v1",))
    assert result.pushed
    assert world.the_engine.tagged == [("churn:v1", "reg.azurecr.io/ml/churn:v1")]
    assert json.loads(Path(result.report).read_text())["digest"] == DIGEST


def test_further_tags_are_put_not_pushed(tmp_path: Path) -> None:
    registry = FakeRegistry(pushes=[OK])
    assert World(tmp_path, registry).run(tags="v1\nlatest\nv1").tags == ("v1", "latest")
    assert (registry.pushed, registry.puts) == (["v1"], ["latest"])


def test_what_the_registry_has_is_not_pushed(tmp_path: Path) -> None:
    registry = FakeRegistry(held={"v1": MANIFEST, DIGEST: MANIFEST})
    world = World(tmp_path, registry)
    result = world.run(tags="v1\nlatest")
    assert not result.pushed
    assert (registry.pushed, registry.puts) == ([], ["latest"])
    assert world.the_engine.tagged == []


def test_what_was_pushed_from_here_before_is_known_by_its_digest(tmp_path: Path) -> None:
    registry = FakeRegistry(held={DIGEST: MANIFEST})
    engine = FakeEngine(
        ImageInfo(id=ID, size=1, repo_digests=("other/x@sha256:0", f"reg.azurecr.io/ml/churn@{DIGEST}"))
    )
    assert not World(tmp_path, registry, engine).run(tags="v2").pushed
    assert registry.puts == ["v2"]


def test_another_image_under_the_tag_is_replaced(tmp_path: Path) -> None:
    other = Manifest("sha256:old", "x", b"{}")
    registry = FakeRegistry(pushes=[OK], held={"v1": other, "latest": other})
    world = World(tmp_path, registry)
    assert world.run(tags="v1\nlatest").pushed
    assert "tag latest: was sha256:old" in world.output.getvalue()


@pytest.mark.parametrize(
    ("message", "waited"),
    [
        ("toomanyrequests: too many requests", 15.0),
        ("received unexpected HTTP status: 503 Service Unavailable", 2.0),
        ("EOF", 2.0),
    ],
)
def test_what_heals_is_tried_again(tmp_path: Path, message: str, waited: float) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[fails(message), OK]))
    result = world.run()
    assert result.pushed
    assert world.clock.slept == [waited]
    assert message in result.summary()


def test_a_throttling_registry_is_left_alone_for_as_long_as_it_says(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[fails("toomanyrequests: too many requests"), OK], busy=42.0))
    world.run()
    assert world.clock.slept == [42.5]
    assert "as the registry asks" in world.output.getvalue()


def test_denied_is_never_tried_again(tmp_path: Path) -> None:
    registry = FakeRegistry(pushes=[fails("denied: requested access to the resource is denied")])
    with pytest.raises(Forbidden):
        World(tmp_path, registry).run()
    assert registry.pushed == ["v1"]


def test_a_locked_tag_is_no_matter_of_roles(tmp_path: Path) -> None:
    registry = FakeRegistry(
        pushes=[fails("denied: The operation is disallowed on this registry, repository or image.")]
    )
    with pytest.raises(RegistryError) as caught:
        World(tmp_path, registry).run()
    assert "--write-enabled true" in caught.value.hint


def test_unauthorized_gets_one_fresh_credential(tmp_path: Path) -> None:
    registry = FakeRegistry(pushes=[fails("unauthorized: authentication required"), OK])
    assert World(tmp_path, registry).run().pushed
    assert registry.sign_ins == 2
    registry = FakeRegistry(pushes=[fails("unauthorized: authentication required")] * 2)
    with pytest.raises(AuthFailed):
        World(tmp_path, registry).run()
    assert registry.sign_ins == 2


def test_retries_end(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[fails("EOF")] * 3))
    with pytest.raises(RegistryError) as caught:
        world.run(retries="2")
    assert "after 3 attempts: EOF" in caught.value.message
    assert world.clock.slept == [2.0, 4.0]
    report = json.loads(Path(caught.value.result.report).read_text())  # type: ignore[attr-defined]
    assert [one["waited"] for one in report["interruptions"]] == [2.0, 4.0]


def test_no_wait_goes_beyond_the_deadline(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[fails("toomanyrequests")] * 9))
    with pytest.raises(RegistryError):
        world.run(timeout="20s")
    assert world.clock.slept == [15.0]


def test_a_push_that_does_not_end_is_left(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry())

    class Slow(FakeRegistry):
        def push(self, repository: str, tag: str, seconds: float) -> Iterator[PushEvent]:
            for _ in range(100):
                world.clock.now += 1
                yield {"status": "Pushing", "id": "a", "progressDetail": {"current": 1, "total": 2}}

    world.the_registry = Slow()
    with pytest.raises(TimedOut):
        world.run(timeout="30s")
    assert world.clock.now == 30


def test_a_push_that_tells_no_digest_has_failed(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no digest"):
        World(tmp_path, FakeRegistry(pushes=[[{"status": "Pushed", "id": "a", "progressDetail": {}}]])).run()


def test_a_tag_that_does_not_stay_is_an_error(tmp_path: Path) -> None:
    registry = FakeRegistry(pushes=[OK], loses_tags=True)
    with pytest.raises(RegistryError, match="latest is missing"):
        World(tmp_path, registry).run(tags="v1\nlatest")


def test_an_image_that_is_not_here(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(), FakeEngine(None))
    with pytest.raises(InputError, match=r"has no image churn:v1"):
        world.run()
    assert world.the_registry.sign_ins == 0


def test_names_come_from_the_image(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[OK]))
    result = world.run(image="reg.azurecr.io/ml/churn:v7", registry="", repository="")
    assert world.access is not None
    assert world.access.registry == "reg.azurecr.io"
    assert (result.repository, result.tags) == ("reg.azurecr.io/ml/churn", ("v7",))


def test_an_address_instead_of_a_name_is_understood(tmp_path: Path) -> None:
    world = World(tmp_path, FakeRegistry(pushes=[OK]))
    world.run(registry="https://reg.azurecr.io/")
    assert world.access is not None
    assert world.access.registry == "reg.azurecr.io"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"registry": "", "image": "churn:v1"}, "`registry` is missing"),
        ({"registry": "reg.azurecr.io/ml"}, "a path in it"),
        ({"registry": "my reg'"}, "no name of a registry"),
        ({"repository": "", "image": ID}, "`repository` is missing"),
        ({"repository": "ml/churn:v1"}, "tag or digest in it"),
        ({"repository": "ML/Churn"}, "upper-case"),
        ({"tags": "v1\nv 2"}, "'v 2' is no tag"),
        ({"username": "u"}, "`password` is missing"),
        ({"client_id": "c"}, "`tenant-id` is missing"),
        ({"image": ""}, "`image` is required"),
    ],
)
def test_inputs_that_do_not_work(tmp_path: Path, values: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        World(tmp_path, FakeRegistry()).run(**values)
    assert said in caught.value.message
