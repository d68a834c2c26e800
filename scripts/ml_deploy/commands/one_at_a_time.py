"""One deployment, decision, teardown or rollback of an app at a time; `on-conflict` says what becomes of the second."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ml_deploy.commands.ports import Adapters
from ml_deploy.releases.cluster import Cluster
from ml_deploy.releases.lease import Lock, identity
from ml_deploy.runtime.fields import choice

WAIT, FAIL = "wait", "fail"


def on_conflict() -> str:
    """The input that all of them have."""
    described = "What to do while another deployment of the app is running: `wait` for it (within `timeout`), or `fail` at once."
    field: str = choice(described, (WAIT, FAIL), default=WAIT)
    return field


class App(Protocol):
    """The part of the inputs that is needed here."""

    @property
    def app(self) -> str:
        """The app's name."""

    @property
    def on_conflict(self) -> str:
        """`wait` or `fail`."""


def alone(
    inputs: App, adapters: Adapters, cluster: Cluster, tell: Callable[[str], None], *, patience: float
) -> AbstractContextManager[Lock]:
    """The app's lock, taken on entering; patience: seconds that another holder is waited for, where `on-conflict` says so.

    Raises Conflict, naming the holder, when it still holds the lock then.
    """
    holder = identity(adapters.job.run_url)
    lock = Lock(cluster, cluster.namespace, inputs.app, holder=holder, clock=adapters.clock, tell=tell)
    return lock.held(wait=max(patience, 0.0) if inputs.on_conflict == WAIT else 0.0)
