"""What checks need of HTTP: a request, an answer, and something that turns one into the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from ml_deploy.checks.compare import cut
from ml_deploy.checks.load import Load, Plan


@dataclass(frozen=True)
class Request:
    """One request, addressed relative to the endpoint that is asked."""

    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """One answer; `seconds` is the time from sending the request to the last byte of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0


#: Sends a request and returns the answer, whatever its status. Raises EndpointDown when none comes.
Ask = Callable[[Request], Answer]


@dataclass(frozen=True)
class EndpointAccess:
    """How to reach an endpoint: its address, headers for every request, a CA (path or PEM text) for TLS.

    `seconds` is how long one request may take from its start to the last byte of the answer.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""
    seconds: float = 10.0


class Endpoint(Protocol):
    """An HTTP endpoint."""

    def ask(self, request: Request) -> Answer:
        """Send one request; the answer counts whatever its status. Raises EndpointDown when none comes."""

    def load(self, plan: Plan, requests: Sequence[Request]) -> Load:
        """Send the requests in turn as planned, open loop: no request waits for the answer to another."""

    def close(self) -> None:
        """Close the connections."""


def problem_of(url: str) -> str:
    """What is wrong with an endpoint's address, in words that repeat nothing that may be secret; empty when nothing is."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"`url` is no address ({cut(str(error))})"
    if parts.username is not None or parts.password is not None:
        return "`url` contains a user or password: send an Authorization header in `headers` instead"
    if parts.query or parts.fragment:
        return (
            "`url` has a query or fragment, and it is the base of several addresses: put what comes after `?` into "
            "`headers`, or into `url-path` and the `path` of each golden prediction"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"`url` is no HTTP address: write it as http://host:port or https://host (it is {cut(url)!r})"
    return ""


def join(base: str, path: str) -> str:
    """A base path and a path below it, with exactly one slash between them: `/v1/` + `/predict` -> `/v1/predict`."""
    if not base.strip("/"):
        return "/" + path.lstrip("/")
    return "/" + base.strip("/") + ("/" + path.lstrip("/") if path.strip("/") else path)


def header(answer: Answer, name: str) -> str:
    """A header's value whatever the case of its name, or an empty string."""
    return next((value for key, value in answer.headers.items() if key.lower() == name.lower()), "")
