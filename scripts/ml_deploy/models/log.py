"""Where inspectors write what they find, so that findings carry their place and stay few."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ml_deploy.models.findings import Finding, Unreadable, Verdict

_MOST = 500
_MARKUP = str.maketrans({"<": "‹", ">": "›", "|": "¦", "`": "'"})


@dataclass
class Log:
    """The findings of one file. Views for members share the list."""

    file: str
    member: str = ""
    findings: list[Finding] = field(default_factory=list)
    left_out: list[int] = field(default_factory=lambda: [0])

    def inside(self, member: str) -> Log:
        """The same log for a member of the file."""
        return replace(self, member=f"{self.member} → {member}" if self.member else member)

    def add(
        self, verdict: Verdict, rule: str, construct: str, message: str, advice: str,
        *, offset: int | None = None, allow: str = "",
    ) -> None:  # fmt: skip
        """Note a finding; beyond some hundreds only the first deny matters, so the rest is counted."""
        if len(self.findings) >= _MOST:
            self.left_out[0] += 1
            if verdict is not Verdict.DENY or any(f.verdict is Verdict.DENY for f in self.findings):
                return
        self.findings.append(Finding(
            verdict=verdict, rule=rule, construct=shown(construct), message=shown(message), advice=advice,
            file=self.file, member=self.member, offset=offset, allow=allow,
        ))  # fmt: skip

    def deny(self, rule: str, construct: str, message: str, advice: str, offset: int | None = None) -> None:
        """A finding that no policy opens."""
        self.add(Verdict.DENY, rule, construct, message, advice, offset=offset)

    def unreadable(self, error: Unreadable, what: str, advice: str = "") -> None:
        """What could not be read whole is never allowed."""
        advice = advice or "Check that the file was saved, uploaded and checked out completely, or save it again."
        self.deny(error.rule, what, f"This {what} file cannot be read: {error.message}.", advice, error.offset)


def shown(text: str) -> str:
    """Text with names from inside of a file in it: one line, no markup, not too long."""
    text = "".join(char if char.isprintable() else "?" for char in text[:600]).translate(_MARKUP)
    return text if len(text) <= 400 else text[:399] + "…"
