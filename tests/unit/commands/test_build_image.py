"""build-image's decisions, with an engine and an endpoint that fail on what was not expected."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from tests.unit.commands.building import COMMIT, ID, NO_HOST, Bench, ok

from ml_deploy.checks.http import Answer
from ml_deploy.commands import build_image
from ml_deploy.errors import BuildFailed, EndpointDown, InputError, WrongAnswers
from ml_deploy.images.engine import (
    ContainerState,
    ImageInfo,
)
from ml_deploy.runtime.fields import read


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


def test_the_users_dockerfile_with_labels_and_a_check(bench: Bench) -> None:
    result = bench.run(model="model.bin", cases="cases.jsonl", labels="team=a=b", build_args="X=1")
    digest = "sha256:" + sha256(b"a model").hexdigest()
    request = bench.engine.built[0]
    assert request.labels == {
        "ml-deploy.model-digest": digest, "org.opencontainers.image.revision": COMMIT,
        "org.opencontainers.image.source": "https://github.com/o/r", "team": "a=b",
    }  # fmt: skip
    assert (request.context, request.dockerfile, request.build_args) == (Path(), Path("Dockerfile"), {"X": "1"})
    assert (result.image, result.image_id, result.model_digest) == (f"wine:{COMMIT[:12]}", ID, digest)
    assert bench.report(result)["check"]["cases"][0]["passed"]
    assert "| Ready after |" in result.summary()
    assert bench.container.removed == 1
    assert (bench.engine.ran[0].read_only, bench.engine.ran[0].capabilities) == (True, False)


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ({}, [f"wine:{COMMIT[:12]}"]),
        ({"tags": "v1\nlatest"}, ["wine:v1", "wine:latest"]),
        ({"image": "reg.io:5000/wine:v0"}, ["reg.io:5000/wine:v0"]),
        ({"image": "wine:v0", "tags": "v0\nv1"}, ["wine:v0", "wine:v1"]),
    ],
)
def test_tags(bench: Bench, given: dict[str, str], tags: list[str]) -> None:
    result = bench.run(check="false", **given)
    assert list(bench.engine.built[0].tags) == tags
    assert result.image == tags[0]


def test_wrong_answers_stop_the_job_and_the_container_goes(bench: Bench) -> None:
    bench.endpoint.answers["/predict"] = [ok({"predictions": [3]})]
    with pytest.raises(WrongAnswers) as caught:
        bench.run(cases="cases.jsonl")
    assert "expected 2, got 3" in caught.value.message
    assert "not pushed" in caught.value.hint
    assert bench.container.removed == 1
    partial = caught.value.result
    assert isinstance(partial, build_image.Result)
    assert partial.image_id == ID
    assert bench.report(partial)["error"]["reason"] == "wrong-answers"


def test_no_cases_is_said_aloud(bench: Bench) -> None:
    bench.run()
    assert "no prediction was asked" in bench.text


def test_waiting_tells_its_reason_once_and_ends_when_ready(bench: Bench) -> None:
    down = EndpointDown("refused")
    loading = Answer(503, {}, b"")
    bench.endpoint.answers["/ready"] = [*[down] * 30, *[loading] * 30, ok()]
    bench.run(health_path="/ready", cases="cases.jsonl")
    waits = [line for line in bench.text.splitlines() if line.startswith("Waiting")]
    assert waits == [
        "Waiting for the container: port 8000 does not answer yet", "Waiting for the container: GET /ready answers 503",
    ]  # fmt: skip


def test_a_container_that_ends_shows_its_last_line(bench: Bench) -> None:
    bench.endpoint.answers["/"] = [EndpointDown("refused")]
    bench.container.states = [ContainerState(True), ContainerState(False, 3)]
    bench.container.log = "starting\nKeyError: 'MODEL_PATH'\n"
    with pytest.raises(EndpointDown) as caught:
        bench.run()
    assert "ended before it was ready (exit status 3). Its last line: KeyError: 'MODEL_PATH'" in caught.value.message
    assert "starting" in caught.value.details
    assert bench.container.removed == 1


def test_out_of_memory_is_named(bench: Bench) -> None:
    bench.endpoint.answers["/"] = [EndpointDown("refused")]
    bench.container.states = [ContainerState(False, 137, out_of_memory=True)]
    with pytest.raises(EndpointDown, match="ran out of memory"):
        bench.run()


def test_a_read_only_root_is_named(bench: Bench) -> None:
    bench.endpoint.answers["/"] = [EndpointDown("refused")]
    bench.container.states = [ContainerState(False, 1)]
    bench.container.log = "OSError: [Errno 30] Read-only file system: '/app/cache'"
    with pytest.raises(EndpointDown) as caught:
        bench.run()
    assert "read-only: false" in caught.value.hint


def test_never_ready(bench: Bench) -> None:
    bench.endpoint.answers["/"] = [Answer(503, {}, b"")]
    with pytest.raises(EndpointDown, match="was not ready after 5 s: GET / answers 503"):
        bench.run(ready_timeout="5s")
    assert bench.container.removed == 1


def test_an_endpoint_that_only_fails_is_no_wrong_model(bench: Bench) -> None:
    bench.endpoint.answers["/predict"] = [Answer(500, {}, b"oops")]
    with pytest.raises(EndpointDown, match="answers no prediction"):
        bench.run(cases="cases.jsonl")


@pytest.mark.parametrize(("ports", "words"), [((), "exposes no port"), ((80, 8000), "exposes the ports 80, 8000")])
def test_a_port_that_nobody_knows(bench: Bench, ports: tuple[int, ...], words: str) -> None:
    bench.engine.image = ImageInfo(ID, 1, user="10001", ports=ports)
    with pytest.raises(InputError, match=words):
        bench.run()
    bench.run(port="80")
    assert bench.engine.ran[0].port == 80


@pytest.mark.parametrize(("user", "words"), [("", "runs as root"), ("0:0", "runs as root"), ("app", "is a name")])
def test_users_that_a_strict_cluster_refuses(bench: Bench, user: str, words: str) -> None:
    bench.engine.image = ImageInfo(ID, 1, user=user, ports=(8000,))
    bench.run()
    assert words in bench.text


def test_sigterm_that_is_ignored_is_said(bench: Bench) -> None:
    bench.container.stops = 60
    bench.run()
    assert "does not end on SIGTERM" in bench.text


def test_an_image_too_large_names_its_largest_layer(bench: Bench) -> None:
    with pytest.raises(BuildFailed) as caught:
        bench.run(max_image_size="100MB")
    assert "200 MB, more than the allowed 100 MB" in caught.value.message
    assert "pip install torch" in caught.value.hint
    assert bench.engine.ran == []


def test_a_failed_build_names_file_and_line(bench: Bench) -> None:
    bench.engine.failures = ["Step 2/2 : EXPOSE 8000\nsomething bad"]
    with pytest.raises(BuildFailed) as caught:
        bench.run(model="model.bin")
    assert (caught.value.file, caught.value.line) == ("Dockerfile", 2)
    assert "EXPOSE 8000" in caught.value.message
    assert isinstance(caught.value.result, build_image.Result)
    assert caught.value.result.model_digest


def test_a_base_image_is_asked_for_again(bench: Bench) -> None:
    bench.engine.failures = [NO_HOST, NO_HOST]
    bench.run()
    assert len(bench.engine.built) == 3
    assert bench.adapters.slept[:2] == [3.0, 10.0]


def test_a_registry_that_stays_away_fails(bench: Bench) -> None:
    bench.engine.failures = [NO_HOST] * 3
    with pytest.raises(BuildFailed, match="cannot be pulled"):
        bench.run()


def test_secrets_reach_the_builder_and_nothing_else(bench: Bench) -> None:
    bench.engine.buildx = "0.29.1"
    result = bench.run(secrets="token=hunter2secret", check="false")
    assert bench.engine.built[0].secrets == {"token": "hunter2secret"}
    assert "hunter2secret" not in bench.text + repr(result) + repr(bench.engine.built[0])
    bench.adapters.console.line("it is hunter2secret")
    assert "hunter2secret" not in bench.text
    assert json.loads(result.metadata) == {"containerimage.digest": "sha256:abc"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dockerfile": "Nofile"}, "no Dockerfile at Nofile"),
        ({"context": "nowhere", "dockerfile": "Dockerfile"}, "context nowhere is no folder"),
        ({"model": "no.pkl"}, "matches no file"),
        ({"model": "lfs.pkl"}, "Git LFS pointer"),
        ({"requirements": "r.txt"}, "`requirements` is for a generated image"),
        ({"image": f"wine@sha256:{'1' * 64}"}, "has a digest"),
        ({"image": "Wine"}, "upper-case"),
        ({"tags": "-x"}, "is no tag"),
        ({"cases": "none.jsonl"}, "no file none.jsonl"),
        ({"context": "empty"}, "nothing to build"),
        ({"context": "nowhere"}, "no folder"),
    ],
)
def test_inputs_that_lead_nowhere(bench: Bench, given: dict[str, str], words: str) -> None:
    (bench.folder / "lfs.pkl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    (bench.folder / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        bench.run(**given)
    assert words in caught.value.message
    assert caught.value.hint
    assert bench.engine.built == []


def test_contradictions_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read(build_image.Inputs, {
            "image": "x", "dockerfile": "D", "runtime": "onnx", "requirements": "r", "check": "false", "cases": "c",
            "labels": "nothing", "secrets": "hunter2",
        })  # fmt: skip
    for words in ("`requirements` is for a generated", "`runtime` is for a generated", "`model` is missing",
                  "`cases` are asked by the check", "`labels` has no NAME=VALUE on line 1 ('nothing')",
                  "`secrets` has no NAME=VALUE on line 1"):  # fmt: skip
        assert words in caught.value.message
    assert "hunter2" not in caught.value.message


def test_defaults_that_an_action_hands_over_contradict_nothing() -> None:
    read(build_image.Inputs, {"image": "x", "dockerfile": "D", "runtime": "auto", "check": "true", "cases": "c"})


def test_without_a_dockerfile_an_image_is_generated(bench: Bench) -> None:
    (bench.folder / "Dockerfile").unlink()
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, [None, 1])], [helper.make_tensor_value_info("y", 1, [None, 1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (bench.folder / "net.onnx").write_bytes(model.SerializeToString())
    bench.endpoint.answers["/v2/health/ready"] = [ok()]
    result = bench.run(model="net.onnx", base_image="mine:1")
    context = bench.engine.built[0].context
    assert isinstance(context, tuple)
    assert "FROM mine:1" in str(context[0].source)
    assert "GET /v2/health/ready" in bench.endpoint.asked
    assert any(line.startswith("onnxruntime==") for line in result.environment)
