"""The Docker engine, as far as pods need it, each call on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import docker
from docker.errors import DockerException
from docker.utils import parse_repository_tag

THREADS = 256  # one waits for each running container


class EngineError(Exception):
    """The engine does not answer, or refused; `code` is its HTTP status then."""

    def __init__(self, error: Exception) -> None:
        super().__init__(getattr(error, "explanation", None) or str(error))
        self.code = getattr(error, "status_code", 0)


class Engine:
    """A connection to the engine that DOCKER_HOST names, or the local one."""

    def __init__(self) -> None:
        """Raises EngineError when none answers."""
        self._threads = ThreadPoolExecutor(THREADS)
        try:
            client: Any = docker.from_env(max_pool_size=THREADS)
            self._api = client.api
            self._api.timeout = None  # a wait for a container takes as long as it takes
        except DockerException as error:
            raise EngineError(error) from error

    async def call(self, name: str, *words: Any, **options: Any) -> Any:
        """A method of docker-py's low-level client. Raises EngineError."""
        return await self._run(partial(getattr(self._api, name), *words, **options))

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (DockerException, OSError) as error:  # requests' errors are OSErrors
            raise EngineError(error) from error

    async def image(self, reference: str) -> dict[str, Any] | None:
        """The image as the engine has it, or None."""
        name, _, digest = reference.partition("@")
        try:
            name = f"{parse_repository_tag(name)[0]}@{digest}" if digest else name
            found: dict[str, Any] = await self.call("inspect_image", name)
        except EngineError as error:
            if error.code == 404:
                return None
            raise
        return found

    async def pull(self, reference: str) -> None:
        """Pull an image with the credentials of the local docker configuration. Raises EngineError."""
        name, _, digest = reference.partition("@")
        repository, tag = parse_repository_tag(name)
        lines = await self.call("pull", repository, tag=digest or tag or "latest", stream=True, decode=True)
        for line in await self._run(partial(list, lines)):
            if "error" in line:
                raise EngineError(DockerException(line["error"]))

    async def run(self, name: str, config: dict[str, Any]) -> str:
        """Create and start a container; its id. Raises EngineError, leaving no container behind."""
        made = await self.call("create_container_from_config", config, name)
        try:
            await self.call("start", made["Id"])
        except EngineError:
            await self.remove(made["Id"])
            raise
        return str(made["Id"])

    async def remove(self, container: str) -> None:
        """Remove a container, if it is there."""
        try:
            await self.call("remove_container", container, force=True, v=True)
        except EngineError as error:
            if error.code not in (404, 409):
                raise

    async def remove_labelled(self, label: str) -> None:
        """Remove all containers with a label."""
        found = await self.call("containers", all=True, filters={"label": label})
        await asyncio.gather(*(self.remove(one["Id"]) for one in found))

    async def execute(self, container: str, command: list[str]) -> tuple[int, str]:
        """Run a command in a container; its exit code and output."""
        made = await self.call("exec_create", container, command)
        output = await self.call("exec_start", made["Id"])
        state = await self.call("exec_inspect", made["Id"])
        return int(state["ExitCode"] or 0), output.decode(errors="replace")

    async def logs(self, container: str, **options: Any) -> AsyncIterator[bytes]:
        """A container's output; asked for at once, read as far as the caller reads."""
        chunks = iter(await self.call("logs", container, stream=True, **options))

        async def read() -> AsyncIterator[bytes]:
            while chunk := await self._run(partial(next, chunks, b"")):
                yield chunk

        return read()

    def close(self) -> None:
        """Let go of the threads; those that wait for a container end with it."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._api.close()
