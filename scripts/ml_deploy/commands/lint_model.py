"""lint-model: may this model go to production, and if not, why, at which byte. Nothing in the file is ever executed."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_deploy import __version__
from ml_deploy.commands.common import CommandResult
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import InputError, ModelRejected, cause
from ml_deploy.models import gates, loaders, manifests, metrics, report, rules, sandbox, sarif, terminal
from ml_deploy.models import policy as policies
from ml_deploy.models.digest import Hashing, model_files
from ml_deploy.models.findings import Finding, Verdict, worst
from ml_deploy.models.inspection import Inspection
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.fields import choice, lines, output, parse_duration, parse_size, size, text

TITLE = "Lint a model file"
DESCRIPTION = (
    "Reads model files without ever executing them and says whether they may go to production: allow, review or deny, "
    "with the construct, the byte and the remedy of every finding."
)
ICON = "shield"
_ANNOTATIONS = 10  # of a kind that GitHub shows of a step
_PASTED = 20  # names for the policy in the log


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What lint-model is told."""

    model: tuple[str, ...] = lines("Model files, folders or glob patterns, one a line.", required=True)
    policy: str = text(
        "A YAML file with names that you vouch for (`allow-globals`, `allow-operators`), accepted `formats`, `limits` (size, "
        "memory, time) and `severities`."
    )
    formats: tuple[str, ...] = lines(
        "Formats that are accepted, one a line, such as `onnx` or `joblib`. Default: every format that can be vouched for."
    )
    max_model_size: int | None = size("The most that all files may have together, such as `500MB` or `2GiB`.")
    metrics: str = text(
        'A JSON file with the model\'s figures, such as `{"accuracy": 0.93}`, to hold against `thresholds`.'
    )
    thresholds: str = text(
        "A YAML file with what each figure must reach: `greater-is-better`, and `threshold`, `min-absolute-change` or "
        "`min-relative-change`, as MLflow means them."
    )
    baseline_metrics: str = text("A JSON file with the figures of the deployed model, for the changes in `thresholds`.")
    requirements: str = text(
        "A requirements file of the service that loads the model: pins of loaders with known holes become findings."
    )
    signature: str = text(
        "A signature over the model's files, as `model-signing` writes it (OpenSSF Model Signing v1.0). Needs one of `public-key`, "
        "`certificate-chain`, or `identity` with `identity-provider`."
    )
    public_key: str = text("The PEM file of the key that must have signed the model.")
    certificate_chain: str = text("A PEM file of the certificates that the signer's certificate must be issued by.")
    identity: str = text("Who must have signed the model through Sigstore: a workflow's or a person's identity.")
    identity_provider: str = text(
        "The address of the provider of that identity, such as `https://token.actions.githubusercontent.com`."
    )
    checksums: str = text(
        "A list of checksums of the model's files, as `sha256sum` writes it, with names from its own folder."
    )
    sarif: str = text("Where to write the findings as SARIF 2.1.0, for `github/codeql-action/upload-sarif`.")
    fail_on: str = choice(
        "The mildest verdict that fails the step: `review` (also what nobody has vouched for) or `deny`.",
        ("review", "deny"), default="review",
    )  # fmt: skip

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """Figures and thresholds need each other."""
        for one, other in (("metrics", "thresholds"), ("thresholds", "metrics"), ("baseline-metrics", "thresholds")):
            if one in given and other not in given:
                yield f"`{other}` is missing: `{one}` needs it"
        yield from _whose_signature(given)


def _whose_signature(given: Mapping[str, str]) -> Iterator[str]:
    ways = [name for name in ("public-key", "certificate-chain", "identity") if name in given]
    if "signature" in given and len(ways) != 1:
        yield "`signature` needs one of `public-key`, `certificate-chain` and `identity`, which say whose signature it must be"
    if "signature" not in given and ways:
        yield f"`signature` is missing: `{ways[0]}` needs it"
    if ("identity" in given) != ("identity-provider" in given):
        yield "`identity` and `identity-provider` need each other"


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What was found."""

    verdict: str = output("`allow`, `review` or `deny`: the worst of all files.")
    findings: int = output("How many findings there are.", default=0)
    format: str = output("The format, by content; several are separated by commas.")
    model_digest: str = output("`sha256:…` over the model's files; for a single file what `sha256sum` prints.")
    size: int = output("Bytes of all files together.", default=0)
    sarif: str = output("Path of the SARIF file, when the input `sarif` asks for one.")
    inspections: tuple[Inspection, ...] = field(default=())

    def summary(self) -> str:
        """Tables of files and findings, and what to paste into the policy."""
        return report.markdown(self.inspections, self.model_digest)


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Inspect the files and hash them at the same time. Raises ModelRejected by the verdict and `fail-on`."""
    policy = _policy(inputs)
    beside = _beside(inputs)
    files = model_files(_expand(inputs.model))
    total = sum(file.stat().st_size for file in files)
    adapters.console.line(f"Reading {_count(len(files), 'file')}, {report.human(total)}; nothing in it is executed.")
    inspections, digest, hashes = _read(files, total, policy, adapters)
    beside += _vouched(adapters, inputs, hashes)
    inspections = rules.apply([*_gates(inspections, inputs, policy), *beside], policy.severities)
    for line in terminal.lines(inspections, adapters.console.paint):
        adapters.console.line(line)
    result = _result(adapters, inspections, digest, inputs.sarif)
    verdict = Verdict(result.verdict)
    stops = verdict is not Verdict.ALLOW and verdict.rank >= Verdict(inputs.fail_on).rank
    _annotate(adapters.console, inspections, verdict if stops else None)
    if stops:
        _stop(result)
    adapters.console.line(f"\n{result.verdict}: {digest}" + _paste(_findings(inspections, Verdict.REVIEW)))
    return result


def _vouched(adapters: Adapters, inputs: Inputs, found: Mapping[str, str]) -> list[Inspection]:
    """What a signature and a list of checksums say of the files."""
    beside = []
    if inputs.signature:
        access = manifests.SignatureAccess(
            signature=inputs.signature, public_key=inputs.public_key, certificates=inputs.certificate_chain,
            identity=inputs.identity, identity_provider=inputs.identity_provider,
        )  # fmt: skip
        findings = manifests.against_signature(adapters.signatures(), access, found, _folder(inputs.model, found))
        beside.append(gates.beside("signature", inputs.signature, findings))
    if inputs.checksums:
        beside.append(gates.beside("checksums", inputs.checksums, manifests.against_checksums(inputs.checksums, found)))
    return beside


def _folder(model: tuple[str, ...], found: Mapping[str, str]) -> Path:
    """The folder that signed names begin in: the one that was given, else what the files share."""
    if len(model) == 1 and Path(model[0]).is_dir():
        return Path(model[0]).absolute()
    return Path(os.path.commonpath([Path(file).parent for file in found]))


def _read(
    files: list[Path], total: int, policy: policies.Policy, adapters: Adapters
) -> tuple[list[Inspection], str, dict[str, str]]:
    """Inspections, the model's digest, each file's. Both go through all bytes: the slower one tells the progress."""
    behind = [0]
    limits = sandbox.Limits(policy.memory or sandbox.MEMORY, policy.seconds)
    with (
        Hashing(files) as hashing,
        adapters.console.progress("Reading", lambda: min(hashing.done, behind[0]) / (total or 1)),
    ):
        inspections = sandbox.inspect(
            files, policy, companions=len(files) > 1, limits=limits, advance=lambda done: behind.__setitem__(0, done)
        )
        return inspections, hashing.result(), hashing.files()


def _policy(inputs: Inputs) -> policies.Policy:
    unknown = [name for name in inputs.formats if name not in policies.FORMATS]
    if unknown:
        raise InputError(
            f"The input `formats` names {unknown[0]}, which is no format that is known.",
            hint=f"The formats are {', '.join(policies.FORMATS)}.",
        )
    return policies.load(inputs.policy, parse_size, parse_duration) if inputs.policy else policies.Policy()


def _gates(inspections: list[Inspection], inputs: Inputs, policy: policies.Policy) -> list[Inspection]:
    """The gates beside safety; what both the inputs and the policy limit must satisfy both."""
    inspections = gates.some_model(gates.variables(gates.external_data(inspections)))
    for accepted in (inputs.formats, policy.formats):
        inspections = [gates.forbidden_format(one, accepted) for one in inspections]
    limits = [limit for limit in (inputs.max_model_size, policy.size) if limit is not None]
    return gates.too_large(inspections, min(limits, default=None))


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


def _beside(inputs: Inputs) -> list[Inspection]:
    """What is judged beside the model: its figures, and the versions of what loads it."""
    found = []
    if inputs.metrics:
        thresholds = metrics.read_thresholds(inputs.thresholds)
        figures = metrics.read_figures(inputs.metrics, "metrics")
        if any(one.compares for one in thresholds) and not inputs.baseline_metrics:
            raise InputError(
                "The thresholds ask for a change against a baseline, and there is none.",
                hint="Give `baseline-metrics`, the figures of the deployed model, or ask for `threshold` alone.",
            )
        base = metrics.read_figures(inputs.baseline_metrics, "baseline-metrics") if inputs.baseline_metrics else {}
        found.append(gates.beside("metrics", inputs.metrics, metrics.judge(thresholds, figures, base, inputs.metrics)))
    if inputs.requirements:
        found.append(gates.beside("requirements", inputs.requirements, loaders.judge(inputs.requirements)))
    return found


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The findings cannot be written to {path}: {cause(error)}.", hint="Check the input `sarif`."
        ) from error


def _result(adapters: Adapters, inspections: list[Inspection], digest: str, sarif_path: str) -> Result:
    verdict = worst(finding for one in inspections for finding in one.findings)
    text = report.as_json(inspections, digest)
    if sarif_path:
        findings = sarif.as_dict(inspections, __version__, adapters.job.workspace)
        _write(sarif_path, json.dumps(findings, indent=1))
    return Result(
        sarif=str(Path(sarif_path).absolute()) if sarif_path else "",
        report=str(adapters.job.report("lint-model.json", text)),
        verdict=verdict.value,
        findings=sum(len(one.findings) + one.left_out for one in inspections),
        format=", ".join(
            dict.fromkeys(one.anatomy.format for one in inspections if one.anatomy.format not in gates.BESIDE)
        ),
        model_digest=digest,
        size=sum(one.size for one in inspections),
        inspections=tuple(inspections),
    )


def _findings(inspections: Sequence[Inspection], verdict: Verdict) -> list[Finding]:
    return [finding for one in inspections for finding in one.findings if finding.verdict is verdict]


def _annotate(console: Console, inspections: Sequence[Inspection], ending: Verdict | None) -> None:
    """On GitHub the most telling findings, up to ten of a kind; the error that ends the step is the first of its kind."""
    kinds = ((Verdict.DENY, console.error, "Model denied"), (Verdict.REVIEW, console.warning, "Model needs review"))
    for verdict, say, title in kinds if console.annotates else ():
        for finding in terminal.telling(_findings(inspections, verdict), _ANNOTATIONS)[verdict is ending :]:
            say(f"{finding.place}: {finding.message}\n{finding.advice}", title=title, file=finding.file)


def _stop(result: Result) -> None:
    verdict = Verdict(result.verdict)
    findings = _findings(result.inspections, verdict)
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
    lines = report.policy_lines(findings, _PASTED)
    return "\nTo allow it, put this into the policy:\n" + "\n".join(lines) if lines else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
