"""The one entry: a command's name and inputs in, an exit code out. The error boundary is here.

usage: run.sh COMMAND [--input VALUE ...]

Inputs come from `ML_DEPLOY_*` (as action.yml sets them) and from options, options first.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType, ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ml_deploy import commands
from ml_deploy.errors import Cancelled, InputError, MlDeployError
from ml_deploy.runtime import fields, options
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job


def main(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    job = Job(os.environ)
    console = Console(github=job.github)
    signal.signal(signal.SIGINT, _cancel)
    signal.signal(signal.SIGTERM, _cancel)
    try:
        return _command(argv, console, job)
    except MlDeployError as error:
        _report(error, console, job)
        return error.exit_code
    except BrokenPipeError:
        return 141
    except Exception as error:
        if not _debug():
            console.line(traceback.format_exc())
        _report(MlDeployError(
            f"A bug in ml-deploy: {type(error).__name__}: {error}",
            hint="Please report it with the lines above.",
        ), console, job)  # fmt: skip
        return MlDeployError.exit_code
    finally:
        job.clean()


def _command(argv: list[str], console: Console, job: Job) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        console.line(options.overview())
        return 0
    name, rest = argv[0], argv[1:]
    if name not in commands.ACTIONS + commands.EXTRAS:
        raise InputError(
            f"There is no command {name!r}.", hint=f"Commands: {', '.join(commands.ACTIONS + commands.EXTRAS)}."
        )
    module = commands.load(name)
    if "--help" in rest or "-h" in rest:
        console.line(options.help_text(name, module))
        return 0
    return _run(module, options.values(module.Inputs, rest, os.environ), console, job)


def _run(module: ModuleType, values: dict[str, str], console: Console, job: Job) -> int:
    from ml_deploy.wiring import Wiring

    for name, spec in fields.inputs_of(module.Inputs).items():
        if spec.masked and values.get(name):
            console.mask(values[name])
    inputs = fields.read(module.Inputs, values)
    result = module.run(inputs, Wiring(console, job))
    job.set_outputs(fields.as_outputs(result))  # no `reason`: act would put the last part's over the root action's
    job.add_summary(console.redact(result.summary()))
    return 0


def _report(error: MlDeployError, console: Console, job: Job) -> None:
    if _debug():
        console.line("".join(traceback.format_exception(error)))
    text = error.message + (f"\n{error.hint}" if error.hint else "")
    console.error(text, title=error.title, file=error.file, line=error.line)
    outputs = fields.as_outputs(error.result) if error.result is not None else {}
    job.set_outputs({**outputs, "reason": error.reason})
    parts = [
        f"### ❌ {error.title}",
        error.message,
        f"**What to change:** {error.hint}" if error.hint else "",
        error.details,
    ]
    job.add_summary(console.redact("\n\n".join(part for part in parts if part)))


def _cancel(number: int, _frame: FrameType | None) -> None:
    """The first signal unwinds the command, so that it can let go of what it holds; later ones are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Cancelled(f"The job was cancelled ({signal.Signals(number).name}).")


def _debug() -> bool:
    return os.environ.get("RUNNER_DEBUG") == "1"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
