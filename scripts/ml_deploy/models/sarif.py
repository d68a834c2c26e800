"""Findings as SARIF 2.1.0, as GitHub's code scanning takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Verdict.DENY: "error", Verdict.REVIEW: "warning", Verdict.ALLOW: "note"}
_SEVERITY = {Verdict.DENY: "9.0", Verdict.REVIEW: "5.0", Verdict.ALLOW: "0.0"}
_MOST = 5000  # results that code scanning takes of a run


def as_dict(inspections: Sequence[Inspection], version: str, folder: Path) -> dict[str, Any]:
    """One run. Paths are given relative to `folder`, the repository's checkout."""
    findings = [finding for one in inspections for finding in one.findings][:_MOST]
    rules = {finding.rule: finding for finding in sorted(findings, key=lambda finding: finding.verdict.rank)}
    driver = {
        "name": "ml-deploy lint-model", "semanticVersion": version, "informationUri": "https://github.com/org/ml-deploy",
        "rules": [_rule(name, finding) for name, finding in sorted(rules.items())],
    }  # fmt: skip
    results = [_result(finding, sorted(rules), folder) for finding in findings]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _rule(name: str, finding: Finding) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "shortDescription": {"text": name.replace("-", " ").capitalize()},
        "help": {"text": finding.advice},
        "defaultConfiguration": {"level": _LEVELS[finding.verdict]},
        "properties": {"security-severity": _SEVERITY[finding.verdict], "tags": ["security", "machine-learning"]},
    }


def _result(finding: Finding, rules: list[str], folder: Path) -> dict[str, Any]:
    where = f"{finding.place}: " if finding.member or finding.offset is not None else ""
    mark = "\n".join((finding.rule, finding.construct, finding.member))
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": _LEVELS[finding.verdict],
        "message": {"text": f"{where}{finding.message} {finding.advice}"},
        "locations": [{"physicalLocation": _location(finding, folder)}],
        "partialFingerprints": {"mlDeployFinding/v1": hashlib.sha256(mark.encode()).hexdigest()},
    }


def _location(finding: Finding, folder: Path) -> dict[str, Any]:
    path = Path(finding.file).absolute()
    name = path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else path
    region: dict[str, int] = {"startLine": 1}  # a model has no lines, but code scanning shows nothing without
    if finding.offset is not None and not finding.member:
        region |= {"byteOffset": finding.offset, "byteLength": 1}
    return {"artifactLocation": {"uri": quote(name.as_posix())}, "region": region}
