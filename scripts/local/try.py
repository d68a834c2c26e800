"""Runs the example's own workflow with act, from the model file to a verified endpoint. scripts/try.sh calls it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: it has an azure.py

from local.base import BaseError
from local.consumer import KINDS, Consumer
from local.engine import EngineError
from local.stack import Options, Problem, Stack
from local.state import State
from local.trial import Trial, say


def main(argv: list[str]) -> int:
    """Exit code 0 when the pipeline did what it should: serve a good model, stop a bad one."""
    began = time.monotonic()
    args = _arguments(argv)
    state = State(args.state.resolve())
    try:
        if not state.claim():
            raise Problem(
                f"{state.folder} holds other things: give --state a folder of its own, which --down may remove."
            )
        with state.locked(say):
            stack = Stack(state, say)
            if args.down:
                stack.down()
                return 0
            options = Options(args.kubeconfig and args.kubeconfig.resolve(), args.kind, args.registry, args.container)
            trial = Trial(state, stack.up(options), Consumer(state.path("consumer")), sys.stdout.isatty())
            if args.bad_model:
                return _bad(trial, args.bad_model, options.cluster, began)
            return _good(trial, options.cluster, began)
    except (Problem, BaseError, EngineError) as problem:
        say(f"try.sh: {problem}")
        return 1
    except KeyboardInterrupt:
        say("\ntry.sh: stopped. What was started stays for the next run; try.sh --down removes it.")
        return 130


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="try.sh", description="The example's model to a verified endpoint, with its own workflow under act.",
        epilog="What is missing is started, and stays for the next run until --down.",
    )  # fmt: skip
    parser.add_argument("--bad-model", choices=KINDS, help="what happens to a bad model, on top of a good release")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--kubeconfig", type=_file, metavar="FILE", help="deploy to this cluster (default: a stand-in)")
    where.add_argument("--kind", action="store_true", help="make a cluster with kind")
    parser.add_argument(
        "--registry", default="", metavar="HOST", help="push there; for nodes that cannot reach this machine"
    )
    parser.add_argument(
        "--container", action="store_true", help="run the job in a container instead of on this machine"
    )
    parser.add_argument("--down", action="store_true", help="stop and remove everything that was started")
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    parser.add_argument(
        "--state", type=Path, default=home / "ml-deploy-try", help="folder for what is kept (default: %(default)s)"
    )
    return parser.parse_args(argv)


def _file(value: str) -> Path:
    if not Path(value).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {value}")
    return Path(value)


def _good(trial: Trial, cluster: str, began: float) -> int:
    trial.consumer.fresh("The wine classifier")
    progress = trial.run()
    trial.tell(progress, began)
    endpoint = trial.endpoint(progress)
    if progress.job != "success" or not endpoint:
        say("The pipeline failed:")
        for error in progress.errors:
            say(f"  {error}")
        return 1
    trial.state.note("good", {"cluster": cluster, "endpoint": endpoint, "image": progress.outputs["push"]["image"]})
    say(f"Endpoint  {endpoint}")
    say(f"Ask it    {trial.curl(endpoint)}")
    say("Next      scripts/try.sh --bad-model " + "|".join(KINDS) + ", or scripts/try.sh --down")
    return 0


def _bad(trial: Trial, kind: str, cluster: str, began: float) -> int:
    trial.consumer.fresh("The wine classifier")
    good = trial.state.recall("good") or {}
    if good.get("cluster") != cluster or trial.serves(good["endpoint"]):
        say("No good release serves here yet: that comes first.")
        if _good(trial, cluster, began):
            return 1
        good = trial.state.recall("good")
        began = time.monotonic()
        say()
    say(f"A bad model: {kind}. " + _spoil(trial, kind, good["image"]))
    with trial.users(good["endpoint"]) as users:
        progress = trial.run()
        time.sleep(1)  # requests on their way
    trial.tell(progress, began)
    return _verdict(trial, kind, progress, good["endpoint"], users)


def _spoil(trial: Trial, kind: str, image: str) -> str:
    if kind != "wrong":
        return trial.consumer.spoil(kind)
    folder = trial.state.path("drill", "model").parent
    words = ["docker", "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:/drill",
             "--volume", f"{trial.consumer.folder}:/example:ro", image, "python3", "/example/train.py", "--shuffle-labels",
             "--out", "/drill"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"train.py failed in the service's image: {done.stderr.strip()[-600:]}")
    trial.consumer.replace_model((folder / "model" / "wine.joblib").read_bytes(), "Retrained")
    return "It was trained on labels in random order."


def _verdict(trial: Trial, kind: str, progress: Any, endpoint: str, users: dict[str, Any]) -> int:
    failed = next((step for step in progress.steps if step.state == "failure"), None)
    say("Reason    " + (progress.errors[0].replace("\n", "\n          ") if progress.errors else "none was given"))
    problem = trial.serves(endpoint)
    say(
        "Serving   "
        + (f"wrongly: {problem}" if problem else f"the old version, at {endpoint}: all golden predictions right")
    )
    say("Users     {sent} requests from another process meanwhile: {failed} failed, {wrong} answered wrongly, "
        "slowest {slowest:.2f} s".format(**users))  # fmt: skip
    for example in users["examples"]:
        say(f"          {example}")
    as_expected = progress.job == "failure" and failed is not None and failed.id == KINDS[kind] and not problem
    if as_expected:
        say(f"The job is red, as it should be: “{failed.name if failed else ''}” stopped it.")
        return 0
    say(f"This is not what should have happened: the step `{KINDS[kind]}` should have stopped it.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
