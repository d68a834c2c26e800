"""How a release comes to its users: rolling, blue-green or canary.

`deployment.Deployment` is what they share (record, verdict, the way back); a strategy is what differs, in six moves:

    shape            the objects as this strategy applies them; they are what is checked, recorded and restored
    rights           what it must be allowed beyond applying them
    before_traffic   the new version is asked before a user reaches it
    into_traffic     users get it; the strategy says `Stage.activate()` right before the first write that they may notice
    afterwards       what is tidied once the verdict is recorded
    withdraw         a failure before `activate`: what was started is removed again
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from importlib import import_module
from typing import Protocol, cast

from ml_deploy.checks.cases import Report
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.rbac import Right
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.stage import Stage


class Ending(Enum):
    """How a release got into traffic."""

    DONE = "done"
    WAITING = "waiting"  # for `action: promote` or `reject` from a later job


class Strategy(Protocol):
    """One way to bring a release to its users. Its errors are MlDeployErrors and ApiErrors; the frame undoes."""

    def shape(
        self, cluster: Cluster, manifests: Sequence[Manifest], *, app: str, images: Sequence[str]
    ) -> list[Manifest]:
        """The manifests as they will be applied, in their order. Reads the cluster, changes nothing.

        Called twice: for the checks, and again under the lock, when somebody else may have deployed meanwhile.
        """

    def rights(self, cluster: Cluster, objects: Sequence[Object]) -> list[Right]:
        """What must be allowed beyond applying the objects and asking pods."""

    def before_traffic(self, stage: Stage) -> Report | None:
        """Have the new version asked `cases` while no user reaches it; None when there are none."""

    def into_traffic(self, stage: Stage) -> Ending:
        """Bring it to the users and wait until all of it is ready."""

    def afterwards(self, stage: Stage) -> None:
        """Remove what is left over. The release serves already: what goes wrong here is told, not undone."""

    def withdraw(self, stage: Stage) -> None:
        """Remove what was started for a release that failed before a user reached it."""


def named(name: str) -> Strategy:
    """The strategy of that name: what the function `strategy` of the module of the same name makes."""
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast(Callable[[], Strategy], module.strategy)()
