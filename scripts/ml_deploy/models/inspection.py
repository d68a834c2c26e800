"""Inspection of one file: find the format by content, let its module look, and never fail without a finding."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_deploy.models import anatomy as anatomies
from ml_deploy.models import endings
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Finding, Unreadable, Verdict, worst
from ml_deploy.models.log import Log
from ml_deploy.models.policy import Policy
from ml_deploy.models.source import Member, file_member

if TYPE_CHECKING:
    from ml_deploy.models.formats import Format


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found in one file. `left_out` counts findings beyond the first hundreds."""

    file: str
    size: int
    anatomy: Anatomy
    findings: tuple[Finding, ...] = ()
    left_out: int = 0

    @property
    def verdict(self) -> Verdict:
        """The worst finding's."""
        return worst(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {
            "file": self.file, "size": self.size, "format": self.anatomy.format, "verdict": self.verdict.value,
            "findings": [finding.as_dict() for finding in self.findings], "findings-left-out": self.left_out,
            "anatomy": self.anatomy.as_dict(),
        }  # fmt: skip


def from_dict(values: dict[str, Any]) -> Inspection:
    """The inverse of `Inspection.as_dict`."""
    findings = (Finding(**{**f, "verdict": Verdict(f["verdict"])}) for f in values["findings"])
    return Inspection(
        file=values["file"], size=values["size"], anatomy=anatomies.from_dict(values["anatomy"]),
        findings=tuple(findings), left_out=values["findings-left-out"],
    )  # fmt: skip


def inspect_file(
    path: str, policy: Policy, *, companions: bool = False, opened: Callable[[io.FileIO], None] = lambda file: None
) -> Inspection:
    """Inspect a file in this process. For files that nobody trusts use `ml_deploy.models.sandbox`, which limits it.

    companions: the file is one of several that make the model, so it may be a text beside it.
    opened:     is told of the open file, for those who want to know how far reading is.
    """
    log = Log(path)
    member = file_member(path, opened)
    context = Context(log=log, policy=policy, inner=_inspect, path=path, companions=companions)
    anatomy = _inspect(member, context)
    return Inspection(file=path, size=member.size or 0, anatomy=anatomy,
                      findings=tuple(log.findings), left_out=log.left_out[0])  # fmt: skip


def _inspect(member: Member, context: Context) -> Anatomy:
    from ml_deploy.models.formats import refused

    name = refused.NAME
    before = len(context.log.findings)
    try:
        one = _format(member, context)
        name = one.NAME
        anatomy = one.inspect(member, context)
        denied = any(finding.verdict is Verdict.DENY for finding in context.log.findings[before:])
        if not denied and not anatomy.compression:  # what is compressed has been judged inside
            endings.judge(member.name or context.path, anatomy.format, context)
        return anatomy
    except Unreadable as error:
        context.log.unreadable(error, name)
    except MemoryError:
        context.log.unreadable(Unreadable("it needs more memory than allowed", rule="budget"), name)
    return Anatomy(format=name)


def _format(member: Member, context: Context) -> Format:
    """By content, but for the one that its loader finds by its name."""
    from ml_deploy.models.formats import FORMATS, keras_metadata, pickles, refused, savedmodel, texts, torch

    head = member.head()
    for one in (refused, keras_metadata) if keras_metadata.named(member, context) else FORMATS:
        if one.sniff(head):
            if one not in (refused, pickles, torch):
                pickles.hidden(member, head, context)
            return one
    if pickles.might_be(member):
        return pickles
    if savedmodel.might_be(member):
        return savedmodel
    return texts if context.companions and texts.might_be(member) else refused
