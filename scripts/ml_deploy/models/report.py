"""What people and machines read of inspections: lines, Markdown, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ml_deploy.models.anatomy import Anatomy, Tensor
from ml_deploy.models.findings import Finding, Verdict, worst
from ml_deploy.models.inspection import Inspection
from ml_deploy.models.rules import NAMED

_MARKS = {Verdict.ALLOW: "✅", Verdict.REVIEW: "⚠️", Verdict.DENY: "❌"}
_SHOWN = 50
_KEYS = {**NAMED, "keras-module": "allow-globals"}


def human(count: int) -> str:
    """A number of bytes for people: `512 bytes`, `1.5 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def line(one: Inspection) -> str:
    """A file's verdict, and each finding, as lines of a log."""
    lines = [f"{_MARKS[one.verdict]} {one.verdict.value}: {one.file} ({', '.join(_facts(one))})"]
    lines += [f"   {f.severity}: {f.place}: {f.message} [{f.rule}]" for f in _worst_first(one.findings)[:_SHOWN]]
    hidden = len(one.findings) + one.left_out - min(len(one.findings), _SHOWN)
    return "\n".join(lines + ([f"   and {hidden:,} more findings"] if hidden else []))


def _facts(one: Inspection) -> list[str]:
    known = one.anatomy
    compressed = f"{known.format} in {known.compression}" if known.compression else known.format
    return [
        compressed,
        *([human(one.size)] if one.size else []),
        *(f"{name} {version}" for name, version in known.versions.items()),
    ]


def policy_lines(findings: Iterable[Finding]) -> list[str]:
    """What to put into the policy to allow these findings; empty when one of them cannot be allowed."""
    entries: dict[str, dict[str, None]] = {}
    for finding in findings:
        if finding.allow:
            entries.setdefault(_KEYS[finding.rule], {})[finding.allow] = None
    return [text for key, names in entries.items() for text in (f"{key}:", *(f"  - {name}" for name in names))]


def as_dict(inspections: Sequence[Inspection], digest: str) -> dict[str, Any]:
    """The JSON report."""
    findings = [finding for one in inspections for finding in one.findings]
    return {
        "schema": "ml-deploy/lint-model/1", "verdict": worst(findings).value, "model-digest": digest,
        "size": sum(one.size for one in inspections), "files": [one.as_dict() for one in inspections],
    }  # fmt: skip


def markdown(inspections: Sequence[Inspection], digest: str) -> str:
    """The job summary."""
    findings = [finding for one in inspections for finding in one.findings]
    verdict = worst(findings)
    parts = [f"### {_MARKS[verdict]} Model: {verdict.value}", _files(inspections), f"Model digest: `{digest}`"]
    if findings:
        parts.append(_findings(findings, sum(one.left_out for one in inspections)))
    lines = policy_lines(f for f in findings if f.verdict is Verdict.REVIEW)
    if lines:
        what = "To vouch for what needs review, put these lines into the policy (input `policy`):"
        parts.append(what + "\n\n```yaml\n" + "\n".join(lines) + "\n```")
    if len([one for one in inspections if one.size]) == 1:
        parts.append(_anatomy(inspections[0].anatomy))
    return "\n\n".join(part for part in parts if part)


def _files(inspections: Sequence[Inspection]) -> str:
    rows = [f"| {_MARKS[one.verdict]} {one.verdict.value} | {_cell(one.file)} | {_cell(', '.join(_facts(one)))} |"
            for one in sorted(inspections, key=lambda one: -one.verdict.rank)[:_SHOWN]]  # fmt: skip
    more = f"\n\n*and {len(inspections) - _SHOWN:,} more files*" if len(inspections) > _SHOWN else ""
    return "| Verdict | File | What it is |\n|---|---|---|\n" + "\n".join(rows) + more


def _findings(findings: list[Finding], left_out: int) -> str:
    shown = _worst_first(findings)[:_SHOWN]
    rows = [f"| {_MARKS[f.verdict]} {f.severity} | `{_code(f.construct)}` | {_cell(f.place)} | {_cell(f.message)} "
            f"{_cell(f.advice)} |" for f in shown]  # fmt: skip
    hidden = len(findings) + left_out - len(shown)
    more = f"\n\n*and {hidden:,} more findings; the JSON report has them*" if hidden else ""
    return "| Verdict | What | Where | Why, and what to do |\n|---|---|---|---|\n" + "\n".join(rows) + more


def _worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.verdict.rank)


def _anatomy(known: Anatomy) -> str:
    rows = [
        ("Object", known.top), ("Needs", ", ".join(known.requirements())), ("Features", known.n_features_in or ""),
        ("Producer", known.producer), ("Opsets", ", ".join(f"{k} {v}" for k, v in known.opsets.items())),
        ("Inputs", _tensors(known.inputs)), ("Outputs", _tensors(known.outputs)),
        ("Numbers in arrays", f"{known.parameters:,}" if known.parameters else ""),
        ("Biggest tensors", _tensors(known.tensors[:5])),
    ]  # fmt: skip
    table = "\n".join(f"| {name} | {_cell(str(value))} |" for name, value in rows if value)
    return f"**Anatomy** (what the file says of itself)\n\n| | |\n|---|---|\n{table}" if table else ""


def _tensors(tensors: Sequence[Tensor]) -> str:
    return ", ".join(
        f"{t.name}: {t.dtype}[{', '.join('?' if d is None else str(d) for d in t.shape)}]" for t in tensors
    )


def _cell(text: str) -> str:
    """Text from a file's inside, as the cell of a table: no markup of its own, one line, not too long."""
    text = " ".join(text.split())
    text = text if len(text) <= 500 else text[:497] + "…"
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return text


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "/").split())[:200]
