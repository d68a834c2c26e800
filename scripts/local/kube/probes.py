"""Probes and hooks: one question to a container, and its answer."""

from __future__ import annotations

import asyncio

import aiohttp

from .engine import Engine, EngineError
from .kinds import Object


def port_of(value: int | str, container: Object) -> int:
    """A port by number or by its name in the container."""
    if isinstance(value, int) or str(value).isdigit():
        return int(value)
    return next((port["containerPort"] for port in container.get("ports") or [] if port.get("name") == value), 0)


async def check(
    http: aiohttp.ClientSession, engine: Engine, id_: str, ip: str, probe: Object, container: Object
) -> str | None:
    """Ask once. None when it passes, else why not."""
    seconds = probe["timeoutSeconds"]
    try:
        return await asyncio.wait_for(act(http, engine, id_, ip, probe, container), seconds)
    except asyncio.TimeoutError:
        return f"timed out after {seconds}s: context deadline exceeded"
    except (OSError, aiohttp.ClientError, EngineError) as error:
        return f"{error}"


async def act(
    http: aiohttp.ClientSession, engine: Engine, id_: str, ip: str, action: Object, container: Object
) -> str | None:
    """Do what a probe or hook says; why it failed, or None."""
    if "sleep" in action:
        await asyncio.sleep(action["sleep"]["seconds"])
    elif "exec" in action:
        code, output = await engine.execute(id_, action["exec"]["command"])
        return output.strip() or f"command exited with {code}" if code else None
    elif "httpGet" in action:
        return await _http(http, ip, action["httpGet"], container)
    elif "tcpSocket" in action:
        _, writer = await asyncio.open_connection(ip, port_of(action["tcpSocket"]["port"], container))
        writer.close()
    return None


async def _http(http: aiohttp.ClientSession, ip: str, get: Object, container: Object) -> str | None:
    address = (
        f"{get['scheme'].lower()}://{get.get('host') or ip}:{port_of(get['port'], container)}/{get['path'].lstrip('/')}"
    )
    headers = {one["name"]: one["value"] for one in get.get("httpHeaders") or []}
    try:
        async with http.get(
            address, headers={"User-Agent": "kube-probe/1.36", **headers}, allow_redirects=False
        ) as answer:
            return None if 200 <= answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
    except aiohttp.ClientConnectorError as error:
        return f'Get "{address}": dial tcp {ip}: connect: {error.os_error.strerror or error.os_error}'
