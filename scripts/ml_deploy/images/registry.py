"""What pushing needs of a registry, as a protocol, and how the engine's words about a push are judged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from ml_deploy.errors import MlDeployError


@dataclass(frozen=True)
class RegistryAccess:
    """Which registry, and who we are there: user and password, or an Azure identity, or neither.

    registry: a login server (`myregistry.azurecr.io`, `localhost:5000`) or an Azure registry's name.
    reading:  it is only asked what it holds: the right to pull is enough, and trouble is not ridden out.
    """

    registry: str
    username: str = ""
    password: str = field(default="", repr=False)
    client_id: str = ""
    tenant_id: str = ""
    subscription_id: str = ""
    client_secret: str = field(default="", repr=False)
    reading: bool = False


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry holds it, byte for byte."""

    digest: str
    media_type: str
    body: bytes

    def is_image(self, image_id: str) -> bool:
        """Whether it is the engine's image of that ID.

        An ID is the digest of the image's configuration, or of the manifest itself where the engine
        keeps images in containerd's store.
        """
        try:
            content = json.loads(self.body)
        except ValueError:
            return False
        config = content.get("config") or {}
        return image_id in (config.get("digest"), self.digest)


#: What the engine tells about a push: `status`, `id`, `progressDetail`, at the end `aux` or `error`.
PushEvent = Mapping[str, Any]


class Registry(Protocol):
    """One registry, signed in to as one identity."""

    @property
    def host(self) -> str:
        """The login server, as it stands in image references."""

    def sign_in(self, repository: str) -> None:
        """Get a fresh credential and make sure that it may push to the repository.

        Raises AuthFailed (who we are), Forbidden (with the role to grant), Unreachable.
        """

    def login(self) -> Mapping[str, str]:
        """What another client signs in with as our Azure identity, as in docker's settings; empty where we have none.

        Raises AuthFailed, Forbidden, Unreachable.
        """

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """The manifest under a tag or digest, or None."""

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob, such as an image's configuration; empty when there is none."""

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store a manifest under a tag. What it refers to must be there. Raises RegistryError."""

    def digest(self, repository: str, reference: str) -> str:
        """The digest that the registry now has under a tag (HEAD), or an empty string."""

    def push(self, repository: str, tag: str, seconds: float) -> Iterator[PushEvent]:
        """Let the engine push its image `host/repository:tag`; silence is borne for `seconds`.

        Raises EngineUnavailable. A failed push is an event with `error`.
        """

    def denied(self, repository: str) -> MlDeployError:
        """The error for a missing right to push: who lacks it, and the role that gives it."""

    def busy_for(self, repository: str) -> float | None:
        """Seconds that the registry asks us to stay away (429 with Retry-After); None when it does not say."""


class Failure(Enum):
    """What a failed push calls for."""

    THROTTLED = "throttled"
    TEMPORARY = "temporary"
    UNAUTHORIZED = "unauthorized"
    DENIED = "denied"
    FATAL = "fatal"


# In this order: "denied: ... too many requests" would be throttling, "unauthorized ... EOF" is no cut connection.
_SIGNS: tuple[tuple[Failure, str], ...] = (
    (Failure.THROTTLED, r"toomanyrequests|too many requests|\b429\b"),
    (Failure.DENIED, r"\bdenied\b|insufficient_scope|disallowed|forbidden|\b403\b"),
    (Failure.UNAUTHORIZED, r"unauthorized|authentication required|\b401\b|token (has )?expired"),
    (Failure.FATAL, r"x509|certificate|HTTP response to HTTPS client|manifest invalid|name invalid|does not exist locally"),
    (
        Failure.TEMPORARY,
        r"unexpected HTTP status: 5\d\d|\b50[0234]\b|internal server error|service unavailable|bad gateway"
        r"|\bEOF\b|connection re(set|fused)|broken pipe|time(d )?out|deadline exceeded|closed network connection"
        r"|request canceled|blob upload (unknown|invalid)|blob unknown|stream error|no such host|temporarily|try again",
    ),
)  # fmt: skip


def judge(message: str) -> Failure:
    """What the engine's error message means. Unknown words are fatal: never retry what is not known to heal."""
    for failure, pattern in _SIGNS:
        if re.search(pattern, message, re.IGNORECASE):
            return failure
    return Failure.FATAL


def pause(failure: Failure, attempt: int, told: float | None) -> float:
    """Seconds to wait before attempt + 1. `told`: what the registry asked for, when it did.

    Throttling lasts up to a minute on Azure and the engine hides Retry-After, so that the waits
    without one add up to more than that.
    """
    if told is not None:
        return float(min(told, 120.0)) + 0.5
    base, most = (15.0, 60.0) if failure is Failure.THROTTLED else (2.0, 20.0)
    return float(min(most, base * 2 ** (attempt - 1)))


class Progress:
    """The engine's flood of events as a line every few seconds."""

    def __init__(self, now: float, every: float = 5.0) -> None:
        """now, every: seconds, on the clock that `line` is given."""
        self.digest = ""
        self.error = ""
        self._every = every
        self._next = now + every
        self._done: dict[str, bool] = {}
        self._retrying: set[str] = set()
        self._bytes: dict[str, tuple[int, int]] = {}

    def line(self, event: PushEvent, now: float) -> str:
        """Take an event in; a line to show, or an empty string. Sets `digest` and `error` when they come."""
        self.digest = str((event.get("aux") or {}).get("Digest", "")) or self.digest
        self.error = str(event.get("error", "")) or self.error
        status, layer = str(event.get("status", "")), str(event.get("id", ""))
        if status.startswith("Retrying in"):
            if layer in self._retrying:  # it counts down, second by second
                return ""
            self._retrying.add(layer)
            return f"layer {layer}: the engine tries again in {status.removeprefix('Retrying in ')}"
        self._retrying.discard(layer)
        if layer and event.get("progressDetail") is not None:
            self._layer(layer, status, event["progressDetail"])
        if now < self._next or not self._done:
            return ""
        self._next = now + self._every
        return self._state()

    def _layer(self, layer: str, status: str, detail: Mapping[str, Any]) -> None:
        self._done[layer] = status in ("Pushed", "Layer already exists") or status.startswith("Mounted from")
        if detail.get("total"):
            self._bytes[layer] = int(detail.get("current", 0)), int(detail["total"])

    def _state(self) -> str:
        done, total = (sum(pair[i] for pair in self._bytes.values()) / 1e6 for i in (0, 1))
        amount = f", {min(done, total):.0f} of {total:.0f} MB" if total >= 1 else ""
        return f"{sum(self._done.values())} of {len(self._done)} layers{amount}"
