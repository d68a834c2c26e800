"""The rules by which findings are called, and how far a policy may change what they mean.

A policy may make any rule stricter. It may make milder only what is a gate of the user's own, or
what needs a review because somebody has to look at it, not what is proven to act or to hide
something: that is opened by exact names (`allow-globals`, `allow-operators`), or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection

#: The user's own limits: any severity.
GATES = ("too-large", "metric", "format-not-accepted", "loader-version", "format-mismatch")
#: To be looked at: what is sent to review by them may become a note; what they deny stays denied.
OPEN = ("code-file", "mlflow-loader", "torchscript-code", "pickle-persistent", "pickle-formula", "keras-module")
#: Opened by their exact names only.
NAMED = {"pickle-global": "allow-globals", "onnx-operator": "allow-operators", "tensorflow-operator": "allow-operators"}
#: Proven to act, or made in a way that hides something, or not readable whole.
CLOSED = (
    "budget", "checksum", "checksum-manifest", "empty-file", "encrypted", "git-lfs-pointer", "hdf5-link", "joblib-array", "joblib-old",
    "keras-file", "keras-layer", "mlflow-path", "no-model", "onnx-external-data", "pickle-address", "pickle-arguments", "pickle-call-of-object", "pickle-changes-global",
    "pickle-dtype", "pickle-extension", "pickle-hidden", "pickle-object-argument", "pickle-special-attribute", "pickle-state", "pickle-state-code",
    "pickle-state-key", "pickle-tree", "signature", "tar-member", "tensorflow-path", "trailing-data", "truncated", "unreadable", "unsupported-format", "zip-mismatch", "zip-path",
)  # fmt: skip
RULES = frozenset((*GATES, *OPEN, *NAMED, *CLOSED))
SEVERITIES = {"deny": Verdict.DENY, "review": Verdict.REVIEW, "note": Verdict.ALLOW}


def refusal(rule: str, severity: str) -> str:
    """Why a policy may not give this rule this severity; an empty string when it may."""
    if rule not in RULES:
        return f"there is no rule `{rule}`; the rules are {', '.join(sorted(RULES))}"
    if severity not in SEVERITIES:
        return f"`{rule}` must be deny, review or note"
    if severity == "deny" or rule in GATES or (rule in OPEN and severity == "note"):
        return ""
    if rule in NAMED:
        return f"`{rule}` cannot be made milder as a whole: put the exact names under `{NAMED[rule]}`"
    return f"`{rule}` cannot be made milder: what it finds acts, or hides something"


def apply(inspections: list[Inspection], severities: Mapping[str, str]) -> list[Inspection]:
    """The findings with the severities of a policy that was checked with `refusal`."""
    if not severities:
        return inspections
    return [
        replace(one, findings=tuple(_changed(finding, severities) for finding in one.findings)) for one in inspections
    ]


def _changed(finding: Finding, severities: Mapping[str, str]) -> Finding:
    wanted = SEVERITIES.get(severities.get(finding.rule, ""), finding.verdict)
    milder = wanted.rank < finding.verdict.rank
    if milder and finding.verdict is Verdict.DENY and finding.rule not in GATES:
        return finding
    return replace(finding, verdict=wanted)
