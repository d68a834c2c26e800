"""Inputs that name an HTTP endpoint, shared by the commands that ask one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ml_deploy.checks.headers import parse_headers, secrets_of
from ml_deploy.checks.http import EndpointAccess, problem_of
from ml_deploy.commands.ports import Adapters
from ml_deploy.runtime.fields import duration, secret_lines, text


@dataclass(frozen=True, kw_only=True)
class EndpointInputs:
    """Reaching an endpoint by its address."""

    url: str = text(
        "Address of the endpoint: http://host:port or https://host, with a path if all requests go below it."
    )
    url_path: str = text(
        "Path below `url` that is asked: the one of golden predictions that name none (default /predict), "
        "or without any the one of a GET (default /)."
    )
    headers: tuple[str, ...] = secret_lines("Headers of every request, one `Name: value` a line. They are masked.")
    ca: str = text("CA that signed the endpoint's certificate, as a path or PEM text. Default: the system's.")
    request_timeout: float = duration(
        "How long one request may take, from its start to the end of the answer.", default="10s"
    )

    def endpoint_access(self, adapters: Adapters) -> EndpointAccess:
        """How to reach the endpoint. Masks what is secret in the headers."""
        return EndpointAccess(self.url, self.parsed_headers(adapters), self.ca, self.request_timeout)

    def parsed_headers(self, adapters: Adapters) -> dict[str, str]:
        """The headers by name; what is secret in them is masked first."""
        headers = parse_headers(self.headers)
        for secret in secrets_of(headers):
            adapters.console.mask(secret)
        return headers


def endpoint_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """What does not go together among the endpoint's inputs."""
    if "url" in given and (problem := problem_of(given["url"].strip())):
        yield problem
    if "ca" in given and given.get("url", "https:").lower().startswith("http:"):
        yield "`ca` is for https, and `url` starts with http://"
    if not given.get("url-path", "/").strip().startswith("/"):
        yield "`url-path` must start with /"
