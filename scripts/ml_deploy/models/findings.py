"""What an inspection says: findings, each with a verdict, a place and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Verdict(str, Enum):
    """May a model go to production? The worst finding decides."""

    ALLOW = "allow"
    REVIEW = "review"
    DENY = "deny"

    @property
    def rank(self) -> int:
        """0 for allow, 1 for review, 2 for deny."""
        return ("allow", "review", "deny").index(self.value)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One reason not to allow a model.

    rule:      a stable identifier of the kind of finding, such as `pickle-global`.
    construct: what was found, as the file names it, such as `posix:system`.
    offset:    byte in the member (in its decompressed bytes), None where none applies.
    allow:     the line that a policy needs to allow it, empty where it cannot be allowed.
    """

    verdict: Verdict
    rule: str
    construct: str
    message: str
    advice: str
    file: str = ""
    member: str = ""
    offset: int | None = None
    allow: str = ""

    @property
    def severity(self) -> str:
        """`deny`, `review` or `note`, for people."""
        return "note" if self.verdict is Verdict.ALLOW else self.verdict.value

    @property
    def place(self) -> str:
        """File, member and byte, for people."""
        where = self.file + (f" → {self.member}" if self.member else "")
        return where + (f", byte {self.offset:,}" if self.offset is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """The finding as the JSON report has it."""
        return {**vars(self), "verdict": self.verdict.value}


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict over some findings; allow when there are none."""
    return max((finding.verdict for finding in findings), key=lambda v: v.rank, default=Verdict.ALLOW)


class Unreadable(Exception):
    """A file, or a part of it, is not what its format says: truncated, damaged, or made to mislead."""

    def __init__(self, message: str, *, offset: int | None = None, rule: str = "unreadable") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.rule = rule
