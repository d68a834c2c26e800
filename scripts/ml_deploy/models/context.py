"""What an inspector is handed besides the bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.log import Log
from ml_deploy.models.policy import Policy
from ml_deploy.models.source import Member


@dataclass(frozen=True)
class Context:
    """log: where findings go. inner: inspects a member of a container, whatever its format is.
    companions: texts are no model, but may lie beside one.
    """

    log: Log
    policy: Policy
    inner: Callable[[Member, Context], Anatomy]
    path: str = ""
    companions: bool = False

    def inside(self, member: str) -> Context:
        """The context for a member."""
        return replace(self, log=self.log.inside(member), companions=True)
