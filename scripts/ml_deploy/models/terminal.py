"""What people read in a log or a terminal: the tables of the summary as lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ml_deploy.models import report
from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection

Paint = Callable[[str, str], str]
_COLOURS = {Verdict.ALLOW: "good", Verdict.REVIEW: "warning", Verdict.DENY: "error"}
_WIDEST = 60  # characters of a file's name


def plain(_colour: str, text: str) -> str:
    """No colour."""
    return text


def lines(inspections: Sequence[Inspection], paint: Paint = plain) -> Iterator[str]:
    """Files with their verdicts, findings with their places, the anatomy of a single file. Worst first, the rest counted."""
    shown = report.worst_files(inspections)[: report.SHOWN]
    width = min(max((len(one.file) for one in shown), default=0), _WIDEST)
    for one in shown:
        verdict = paint(_COLOURS[one.verdict], f"{report.MARKS[one.verdict]} {one.verdict.value:<6}")
        yield f"{verdict}  {_printable(one.file):<{width}}  {_printable(', '.join(report.facts(one)))}"
    if len(inspections) > len(shown):
        yield f"   and {len(inspections) - len(shown):,} more files"
    findings = report.worst_first(finding for one in inspections for finding in one.findings)
    for finding in findings[: report.SHOWN]:
        yield from _finding(finding, paint)
    hidden = len(findings[report.SHOWN :]) + sum(one.left_out for one in inspections)
    if hidden:
        yield f"   and {hidden:,} more findings; the JSON report has them"
    yield from _anatomy(inspections, paint)


def _finding(finding: Finding, paint: Paint) -> Iterator[str]:
    yield ""
    yield (
        paint(_COLOURS[finding.verdict], f"{finding.severity}: {_printable(finding.construct)}") + f"  [{finding.rule}]"
    )
    yield f"   at {_printable(finding.place)}"
    yield f"   {finding.message}"
    yield paint("dim", f"   {finding.advice}")


def _anatomy(inspections: Sequence[Inspection], paint: Paint) -> Iterator[str]:
    rows = report.anatomy_rows(inspections)
    if rows:
        yield ""
        yield "What the file says of itself:"
        yield from (
            paint("dim", f"   {name:<{max(len(n) for n, _ in rows)}}  ") + _printable(value) for name, value in rows
        )


def _printable(text: str) -> str:
    """Names from outside: no colours, no line breaks of their own."""
    return "".join(char if char.isprintable() else "?" for char in text)


def telling(findings: Iterable[Finding], most: int) -> list[Finding]:
    """The findings to annotate: the worst ones, and each construct once before any other is there twice."""
    first: dict[tuple[str, str], Finding] = {}
    again = []
    for finding in report.worst_first(findings):
        if first.setdefault((finding.rule, finding.construct), finding) is not finding:
            again.append(finding)
    return [*first.values(), *again][:most]
