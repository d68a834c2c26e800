"""build-image on a real engine: generated images, the user's Dockerfile, and what stops it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import ROOT
from tests.integration.images import COMMIT, Workspace

from local import base

MODELS = ROOT / "example-repo" / "model"
CASES = ROOT / "example-repo" / "tests" / "cases.jsonl"
ROW = json.loads(CASES.read_text().splitlines()[0])["request"]["instances"][0]
SERVER = 'FROM {base}\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 8000\nCMD ["python3", "app.py"]\n'
APP = """\
import json, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"predictions": [1]}).encode()
        self.send_response(200); self.send_header("content-type", "application/json"); self.end_headers(); self.wfile.write(body)

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HTTPServer(("", 8000), Handler).serve_forever()
"""


@pytest.fixture(scope="session")
def base_image(docker_engine: Any) -> str:
    """An image to build from, made here where no registry is reachable."""
    return base.ensure(say=lambda line: None)


@pytest.fixture
def workspace(tmp_path: Path, base_image: str, docker_engine: Any) -> Iterator[Workspace]:
    """A workspace whose images are removed afterwards; no container of a check may be left."""
    workspace = Workspace(tmp_path, base_image)
    before = {one.id for one in docker_engine.containers.list(all=True, filters={"label": "ml-deploy.check"})}
    yield workspace
    left = [
        one for one in docker_engine.containers.list(all=True, filters={"label": "ml-deploy.check"})
        if one.id not in before and any(tag.startswith(workspace.name) for tag in one.image.tags)
    ]  # fmt: skip
    for image in docker_engine.images.list(name=workspace.name):
        docker_engine.images.remove(image.id, force=True)
    assert left == []


@pytest.fixture(scope="module")
def generated(
    tmp_path_factory: pytest.TempPathFactory, base_image: str, docker_engine: Any
) -> Iterator[dict[str, Any]]:
    """Images of the example's model in both formats, built and checked with golden predictions, by format."""
    workspace = Workspace(tmp_path_factory.mktemp("generated"), base_image)
    shutil.copytree(MODELS, workspace.folder / "model")
    workspace.write("cases.jsonl", "\n".join(map(json.dumps, _cases())))
    outcomes = {
        kind: workspace.build(model=f"model/wine.{kind}", tags=kind, base_image=base_image, cases="cases.jsonl")
        for kind in ("joblib", "onnx")
    }
    yield {**outcomes, "workspace": workspace}
    for image in docker_engine.images.list(name=workspace.name):
        docker_engine.images.remove(image.id, force=True)


def _cases() -> Iterator[dict[str, Any]]:
    """The example's golden predictions; its service names the classes, the plain model numbers them."""
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        yield {**case, "expect": {"probabilities": case["expect"]["probabilities"]}, "ignore": ["$.predictions"]}


@pytest.fixture(params=["joblib", "onnx"])
def served(request: pytest.FixtureRequest, generated: dict[str, Any], docker_engine: Any) -> Iterator[tuple[Any, str]]:
    """A container of a generated image as a strict cluster would run it, and its address."""
    outcome = generated[request.param]
    assert outcome.code == 0, outcome.log
    container = docker_engine.containers.run(
        outcome.outputs["image"], detach=True, read_only=True, tmpfs={"/tmp": ""}, cap_drop=["ALL"],
        security_opt=["no-new-privileges"], ports={"8000/tcp": ("127.0.0.1", None)}, mem_limit="512m",
    )  # fmt: skip
    try:
        container.reload()
        address = f"127.0.0.1:{container.ports['8000/tcp'][0]['HostPort']}"
        _until_ready(container, address)
        yield container, address
    finally:
        container.remove(force=True)


def _until_ready(container: Any, address: str) -> None:
    for _ in range(300):
        try:
            if ask(address, "GET", "/v2/health/ready")[0] == 200:
                return
        except OSError:
            pass
        container.reload()
        assert container.status == "running", container.logs().decode()
        time.sleep(0.1)
    raise AssertionError(container.logs().decode())


def ask(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON."""
    request = urllib.request.Request(f"http://{address}{path}", method=method, data=body)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("kind", ["joblib", "onnx"])
def test_an_image_from_nothing_but_a_model(generated: dict[str, Any], kind: str, docker_engine: Any) -> None:
    outcome = generated[kind]
    assert outcome.code == 0, outcome.log
    image = docker_engine.images.get(outcome.outputs["image-id"])
    digest = outcome.outputs["model-digest"]
    assert image.labels["ml-deploy.model-digest"] == digest
    assert image.labels["org.opencontainers.image.revision"] == COMMIT
    assert int(image.attrs["Config"]["User"].partition(":")[0]) >= 10000
    last = next(layer for layer in image.history() if layer["Size"])
    assert "/model/" in last["CreatedBy"]
    assert last["Size"] == (MODELS / f"wine.{kind}").stat().st_size
    assert all("==" in line for line in outcome.report["requirements"])
    assert len(outcome.report["check"]["cases"]) == len(list(_cases()))
    assert f"`{digest}`" in outcome.summary


def test_the_same_model_makes_the_same_image_at_once(generated: dict[str, Any], base_image: str) -> None:
    workspace: Workspace = generated["workspace"]
    again = workspace.build(model="model/wine.joblib", tags="joblib", base_image=base_image, check="false")
    assert again.outputs["image-id"] == generated["joblib"].outputs["image-id"]
    assert again.report["seconds"] < 5


def test_the_open_inference_protocol(served: tuple[Any, str]) -> None:
    _, address = served
    assert ask(address, "GET", "/v2/health/live") == (200, {"live": True})
    assert ask(address, "GET", "/v2/models/wine/ready") == (200, {"name": "wine", "ready": True})
    assert ask(address, "GET", "/v2")[1]["name"] == "ml-deploy"
    metadata = ask(address, "GET", "/v2/models/wine")[1]
    assert metadata["inputs"][0]["shape"] == [-1, 13]
    tensor = {"name": "x", "shape": [1, 13], "datatype": "FP64", "data": ROW}
    status, answer = ask(address, "POST", "/v2/models/wine/infer", json.dumps({"id": "7", "inputs": [tensor]}).encode())
    assert (status, answer["model_name"], answer["id"]) == (200, "wine", "7")
    plain = ask(address, "POST", "/predict", json.dumps({"instances": [ROW]}).encode())[1]
    assert answer["outputs"][1]["data"] == pytest.approx(plain["probabilities"][0])
    assert answer["outputs"][1]["shape"] == [1, 3]


BAD: list[tuple[str, bytes]] = [
    ("/predict", b""), ("/predict", b"{"), ("/predict", b"\xff"), ("/predict", b"[" * 100_000), ("/predict", b"{}"),
    ("/predict", b'{"instances": []}'), ("/predict", b'{"instances": [[1, 2]]}'), ("/predict", b'{"instances": [["a"]]}'),
    ("/predict", json.dumps({"instances": [["a"] * 13]}).encode()), ("/predict", json.dumps({"instances": [[None] * 13]}).encode()),
    ("/predict", json.dumps({"instances": [[1e308] * 13]}).encode()), ("/predict", json.dumps({"instances": [[[1]] * 13]}).encode()),
    ("/v2/models/wine/infer", b'{"inputs": [5]}'), ("/v2/models/other/infer", b"{}"),
    ("/v2/models/wine/infer", json.dumps({"inputs": [{"name": "x", "shape": [9, 13], "datatype": "FP32", "data": ROW}]}).encode()),
    ("/v2/models/wine/infer", json.dumps({"inputs": [{"name": "x", "shape": [1, 13], "datatype": "BYTES", "data": ["a"] * 13}]}).encode()),
]  # fmt: skip


def test_bad_requests_are_the_clients_fault(served: tuple[Any, str]) -> None:
    container, address = served
    for path, body in BAD:
        status, answer = ask(address, "POST", path, body)
        assert 400 <= status < 500, (path, body[:80], status, answer)
        assert answer["error"]
    assert ask(address, "GET", "/predict")[0] == 405
    assert b"Traceback" not in container.logs()


def test_a_request_under_way_is_answered_after_sigterm(served: tuple[Any, str]) -> None:
    container, address = served
    host, _, port = address.partition(":")
    body = json.dumps({"instances": [ROW]}).encode()
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body[:20])
        time.sleep(0.3)
        container.kill("SIGTERM")
        time.sleep(0.5)
        connection.sendall(body[20:])
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert container.wait(timeout=20)["StatusCode"] == 0


def test_the_users_own_dockerfile(workspace: Workspace) -> None:
    workspace.write("Dockerfile", SERVER.format(base=workspace.base))
    workspace.write("app.py", APP)
    workspace.write("cases.jsonl", '{"request": {"instances": [[1]]}, "expect": {"predictions": [1]}}')
    outcome = workspace.build(cases="cases.jsonl", tags="v1\nlatest")
    assert outcome.code == 0, outcome.log
    assert outcome.outputs["image"] == f"{workspace.name}:v1"
    assert "SIGTERM" not in outcome.log


def test_a_wrong_answer_stops_the_job(workspace: Workspace) -> None:
    workspace.write("Dockerfile", SERVER.format(base=workspace.base))
    workspace.write("app.py", APP)
    workspace.write("cases.jsonl", '{"name": "low", "request": {"instances": [[1]]}, "expect": {"predictions": [2]}}')
    outcome = workspace.build(cases="cases.jsonl")
    assert (outcome.code, outcome.outputs["reason"]) == (12, "wrong-answers")
    assert "expected 2, got 1" in outcome.log
    assert outcome.outputs["image-id"].startswith("sha256:")


def test_a_container_that_ends_tells_why(workspace: Workspace) -> None:
    workspace.write("Dockerfile", SERVER.format(base=workspace.base))
    workspace.write("app.py", "raise SystemExit('the feature store did not answer')")
    outcome = workspace.build()
    assert (outcome.code, outcome.outputs["reason"]) == (14, "endpoint")
    assert "ended before it was ready (exit status 1)" in outcome.log
    assert "the feature store did not answer" in outcome.log


def test_a_root_that_is_read_only(workspace: Workspace) -> None:
    workspace.write("Dockerfile", SERVER.format(base=workspace.base).replace("USER 10001\n", ""))
    workspace.write("app.py", "open('/app/cache', 'w').write('x')\n" + APP)
    outcome = workspace.build()
    assert outcome.code == 14
    assert "read-only: false" in outcome.log
    assert workspace.build(read_only="false").code == 0


def test_a_command_that_is_not_there(workspace: Workspace) -> None:
    workspace.write("Dockerfile", f'FROM {workspace.base}\nEXPOSE 80\nUSER 10001\nCMD ["gunicorn"]\n')
    outcome = workspace.build()
    assert outcome.code == 14
    assert "gunicorn" in outcome.log


def test_a_failing_dockerfile_names_its_line(workspace: Workspace) -> None:
    workspace.write(
        "Dockerfile", f"FROM {workspace.base}\n\nRUN echo fine && \\\n    python3 -c 'import nothing_here'\n"
    )
    outcome = workspace.build()
    assert (outcome.code, outcome.outputs["reason"]) == (4, "build")
    assert "Dockerfile, line 3:" in outcome.log
    assert "No module named 'nothing_here'" in outcome.summary


def test_a_base_image_that_nobody_has(workspace: Workspace) -> None:
    workspace.write("Dockerfile", "FROM localhost:1/nothing:v1\n")
    outcome = workspace.build()
    assert outcome.code == 4
    assert "localhost:1/nothing:v1 cannot be pulled" in outcome.log


def test_no_engine(workspace: Workspace) -> None:
    workspace.write("Dockerfile", "FROM scratch\n")
    outcome = workspace.build(env={"DOCKER_HOST": f"unix://{workspace.folder}/nothing.sock"})
    assert (outcome.code, outcome.outputs["reason"]) == (5, "engine")
    assert "it is not running" in outcome.log


def test_no_docker_command(workspace: Workspace) -> None:
    workspace.write("Dockerfile", "FROM scratch\n")
    outcome = workspace.build(env={"PATH": str(workspace.folder)})
    assert outcome.code == 5
    assert "`docker` command is not installed" in outcome.log


def test_what_needs_buildx_works_or_is_refused(workspace: Workspace) -> None:
    workspace.write("Dockerfile", f"FROM {workspace.base}\nRUN --mount=type=secret,id=key wc -c < /run/secrets/key\n")
    outcome = workspace.build(secrets="key=hunter2secret", check="false")
    assert "hunter2secret" not in outcome.log + json.dumps(outcome.report)
    if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode == 0:
        assert outcome.code == 0, outcome.log
    else:
        assert outcome.code == 2
        assert "`secrets` cannot work here" in outcome.log


def test_a_cancelled_build_ends_at_once(workspace: Workspace) -> None:
    workspace.write("Dockerfile", f"FROM {workspace.base}\nRUN echo begun && sleep 60\n")
    with subprocess.Popen(
        workspace.command(), cwd=workspace.folder, env=workspace.env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "sleep 60" in line:
                break
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        rest = process.stdout.read()
    assert time.monotonic() - start < 7  # the runner's SIGTERM comes 7.5 s after its SIGINT
    assert process.returncode == 130
    assert "cancelled" in rest
