"""The Docker Engine: docker-py for what its API does, the docker command for builds.

docker-py cannot speak to BuildKit, so builds are subprocesses (`adapters/builder.py`).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ml_deploy.adapters import builder
from ml_deploy.errors import EndpointDown, EngineUnavailable
from ml_deploy.images.engine import BuildRequest, Built, ContainerState, EngineInfo, ImageInfo, Layer, RunRequest

_START = "On GitHub use an `ubuntu-*` runner; on your own machine start Docker (`sudo systemctl start docker`, or Docker Desktop)."


class DockerEngine:
    """Satisfies `ml_deploy.images.engine.Engine`. `temp` is a folder for a build's files. Connects on first use."""

    def __init__(self, temp: Path) -> None:
        self._temp = temp
        self._connected: Any = None

    def info(self) -> EngineInfo:
        """Ask the engine who it is."""
        with _ours():
            version = self._client.version()
        return EngineInfo(version["Version"], version["ApiVersion"], builder.buildx_version())

    def build(self, request: BuildRequest, line: Callable[[str], None]) -> Built:
        """Build, and find the image by the ID that the builder wrote, else by its first tag."""
        self._ping()
        written = builder.build(request, self._temp, line)
        image = self.inspect(written.image_id) if written.image_id else None
        image = image or self.inspect(request.tags[0])
        if image is None:
            raise EngineUnavailable(
                f"The builder finished, but the engine has no image {request.tags[0]}.",
                hint="Check that the builder in use (`docker buildx ls`) loads into this engine.",
            )
        return Built(image.id, written.metadata)

    def inspect(self, image: str) -> ImageInfo | None:
        """An image by reference or ID; None when the engine does not have it."""
        import docker.errors

        try:
            with _ours():
                return _image(self._client.api.inspect_image(image))
        except docker.errors.NotFound:
            return None

    def history(self, image: str) -> list[Layer]:
        """How an image was made, newest step first."""
        with _ours():
            return [Layer(row["CreatedBy"], row["Size"]) for row in self._client.api.history(image)]

    def tag(self, image: str, reference: str) -> None:
        """Give an image one more name."""
        with _ours():
            self._client.images.get(image).tag(reference)

    def run(self, request: RunRequest) -> DockerContainer:
        """Start a container. Raises EndpointDown when the engine cannot start it."""
        import docker.errors

        with _ours():
            network = _own_network(self._client)
            created = self._client.containers.create(**_container(request, network))
            try:
                created.start()
                return DockerContainer(created, _address(created, request.port, network))
            except BaseException as error:
                created.remove(force=True)
                if isinstance(error, docker.errors.APIError):
                    raise EndpointDown(
                        f"The container cannot be started: {error.explanation or error}.",
                        hint="Check CMD, ENTRYPOINT and USER of the image.",
                    ) from error
                raise

    @property
    def _client(self) -> Any:
        if self._connected is None:
            import docker

            self._connected = docker.from_env(environment=builder.engine_environment())
        return self._connected

    def _ping(self) -> None:
        with _ours():
            self._client.ping()


class DockerContainer:
    """Satisfies `ml_deploy.images.engine.Container`."""

    def __init__(self, container: Any, address: str) -> None:
        self.id = str(container.id)
        self.address = address
        self._container = container

    def state(self) -> ContainerState:
        """Its state now."""
        with _ours():
            self._container.reload()
        state = self._container.attrs["State"]
        return ContainerState(
            running=bool(state["Running"]), exit_code=int(state["ExitCode"]),
            out_of_memory=bool(state.get("OOMKilled")), error=str(state.get("Error") or ""),
        )  # fmt: skip

    def logs(self, tail: int = 20) -> str:
        """The last lines of both its streams."""
        with _ours():
            return str(self._container.logs(tail=tail).decode("utf-8", "replace"))

    def stop(self, seconds: float) -> float:
        """SIGTERM, then SIGKILL after `seconds`; the seconds that it took."""
        start = time.monotonic()
        with _ours():
            self._container.stop(timeout=round(seconds))
        return time.monotonic() - start

    def remove(self) -> None:
        """Remove it, running or not; nothing when it is gone."""
        import docker.errors

        with _ours(), contextlib.suppress(docker.errors.NotFound):
            self._container.remove(force=True, v=True)


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Failed connections become EngineUnavailable; what the API answers stays what it is."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.APIError:
        raise
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise unavailable(str(error)) from error


def unavailable(why: str) -> EngineUnavailable:
    """No engine answers: the commonest reasons in words."""
    where = builder.engine_environment().get("DOCKER_HOST") or "its socket"
    if re.search(r"permission denied|PermissionError", why, re.I):
        return EngineUnavailable(
            f"This user may not use the Docker Engine at {where} (permission denied).",
            hint="Add the user that runs the job to the group `docker`.",
        )
    if re.search(r"No such file|FileNotFoundError|refused|Connection aborted", why):
        return EngineUnavailable(f"No Docker Engine answers at {where}: it is not running.", hint=_START)
    return EngineUnavailable(
        f"The Docker Engine at {where} does not answer: {' '.join(why.split())[:300]}", hint=_START
    )


def _image(raw: dict[str, Any]) -> ImageInfo:
    config = raw.get("Config") or {}
    ports = [port.partition("/") for port in config.get("ExposedPorts") or {}]
    return ImageInfo(
        id=raw["Id"], size=int(raw["Size"]),
        user=config.get("User") or "", labels=config.get("Labels") or {},
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        ports=tuple(sorted(int(number) for number, _, kind in ports if kind != "udp")),
        tags=tuple(raw.get("RepoTags") or ()), repo_digests=tuple(raw.get("RepoDigests") or ()),
    )  # fmt: skip


def _container(request: RunRequest, network: str) -> dict[str, Any]:
    """docker-py's words for a container that may do no more than a strict cluster lets it."""
    words: dict[str, Any] = {
        "image": request.image,
        "environment": dict(request.env),
        "labels": dict(request.labels),
        "read_only": request.read_only,
        "tmpfs": {"/tmp": "rw,exec,mode=1777"} if request.read_only else {},
        "security_opt": ["no-new-privileges:true"],
        "cap_drop": [] if request.capabilities else ["ALL"],
    }
    if network:
        return {**words, "network": network}
    return {**words, "ports": {f"{request.port}/tcp": (_bind(), None)}}


def _bind() -> str:
    return "127.0.0.1" if _host() == "127.0.0.1" else "0.0.0.0"  # noqa: S104 (a remote engine's port must be reachable)


def _host() -> str:
    """Where published ports are reached: this machine, or that of a remote engine."""
    parts = urlsplit(builder.engine_environment().get("DOCKER_HOST", ""))
    remote = parts.scheme in ("tcp", "ssh", "http", "https") and parts.hostname not in ("localhost", None)
    return str(parts.hostname) if remote else "127.0.0.1"


def _address(container: Any, port: int, network: str) -> str:
    container.reload()
    settings = container.attrs["NetworkSettings"]
    if network:
        return f"{settings['Networks'][network]['IPAddress']}:{port}"
    published = (settings["Ports"] or {}).get(f"{port}/tcp")
    return f"{_host()}:{published[0]['HostPort'] if published else port}"


def _own_network(client: Any) -> str:
    """The network of the container that we run in (a job with `container:`), where ports of the host are out of reach."""
    import docker.errors

    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""
    found = re.search(r"/containers/([0-9a-f]{64})/(?:resolv\.conf|hostname|hosts) ", mounts)
    if not found:
        return ""
    try:
        networks = client.containers.get(found[1]).attrs["NetworkSettings"]["Networks"]
    except docker.errors.NotFound:  # another engine's container
        return ""
    return next((str(name) for name in networks if name not in ("host", "none")), "")
