"""What commands need of a container engine, as a protocol. `adapters/engine.py` is the real one.

Pushing is the business of `images/registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class EngineInfo:
    """The engine that answers. `buildx` is the plugin's version, empty where it is not installed."""

    version: str
    api_version: str
    buildx: str = ""


@dataclass(frozen=True)
class ImageInfo:
    """An image of the engine. `size` in bytes, unpacked; `id` is `sha256:…` of its configuration."""

    id: str
    size: int
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One step of an image's history: what made it, and its bytes."""

    created_by: str
    size: int


@dataclass(frozen=True)
class ContextFile:
    """A file of a build context that we make: a name in it, and bytes or the file they come from."""

    name: str
    source: bytes | Path


@dataclass(frozen=True)
class BuildRequest:
    """One build. `context` is a folder (with `dockerfile` a path), or files (with `dockerfile` a name among them)."""

    context: Path | tuple[ContextFile, ...]
    dockerfile: Path | str
    tags: tuple[str, ...]
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """What a build made. `metadata` is buildx's own (empty from the classic builder)."""

    image_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class BuildError(Exception):
    """The builder stopped; `output` is all that it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output.strip()[-500:])
        self.output = output


@dataclass(frozen=True)
class RunRequest:
    """A container to start, without new privileges. `port` is published on a free port of 127.0.0.1.

    read_only:    a read-only root file system with a writable /tmp.
    capabilities: whether it keeps the engine's default capabilities; a strict cluster drops them all.
    """

    image: str
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = True
    capabilities: bool = False


@dataclass(frozen=True)
class ContainerState:
    """A moment of a container. `exit_code` counts only when it is not running."""

    running: bool
    exit_code: int = 0
    out_of_memory: bool = False
    error: str = ""


class Container(Protocol):
    """A container that we started."""

    id: str
    address: str
    """`host:port` at which `RunRequest.port` is reached from here."""

    def state(self) -> ContainerState:
        """Its state now."""

    def logs(self, tail: int = 20) -> str:
        """The last lines of both its streams."""

    def stop(self, seconds: float) -> float:
        """SIGTERM, then SIGKILL after `seconds`; the seconds that it took."""

    def remove(self) -> None:
        """Remove it, running or not; nothing when it is gone."""


class Engine(Protocol):
    """A container engine. Every method raises EngineUnavailable when none answers."""

    def info(self) -> EngineInfo:
        """Ask the engine who it is."""

    def build(self, request: BuildRequest, line: Callable[[str], None]) -> Built:
        """Build with buildx where it is, else with the classic builder; each line of output goes to `line`.

        Raises BuildError when the builder stops, InputError for what the classic builder cannot do.
        """

    def inspect(self, image: str) -> ImageInfo | None:
        """An image by reference or ID; None when the engine does not have it."""

    def history(self, image: str) -> list[Layer]:
        """How an image was made, newest step first."""

    def tag(self, image: str, reference: str) -> None:
        """Give an image one more name."""

    def run(self, request: RunRequest) -> Container:
        """Start a container. Raises EndpointDown when the engine cannot start it (no such command, bad user)."""
