"""Probes and hooks: one question to a container, and its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from .engine import Engine, EngineError
from .kinds import Object


def port_of(value: int | str, container: Object) -> int:
    """A port by number or by its name in the container."""
    if str(value).isdigit():
        return int(value)
    return next((port["containerPort"] for port in container.get("ports") or [] if port.get("name") == value), 0)


@dataclass(frozen=True)
class Asked:
    """The container that is asked, and the ways to it."""

    http: aiohttp.ClientSession
    engine: Engine
    id: str
    ip: str
    spec: Object

    async def ask(self, action: Object, seconds: float) -> str | None:
        """Do what a probe or hook says. None when it succeeds, else why not."""
        try:
            return await asyncio.wait_for(self._act(action), seconds)
        except asyncio.TimeoutError:
            return f"timed out after {seconds:g}s: context deadline exceeded"
        except (OSError, aiohttp.ClientError, EngineError) as error:
            return str(error)

    async def _act(self, action: Object) -> str | None:
        if "sleep" in action:
            await asyncio.sleep(action["sleep"]["seconds"])
        elif "exec" in action:
            code, output = await self.engine.execute(self.id, action["exec"]["command"])
            return (output.strip() or f"command exited with {code}") if code else None
        elif "httpGet" in action:
            return await self._http(action["httpGet"])
        elif "tcpSocket" in action:
            _, writer = await asyncio.open_connection(self.ip, port_of(action["tcpSocket"]["port"], self.spec))
            writer.close()
        return None

    async def _http(self, get: Object) -> str | None:
        where = f"{get.get('host') or self.ip}:{port_of(get['port'], self.spec)}"
        address = f"{get['scheme'].lower()}://{where}/{get['path'].lstrip('/')}"
        headers = {"User-Agent": "kube-probe/1.36"}
        headers |= {one["name"]: one["value"] for one in get.get("httpHeaders") or []}
        try:
            async with self.http.get(address, headers=headers, allow_redirects=False) as answer:
                return None if 200 <= answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
        except aiohttp.ClientConnectorError as error:
            return f'Get "{address}": dial tcp {where}: connect: {(error.os_error.strerror or str(error)).lower()}'
