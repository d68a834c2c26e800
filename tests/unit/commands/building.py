"""A workspace for build-image, with an engine and an endpoint that fail on what was not expected."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clock import FakeClock

from ml_deploy.checks.http import Answer, EndpointAccess, Request
from ml_deploy.commands import build_image
from ml_deploy.commands.ports import Clock
from ml_deploy.errors import MlDeployError
from ml_deploy.images.engine import (
    BuildError,
    BuildRequest,
    Built,
    ContainerState,
    EngineInfo,
    ImageInfo,
    Layer,
    RunRequest,
)
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.fields import read
from ml_deploy.runtime.github import Job

ID = "sha256:" + "1" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NO_HOST = 'Step 1/1 : FROM python:3.12-slim\nGet "https://r.io/v2/": net/http: TLS handshake timeout'


@dataclass
class FakeContainer:
    """A container that becomes what `states` says, the last state for ever."""

    states: list[ContainerState]
    log: str = ""
    stops: float = 0.3
    removed: int = 0
    id: str = "c0ffee"
    address: str = "127.0.0.1:4242"

    def state(self) -> ContainerState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def logs(self, tail: int = 20) -> str:
        return "\n".join(self.log.splitlines()[-tail:])

    def stop(self, seconds: float) -> float:
        return min(self.stops, seconds)

    def remove(self) -> None:
        self.removed += 1


@dataclass
class FakeEngine:
    """Builds one image; `failures` are the outputs of the builds that fail first."""

    image: ImageInfo
    container: FakeContainer
    failures: list[str] = field(default_factory=list)
    buildx: str = ""
    built: list[BuildRequest] = field(default_factory=list)
    ran: list[RunRequest] = field(default_factory=list)

    def info(self) -> EngineInfo:
        return EngineInfo("28.0", "1.48", self.buildx)

    def build(self, request: BuildRequest, line: Callable[[str], None]) -> Built:
        self.built.append(request)
        line("a line of the builder")
        if self.failures:
            raise BuildError(self.failures.pop(0))
        return Built(ID, {"containerimage.digest": "sha256:abc"} if self.buildx else {})

    def inspect(self, image: str) -> ImageInfo | None:
        assert image == ID
        return self.image

    def history(self, image: str) -> list[Layer]:
        return [
            Layer("/bin/sh -c #(nop) COPY model", 10),
            Layer("/bin/sh -c pip install torch", 900_000_000),
            Layer("x", 0),
        ]

    def run(self, request: RunRequest) -> FakeContainer:
        self.ran.append(request)
        return self.container

    def tag(self, image: str, reference: str) -> None:
        raise AssertionError("nothing is tagged afterwards")


@dataclass
class FakeEndpoint:
    """Answers by path; an answer that is an error is raised. The last of a path's answers stays."""

    answers: dict[str, list[Answer | MlDeployError]]
    asked: list[str] = field(default_factory=list)

    def ask(self, request: Request) -> Answer:
        self.asked.append(f"{request.method} {request.path}")
        answers = self.answers[request.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, MlDeployError):
            raise answer
        return answer

    def load(self, plan: Any, requests: Sequence[Request]) -> Any:
        raise AssertionError("no load in a build")

    def close(self) -> None:
        pass


class FakeAdapters:
    """What build-image may use; anything else fails."""

    def __init__(self, temp: Path, engine: FakeEngine, endpoint: FakeEndpoint) -> None:
        self.log = io.StringIO()
        self.console = Console(self.log)
        self.job = Job(
            {
                "RUNNER_TEMP": str(temp),
                "GITHUB_SHA": COMMIT,
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "o/r",
            }
        )
        self.slept: list[float] = []
        self.clock: Clock = FakeClock(slept=self.slept)
        self._engine, self._endpoint = engine, endpoint

    def engine(self) -> FakeEngine:
        return self._engine

    def endpoint(self, access: EndpointAccess) -> FakeEndpoint:
        assert access.url == "http://127.0.0.1:4242"
        return self._endpoint

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"build-image uses {name}")


def ok(body: Any = None) -> Answer:
    return Answer(200, {"content-type": "application/json"}, json.dumps(body).encode(), 0.01)


class Bench:
    """A workspace with a Dockerfile, a model and golden predictions, and all the fakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Dockerfile").write_text("FROM python:3.12-slim\nEXPOSE 8000\n")
        (folder / "model.bin").write_bytes(b"a model")
        (folder / "cases.jsonl").write_text('{"request": {"instances": [[1]]}, "expect": {"predictions": [2]}}\n')
        self.image = ImageInfo(ID, 200_000_000, user="10001", ports=(8000,), command=("uvicorn", "app"))
        self.container = FakeContainer([ContainerState(running=True)])
        self.endpoint = FakeEndpoint({"/": [ok()], "/predict": [ok({"predictions": [2]})]})
        self.engine = FakeEngine(self.image, self.container)

    def run(self, **given: str) -> build_image.Result:
        values = {name.replace("_", "-"): value for name, value in {"image": "wine", **given}.items()}
        self.adapters = FakeAdapters(self.folder, self.engine, self.endpoint)
        return build_image.run(read(build_image.Inputs, values), self.adapters)

    @property
    def text(self) -> str:
        return self.adapters.log.getvalue()

    def report(self, result: object) -> Any:
        assert isinstance(result, build_image.Result)
        return json.loads(Path(result.report).read_text())
