"""What people and machines read of inspections: Markdown and JSON (lines: `ml_deploy.models.terminal`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ml_deploy.models.anatomy import Tensor
from ml_deploy.models.findings import Finding, Verdict, worst
from ml_deploy.models.gates import BESIDE
from ml_deploy.models.inspection import Inspection
from ml_deploy.models.rules import NAMED

#: How many files and findings are shown; the JSON report has all.
SHOWN = 50
MARKS = {Verdict.ALLOW: "✅", Verdict.REVIEW: "⚠️", Verdict.DENY: "❌"}
_PASTED = 200  # names for the policy
_KEYS = {**NAMED, "keras-module": "allow-globals"}


def human(count: int) -> str:
    """A number of bytes for people: `512 bytes`, `1.5 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def facts(one: Inspection) -> list[str]:
    """What kind of file it is, in a few words each: format, size, versions."""
    known = one.anatomy
    compressed = f"{known.format} in {known.compression}" if known.compression else known.format
    return [
        compressed,
        *([human(one.size)] if one.size else []),
        *(f"{name} {version}" for name, version in known.versions.items()),
    ]


def policy_lines(findings: Iterable[Finding], most: int) -> list[str]:
    """What to put into the policy to allow these findings, as far as they can be allowed; at most so many names."""
    names = dict.fromkeys((_KEYS[finding.rule], finding.allow) for finding in findings if finding.allow)
    shown = list(names)[:most]
    lines = []
    for key in dict.fromkeys(key for key, _ in shown):
        lines += [f"{key}:", *(f"  - {name}" for one, name in shown if one == key)]
    return lines + (
        [f"  # and {len(names) - most:,} more: see `allow` in the JSON report"] if len(names) > most else []
    )


def as_dict(inspections: Sequence[Inspection], digest: str) -> dict[str, Any]:
    """The JSON report."""
    findings = [finding for one in inspections for finding in one.findings]
    return {
        "schema": "ml-deploy/lint-model/1", "verdict": worst(findings).value, "model-digest": digest,
        "size": sum(one.size for one in inspections), "files": [one.as_dict() for one in inspections],
    }  # fmt: skip


def as_json(inspections: Sequence[Inspection], digest: str) -> str:
    """The JSON report as text, indented while people may want to read it."""
    return json.dumps(as_dict(inspections, digest), indent=2 if len(inspections) <= SHOWN else None)


def markdown(inspections: Sequence[Inspection], digest: str) -> str:
    """The job summary."""
    findings = [finding for one in inspections for finding in one.findings]
    verdict = worst(findings)
    parts = [f"### {MARKS[verdict]} Model: {verdict.value}", _files(inspections), f"Model digest: `{digest}`"]
    if findings:
        parts.append(_findings(findings, sum(one.left_out for one in inspections)))
    lines = policy_lines((f for f in findings if f.verdict is Verdict.REVIEW), _PASTED)
    if lines:
        what = "To vouch for what needs review, put these lines into the policy (input `policy`):"
        parts.append(what + "\n\n```yaml\n" + "\n".join(lines) + "\n```")
    parts.append(_anatomy(anatomy_rows(inspections)))
    return "\n\n".join(part for part in parts if part)


def _files(inspections: Sequence[Inspection]) -> str:
    rows = [f"| {MARKS[one.verdict]} {one.verdict.value} | {_cell(one.file)} | {_cell(', '.join(facts(one)))} |"
            for one in worst_files(inspections)[:SHOWN]]  # fmt: skip
    more = f"\n\n*and {len(inspections) - SHOWN:,} more files*" if len(inspections) > SHOWN else ""
    return "| Verdict | File | What it is |\n|---|---|---|\n" + "\n".join(rows) + more


def worst_files(inspections: Sequence[Inspection]) -> list[Inspection]:
    """As `worst_first`, for files."""
    return sorted(inspections, key=lambda one: -one.verdict.rank)


def _findings(findings: list[Finding], left_out: int) -> str:
    shown = worst_first(findings)[:SHOWN]
    rows = [f"| {MARKS[f.verdict]} {f.severity} | `{_code(f.construct)}` | {_cell(f.place)} | {_cell(f.message)} "
            f"{_cell(f.advice)} |" for f in shown]  # fmt: skip
    hidden = len(findings) + left_out - len(shown)
    more = f"\n\n*and {hidden:,} more findings; the JSON report has them*" if hidden else ""
    return "| Verdict | What | Where | Why, and what to do |\n|---|---|---|---|\n" + "\n".join(rows) + more


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """What denies before what needs a review, else in the order in which it was found."""
    return sorted(findings, key=lambda finding: -finding.verdict.rank)


def anatomy_rows(inspections: Sequence[Inspection]) -> list[tuple[str, str]]:
    """What a model of one file says of itself, as names and values; nothing for many, or for what is denied."""
    models = [one for one in inspections if one.anatomy.format not in BESIDE]
    if len(models) != 1 or models[0].verdict is Verdict.DENY:
        return []
    known = models[0].anatomy
    rows = [
        ("Framework", known.framework), ("Object", known.top), ("Needs", ", ".join(known.requirements())),
        ("Features", str(known.n_features_in or "")), ("Trees", f"{known.trees:,}" if known.trees else ""),
        ("Producer", known.producer), ("Opsets", ", ".join(f"{k} {v}" for k, v in known.opsets.items())),
        ("Inputs", _tensors(known.inputs)), ("Outputs", _tensors(known.outputs)),
        ("Numbers held", f"{known.parameters:,}" if known.parameters else ""),
        ("Biggest tensors", _tensors(known.tensors[:5])),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value]


def _anatomy(rows: list[tuple[str, str]]) -> str:
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    return f"**Anatomy** (what the file says of itself)\n\n| | |\n|---|---|\n{table}" if table else ""


def _tensors(tensors: Sequence[Tensor]) -> str:
    return ", ".join(
        (f"{t.name}: " if t.name else "") + f"{t.dtype}[{', '.join('?' if d is None else str(d) for d in t.shape)}]"
        for t in tensors
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
