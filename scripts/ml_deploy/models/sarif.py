"""Findings as SARIF 2.1.0, as GitHub's code scanning takes it.

What it needs beyond the schema is on its page "SARIF support for code scanning": rules with short and
full description and help; `primaryLocationLineHash`, the one fingerprint that it reads; a region with four
figures; paths relative to the checkout, links resolved; at most 25,000 results, of which the 5,000 worst are kept.
https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support-for-code-scanning
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection
from ml_deploy.models.report import worst_first
from ml_deploy.models.rules import GATES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "%SRCROOT%"
_LEVELS = {Verdict.DENY: "error", Verdict.REVIEW: "warning", Verdict.ALLOW: "note"}
_SEVERITY = {Verdict.DENY: "9.1", Verdict.REVIEW: "5.0", Verdict.ALLOW: "1.0"}  # critical, medium, low
_MOST = 5000
_LONGEST = 1024  # characters of a rule's descriptions


def as_dict(inspections: Sequence[Inspection], version: str, folder: Path) -> dict[str, Any]:
    """One run, the worst findings first. Paths are given relative to `folder`, the repository's checkout."""
    findings = worst_first(finding for one in inspections for finding in one.findings)[:_MOST]
    mildest_first = {finding.rule: finding for finding in reversed(findings)}
    rules = sorted(mildest_first)
    driver = {
        "name": "ml-deploy lint-model", "semanticVersion": version, "informationUri": "https://github.com/org/ml-deploy",
        "rules": [_rule(name, mildest_first[name]) for name in rules],
    }  # fmt: skip
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The checkout of the repository."}}},
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(finding, rules, folder.resolve(), mark)
            for finding, mark in zip(findings, _fingerprints(findings), strict=True)
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, worst: Finding) -> dict[str, Any]:
    what = name.replace("-", " ").capitalize()
    gate = worst.rule in GATES
    level = _LEVELS[worst.verdict]
    kind = {"problem.severity": level.replace("note", "recommendation")}
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "shortDescription": {"text": what},
        "fullDescription": {"text": f"{what}. {worst.advice}"[:_LONGEST]},
        "help": {"text": worst.advice},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["machine-learning"], "precision": "high", **kind} if gate else {
            "tags": ["security", "machine-learning"], "precision": "high", "security-severity": _SEVERITY[worst.verdict],
        },
    }  # fmt: skip


def _fingerprints(findings: Sequence[Finding]) -> Iterator[str]:
    """What stays the same while the finding does, whatever else moves in the file; the n-th of several alike."""
    seen: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        mark = hashlib.sha256("\n".join((finding.rule, finding.construct, finding.member)).encode()).hexdigest()[:16]
        seen[finding.file, mark] += 1
        yield f"{mark}:{seen[finding.file, mark]}"


def _result(finding: Finding, rules: list[str], folder: Path, mark: str) -> dict[str, Any]:
    where = f"{finding.place}: " if finding.member or finding.offset is not None else ""
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": _LEVELS[finding.verdict],
        "message": {"text": f"{where}{finding.message} {finding.advice}"},
        "locations": [{"physicalLocation": _location(finding, folder)}],
        "partialFingerprints": {"primaryLocationLineHash": mark},
    }


def _location(finding: Finding, folder: Path) -> dict[str, Any]:
    """The file and the byte. A model has no lines, but code scanning shows nothing without; bytes of a member are not the file's."""
    region = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 2}
    if finding.offset is not None and not finding.member:
        region |= {"byteOffset": finding.offset, "byteLength": 1}
    return {"artifactLocation": _artifact(Path(finding.file).resolve(), folder), "region": region}


def _artifact(path: Path, folder: Path) -> dict[str, str]:
    if path.is_relative_to(folder):
        return {"uri": quote(path.relative_to(folder).as_posix()), "uriBaseId": ROOT}
    return {"uri": path.as_uri()}
