"""The Docker engine's HTTP API, as far as pods need it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import platform
import struct
import tarfile
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp

PAUSE_IMAGE = "ml-deploy-pause:1"

# What the pause binary does: wait for signals for ever (pause on x86-64, ppoll on aarch64).
_CODE = {
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),
    "aarch64": (
        183,
        struct.pack("<7I", 0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800928, 0xD4000001, 0x17FFFFFA),
    ),
}


class EngineError(Exception):
    """The engine refused; `code` is its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine:
    """A connection to the engine that DOCKER_HOST names, or the local one."""

    def __init__(self) -> None:
        host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        unix = host.startswith("unix://")
        connector = (
            aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0) if unix else aiohttp.TCPConnector(limit=0)
        )
        self._base = "http://docker" if unix else host.replace("tcp://", "http://")
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any
    ) -> Any:
        """One request; its JSON answer (None when empty). Raises EngineError."""
        async with await self._open(method, path, body, headers, query) as response:
            raw = await response.read()
        return json.loads(raw) if raw and response.content_type == "application/json" else None

    async def _open(
        self, method: str, path: str, body: Any, headers: dict[str, str] | None, query: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        params = {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in query.items()}
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        try:
            response = await self._session.request(method, self._base + path, params=params, headers=headers, **content)
        except aiohttp.ClientConnectionError as error:
            raise EngineError(0, f"the Docker engine does not answer: {error}") from error
        if response.status >= 400:
            text = await response.text()
            response.close()
            raise EngineError(response.status, _message(text))
        return response

    async def image(self, reference: str) -> dict[str, Any] | None:
        """The image as the engine has it, or None."""
        try:
            found: dict[str, Any] = await self.call("GET", f"/images/{quote(untagged(reference), safe='/:@')}/json")
        except EngineError as error:
            if error.code == 404:
                return None
            raise
        return found

    async def pull(self, reference: str, auth: dict[str, str] | None) -> None:
        """Pull an image. Raises EngineError with the registry's word."""
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()} if auth else {}
        name, tag = split(untagged(reference))
        async with await self._open(
            "POST", "/images/create", None, headers, {"fromImage": name, "tag": tag}
        ) as response:
            async for line in response.content:
                if error := json.loads(line).get("error"):
                    raise EngineError(500, error)

    async def ensure_pause(self) -> None:
        """The image that holds a pod's network, made here: no registry is needed for it."""
        if await self.image(PAUSE_IMAGE) is None:
            name, tag = split(PAUSE_IMAGE)
            await self.call("POST", "/images/create", _pause_layer(), fromSrc="-", repo=name, tag=tag)

    async def run(self, name: str, config: dict[str, Any]) -> str:
        """Create and start a container; its id. Raises EngineError, leaving no container behind."""
        made = await self.call("POST", "/containers/create", config, name=name)
        try:
            await self.call("POST", f"/containers/{made['Id']}/start")
        except EngineError:
            await self.remove(made["Id"])
            raise
        return str(made["Id"])

    async def remove(self, container: str) -> None:
        try:
            await self.call("DELETE", f"/containers/{container}", force="1", v="1")
        except EngineError as error:
            if error.code not in (404, 409):
                raise

    async def remove_labelled(self, label: str) -> None:
        """Remove all containers with a label."""
        found = await self.call("GET", "/containers/json", all="1", filters={"label": {label: True}})
        await asyncio.gather(*(self.remove(one["Id"]) for one in found))

    async def execute(self, container: str, command: list[str]) -> tuple[int, str]:
        """Run a command in a container; its exit code and output."""
        made = await self.call("POST", f"/containers/{container}/exec",
                               {"Cmd": command, "AttachStdout": True, "AttachStderr": True})  # fmt: skip
        async with await self._open("POST", f"/exec/{made['Id']}/start", {"Detach": False}, None, {}) as response:
            output = b"".join([chunk async for chunk in _frames(response)])
        state = await self.call("GET", f"/exec/{made['Id']}/json")
        return int(state.get("ExitCode") or 0), output.decode(errors="replace")

    async def logs(self, container: str, **query: Any) -> AsyncIterator[bytes]:
        """A container's output. The request is made at once, reading it is up to the caller."""
        response = await self._open(
            "GET", f"/containers/{container}/logs", None, None, {"stdout": 1, "stderr": 1, **query}
        )
        return _frames(response)


async def _frames(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The engine's stream of stdout and stderr, without its 8-byte headers."""
    async with response:
        while head := await response.content.read(1):
            head += await response.content.readexactly(7)
            yield await response.content.readexactly(struct.unpack(">xxxxI", head)[0])


def split(reference: str) -> tuple[str, str]:
    """Name and tag (or digest) of an image reference; `latest` when there is none."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    head, _, tail = reference.rpartition("/")
    name, _, tag = tail.partition(":")
    return f"{head}/{name}" if head else name, tag or "latest"


def untagged(reference: str) -> str:
    """`name:tag@digest` as `name@digest`."""
    name, at, digest = reference.partition("@")
    return f"{split(name)[0]}@{digest}" if at else reference


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError):
        return text.strip()


def _pause_layer() -> bytes:
    machine, code = _CODE[platform.machine()]
    start, size = 0x400000, 120 + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, machine, 1, start + 120, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000)
    binary = header + program + code
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(binary), 0o755
        archive.addfile(entry, io.BytesIO(binary))
    return layer.getvalue()
