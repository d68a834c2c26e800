"""record-cases: writes golden predictions from a running endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_deploy.checks.recording import Recorded, record, requests_of
from ml_deploy.commands.common import CommandResult, write_report
from ml_deploy.commands.endpoint import EndpointInputs, endpoint_contradictions
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import InputError
from ml_deploy.runtime.fields import flag, output, text

TITLE = "Record golden predictions from a running endpoint"
DESCRIPTION = "Asks an endpoint that is known to be right, and writes its answers down as golden predictions."
ICON = "edit-3"


@dataclass(frozen=True, kw_only=True)
class Inputs(EndpointInputs):
    """What record-cases takes."""

    requests: str = text(
        "File of requests (JSONL): one request body a line, or golden predictions whose answers are to be recorded anew.",
        required=True,
    )
    out: str = text("File to write the golden predictions to.", required=True)
    overwrite: bool = flag("Whether `out` may be replaced when it exists.")

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """What does not go together."""
        if "url" not in given:
            yield "`url` is missing: the endpoint whose answers are to be recorded"
        yield from endpoint_contradictions(given)


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What record-cases wrote."""

    recorded: int = output("How many golden predictions were written.", default=0)
    out: str = ""

    def summary(self) -> str:
        """Markdown for the job summary."""
        return f"### ✅ {self.recorded} golden predictions recorded in `{self.out}`"


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Ask every request twice and write the answers. Raises InputError, EndpointDown or WrongAnswers; then nothing is written."""
    out = Path(inputs.out)
    _may_write(out, inputs.overwrite)
    cases = requests_of(Path(inputs.requests), path=inputs.url_path or "/predict")
    endpoint = adapters.endpoint(inputs.endpoint_access(adapters))
    adapters.console.line(f"Recording {len(cases)} answers of {inputs.url}")
    try:
        recorded = record(cases, endpoint.ask)
    finally:
        endpoint.close()
    _warn(recorded, adapters)
    out.write_text("".join(one.line + "\n" for one in recorded), encoding="utf-8")
    adapters.console.line(f"{len(recorded)} golden predictions written to {out}")
    report = write_report(adapters, "record-cases", {"out": str(out), "recorded": len(recorded)})
    return Result(report=report, recorded=len(recorded), out=str(out))


def _may_write(out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise InputError(f"`out` is a folder ({out}).", hint="Name a file, such as tests/cases.jsonl.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists.", hint="Set `overwrite: true` to replace it, or name another file as `out`.")
    if not out.parent.is_dir():
        raise InputError(f"The folder of `out` does not exist ({out.parent}).", hint="Make it first.")


def _warn(recorded: list[Recorded], adapters: Adapters) -> None:
    varying = sorted({path for one in recorded for path in one.varying})
    if varying:
        adapters.console.warning(
            f"The same request got different answers at {', '.join(varying[:10])}. These places are written as `ignore`, "
            "so they will never be compared: right for a time or an id, wrong for a prediction.",
            title="Answers vary",
        )
