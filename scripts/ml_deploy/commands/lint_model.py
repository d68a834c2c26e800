"""lint-model: may this model go to production, and if not, why, at which byte. Nothing in the file is ever executed."""

from __future__ import annotations

import glob
import json
from dataclasses import dataclass, field
from pathlib import Path

from ml_deploy.commands.common import CommandResult
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import InputError, ModelRejected
from ml_deploy.models import gates, report, sandbox
from ml_deploy.models import policy as policies
from ml_deploy.models.digest import Hashing, model_files
from ml_deploy.models.findings import Finding, Verdict, worst
from ml_deploy.models.inspection import Inspection
from ml_deploy.runtime.fields import choice, lines, output, size, text

TITLE = "Lint a model file"
DESCRIPTION = (
    "Reads model files without ever executing them and says whether they may go to production: allow, review or deny, "
    "with the construct, the byte and the remedy of every finding."
)
ICON = "shield"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What lint-model is told."""

    model: tuple[str, ...] = lines("Model files, folders or glob patterns, one a line.", required=True)
    policy: str = text(
        "A YAML file with names that you vouch for: `allow-globals` (`module:name`) and `allow-operators` (`domain:operator`)."
    )
    formats: tuple[str, ...] = lines(
        "Formats that are accepted, one a line, such as `onnx` or `joblib`. Default: every format that can be vouched for."
    )
    max_model_size: int | None = size("The most that all files may have together, such as `500MB` or `2GiB`.")
    fail_on: str = choice(
        "The mildest verdict that fails the step: `review` (also what nobody has vouched for) or `deny`.",
        ("review", "deny"), default="review",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What was found."""

    verdict: str = output("`allow`, `review` or `deny`: the worst of all files.")
    findings: int = output("How many findings there are.", default=0)
    format: str = output("The format, by content; several are separated by commas.")
    model_digest: str = output("`sha256:…` over the model's files; for a single file what `sha256sum` prints.")
    size: int = output("Bytes of all files together.", default=0)
    inspections: tuple[Inspection, ...] = field(default=())

    def summary(self) -> str:
        """Tables of files and findings, and what to paste into the policy."""
        return report.markdown(self.inspections, self.model_digest)


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Inspect the files and hash them at the same time. Raises ModelRejected by the verdict and `fail-on`."""
    policy = policies.load(inputs.policy) if inputs.policy else policies.Policy()
    files = model_files(_expand(inputs.model))
    total = sum(file.stat().st_size for file in files)
    adapters.console.line(f"Reading {_count(len(files), 'file')}, {report.human(total)}; nothing in it is executed.")
    with Hashing(files) as hashing:
        inspections = sandbox.inspect(
            files, policy, companions=len(files) > 1, done=lambda one: adapters.console.line(report.line(one))
        )
        digest = hashing.result()
    inspections = _gates(inspections, inputs)
    result = _result(adapters, inspections, digest)
    _stop(result, Verdict(inputs.fail_on))
    adapters.console.line(f"{result.verdict}: {digest}")
    return result


def _gates(inspections: list[Inspection], inputs: Inputs) -> list[Inspection]:
    inspections = gates.some_model(gates.variables(gates.external_data(inspections)))
    inspections = [gates.forbidden_format(one, inputs.formats) for one in inspections]
    return gates.too_large(inspections, inputs.max_model_size)


def _expand(patterns: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        globbed = glob.glob(pattern, recursive=True)  # noqa: PTH207  (absolute patterns too)
        matches = [pattern] if Path(pattern).exists() else sorted(globbed)
        if not matches:
            raise InputError(
                f"The input `model` names {pattern}, which matches no file in {Path.cwd()}.",
                hint="Check the path, and that an earlier step made or checked out the model (with `lfs: true` if it is in LFS).",
            )
        found += matches
    return found


def _result(adapters: Adapters, inspections: list[Inspection], digest: str) -> Result:
    verdict = worst(finding for one in inspections for finding in one.findings)
    text = json.dumps(report.as_dict(inspections, digest), indent=2)
    return Result(
        report=str(adapters.job.report("lint-model.json", text)),
        verdict=verdict.value,
        findings=sum(len(one.findings) + one.left_out for one in inspections),
        format=", ".join(dict.fromkeys(one.anatomy.format for one in inspections if one.anatomy.format != "text")),
        model_digest=digest,
        size=sum(one.size for one in inspections),
        inspections=tuple(inspections),
    )


def _stop(result: Result, fail_on: Verdict) -> None:
    verdict = Verdict(result.verdict)
    if verdict is Verdict.ALLOW or verdict.rank < fail_on.rank:
        return
    findings = [finding for one in result.inspections for finding in one.findings if finding.verdict is verdict]
    first = findings[0]
    more = f" (and {_count(result.findings - 1, 'more finding')})" if result.findings > 1 else ""
    raise ModelRejected(
        f"{first.place}: {first.message}{more}",
        hint=first.advice + _paste(findings),
        title="Model denied" if verdict is Verdict.DENY else "Model needs review",
        file=first.file,
        details=result.summary(),
        result=result,
    )


def _paste(findings: list[Finding]) -> str:
    lines = report.policy_lines(findings)
    return "\nTo allow it, put this into the policy:\n" + "\n".join(lines) if lines else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
