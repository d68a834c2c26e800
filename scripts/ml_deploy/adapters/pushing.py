"""The engine's part of a push, through docker-py."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from ml_deploy.errors import EngineUnavailable, TimedOut
from ml_deploy.images.registry import PushEvent


def push(name: str, tag: str, credential: Mapping[str, Any], seconds: float) -> Iterator[PushEvent]:
    """The engine's events of pushing `name:tag`; docker-py does not raise when a push fails, nor do we.

    credential: sent along with the request and stored nowhere. seconds: how long the engine may be silent.
    Raises EngineUnavailable, TimedOut.
    """
    import requests
    from docker.errors import APIError, DockerException

    try:
        client = _client(seconds)
        events = client.push(name, tag, stream=True, decode=True, auth_config=dict(credential))
        for event in events:
            yield cast(PushEvent, event)
    except APIError as error:
        yield {"error": str(error.explanation or error)}
    except (requests.exceptions.ReadTimeout, TimeoutError) as error:
        raise TimedOut(f"The engine said nothing about the push of {name}:{tag} for {seconds:.0f} s.") from error
    except (DockerException, requests.RequestException, OSError) as error:
        raise EngineUnavailable(
            f"The container engine went away during the push of {name}:{tag}: {error}",
            hint="Check that Docker is running: `docker version`.",
        ) from error


def stored_credential(host: str) -> tuple[str, str, str] | None:
    """User, password and refresh token that `docker login` stored for a host, or None."""
    import docker.auth
    from docker.errors import DockerException

    try:
        found = docker.auth.load_config().resolve_authconfig(host)
    except (DockerException, OSError, ValueError):  # a helper that is not installed, a file that is no JSON
        return None
    if not found:
        return None
    get = {key.lower(): str(value) for key, value in found.items() if value}
    return get.get("username", ""), get.get("password", ""), get.get("identitytoken", "")


def insecure(host: str) -> bool:
    """Whether the engine reaches the host without TLS: it is this machine, or listed in `insecure-registries`."""
    from docker.errors import DockerException

    name = urlsplit(f"//{host}").hostname or ""
    address = _address(name)
    if name == "localhost" or name.endswith(".localhost") or (address and address.is_loopback):
        return True
    try:
        config: dict[str, Any] = _client(10.0).info().get("RegistryConfig") or {}
    except (DockerException, OSError):
        return False
    index = (config.get("IndexConfigs") or {}).get(host)
    if index is not None:
        return not index.get("Secure", True)
    nets = config.get("InsecureRegistryCIDRs") or ()
    return address is not None and any(address in ipaddress.ip_network(net) for net in nets)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _client(seconds: float) -> Any:
    from docker import APIClient
    from docker.utils import kwargs_from_env

    from ml_deploy.adapters import builder

    env = builder.engine_environment()
    return APIClient(**kwargs_from_env(environment=env), version="auto", timeout=max(1, round(seconds)))
