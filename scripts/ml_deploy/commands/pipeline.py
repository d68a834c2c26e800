"""The root action: the six parts in one step. As a command it judges all inputs before any part starts.

`PARTS`, `Inputs` and `outputs()` are what the root action.yml is generated from. Inputs are the
union of the parts' own, so that one name means one thing everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_deploy import commands
from ml_deploy.commands.common import CommandResult
from ml_deploy.commands.ports import Adapters
from ml_deploy.runtime.fields import Input, Output, inputs_of, lines, outputs_of, problems_of

TITLE = "All of it in one step"
DESCRIPTION = "From a model file to a verified endpoint on AKS: lint, build, push, deploy, smoke-test, and back when it is not good."
ICON = "upload-cloud"


@dataclass(frozen=True)
class Part:
    """One guarded step of the root action.

    values:  expressions that take the place of the plain inputs.
    assumed: what earlier parts will have provided, as values to judge the part's inputs with.
    """

    id: str
    command: str
    condition: str
    values: Mapping[str, str] = field(default_factory=dict)
    assumed: Mapping[str, str] = field(default_factory=dict)


def _unless_skipped(name: str) -> str:
    return f"${{{{ !contains(inputs.skip, '{name}') }}}}"


_SOME_DIGEST = "sha256:" + "0" * 64
_SOME_IMAGE = f"registry.invalid/image@{_SOME_DIGEST}"

PARTS = (
    Part("inputs", "pipeline", "${{ success() }}"),
    Part("lint-model", "lint-model", _unless_skipped("lint-model")),
    Part("build-image", "build-image", _unless_skipped("build-image")),
    Part(
        "push-acr",
        "push-acr",
        _unless_skipped("push-acr"),
        values={"image": "steps.build-image.outputs.image || inputs.image"},
        assumed={"image": "image:latest"},
    ),
    Part(
        "deploy-aks",
        "deploy-aks",
        _unless_skipped("deploy-aks"),
        values={
            "image": "steps.push-acr.outputs.image || inputs.image",
            "model-digest": "steps.lint-model.outputs.model-digest || steps.build-image.outputs.model-digest",
        },
        assumed={"image": _SOME_IMAGE},
    ),
    Part(
        "smoke-test",
        "smoke-test",
        "${{ !contains(inputs.skip, 'smoke-test') && inputs.dry-run == 'none' }}",
        values={
            "url": "inputs.url || (inputs.service == '' && steps.deploy-aks.outputs.endpoint) || ''",
            "revision": "steps.deploy-aks.outputs.revision",
        },
        assumed={"url": "http://endpoint.invalid", "revision": "1"},
    ),
    Part(
        "rollback",
        "rollback",
        # `healthy` is set where the endpoint was judged; a typo or a missing right is no reason to go back
        "${{ always() && steps.smoke-test.outputs.healthy == 'false' && steps.deploy-aks.outputs.revision != ''"
        " && !contains(inputs.skip, 'rollback') }}",
        values={
            "from-revision": "steps.deploy-aks.outputs.revision",
            "why": "format('the smoke test failed: {0}', steps.smoke-test.outputs.reason)",
        },
        assumed={"from-revision": "1"},
    ),
)

#: Inputs that the pipeline itself provides (`action`: it deploys), so that the root action does not have them.
WIRED = {"action", "model-digest", "revision", "from-revision", "to-revision", "why"}

#: Which step each output of the root action comes from.
OUTPUT_FROM = {
    "verdict": "steps.lint-model.outputs.verdict",
    "model-digest": "steps.lint-model.outputs.model-digest || steps.build-image.outputs.model-digest",
    "image": "steps.push-acr.outputs.image || steps.build-image.outputs.image",
    "repository": "steps.push-acr.outputs.repository",
    "digest": "steps.push-acr.outputs.digest",
    "revision": "steps.rollback.outputs.revision || steps.deploy-aks.outputs.revision",
    "previous-revision": "steps.deploy-aks.outputs.previous-revision",
    "endpoint": "steps.deploy-aks.outputs.endpoint",
    "healthy": "steps.smoke-test.outputs.healthy",
    "p95": "steps.smoke-test.outputs.p95",
    "rolled-back": "(steps.rollback.outcome == 'success' && 'true') || steps.deploy-aks.outputs.rolled-back",
    "reason": " || ".join(f"steps.{part.id}.outputs.reason" for part in PARTS if part.id != "rollback"),
}


def _union() -> type:
    """A dataclass with `skip` and every part's inputs, each once, none required by itself."""
    skip = lines("Parts to leave out, one a line: " + ", ".join(commands.ACTIONS) + ".")
    columns: list[tuple[str, Any, Any]] = [("skip", "tuple[str, ...]", skip)]
    for key, specs in _inputs_by_name().items():
        first = next(iter(specs.values()))
        # Where the parts' defaults differ, each part keeps its own: the root action hands over nothing.
        default = first.default if len({spec.default for spec in specs.values()}) == 1 else ""
        spec = dataclasses.replace(
            first, description=_description(specs), default=default, required=False, parse=str.strip
        )  # the parts parse it
        column = dataclasses.field(default=None, repr=not spec.secret, metadata={"input": spec})
        columns.append((key.replace("-", "_"), "Any", column))
    judged = {"contradictions": staticmethod(contradictions)}
    return dataclasses.make_dataclass("Inputs", columns, frozen=True, kw_only=True, namespace=judged)


def _inputs_by_name() -> dict[str, dict[str, Input]]:
    found: dict[str, dict[str, Input]] = {}
    for name in commands.ACTIONS:
        for key, spec in inputs_of(commands.load(name).Inputs).items():
            if key not in WIRED:
                found.setdefault(key, {})[name] = spec
    return found


def _description(specs: Mapping[str, Input]) -> str:
    """The parts' common description, or what it is to each of them."""
    if len({spec.description for spec in specs.values()}) == 1:
        return next(iter(specs.values())).description
    return " ".join(f"{name}: {spec.description}" for name, spec in specs.items())


def contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """Every problem of every part that is not skipped, each once."""
    skipped = {name.strip() for name in given.get("skip", "").splitlines() if name.strip()}
    for name in sorted(skipped - set(commands.ACTIONS)):
        yield f"`skip` names no part: {name!r} (parts: {', '.join(commands.ACTIONS)})"
    seen: set[str] = set()
    for part in PARTS:
        if part.command != "pipeline" and part.command not in skipped:
            for problem in problems_of(commands.load(part.command).Inputs, _values(part, given)):
                about = problem.split("`")[1] if " is required" in problem or " is missing" in problem else problem
                if about not in seen:
                    yield problem
                seen.add(about)
    host, slash, _ = given.get("image", "").strip().partition("/")
    if "push-acr" not in skipped and "registry" not in given and not (slash and set(host) & set(".:")):
        yield "`registry` is missing: the login server that the image is pushed to, such as myregistry.azurecr.io"
    yield from _unmeasurable(given, skipped)


def _unmeasurable(given: Mapping[str, str], skipped: set[str]) -> Iterator[str]:
    """Limits on an endpoint that nobody outside the cluster will reach."""
    limits = [name for name in _LIMITS if name in given]
    inside = not {"url", "service", "manifests", "service-type"} & set(given)
    if limits and inside and not {"smoke-test", "deploy-aks"} & skipped:
        yield (
            f"`{'`, `'.join(limits)}` cannot be measured: the generated Service is reached inside the cluster only. "
            "Set `service-type: LoadBalancer`, or give the `url` that users will ask"
        )


_LIMITS = ("rate", "duration", "max-p50", "max-p95", "max-p99", "max-error-rate", "min-throughput")


def _values(part: Part, given: Mapping[str, str]) -> dict[str, str]:
    known = inputs_of(commands.load(part.command).Inputs)
    values = {key: value for key, value in given.items() if key in known}
    for key, value in part.assumed.items():
        if key not in values and not (key == "url" and "service" in given):
            values[key] = value
    return values


def outputs() -> dict[str, Output]:
    """The root action's outputs, described by the parts they come from."""
    described: dict[str, Output] = {}
    for name in commands.ACTIONS:
        described = {**outputs_of(commands.load(name).Result), **described}
    reason = Output("Why it stopped, in one word; empty when all is well. Set on failure too.")
    return {key: described.get(key, reason) for key in OUTPUT_FROM}


Inputs = _union()


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """Nothing to tell: the parts speak for themselves."""

    def summary(self) -> str:
        """Nothing: each part writes its own."""
        return ""


def run(inputs: Any, adapters: Adapters) -> Result:
    """All inputs are right, or `Inputs` would have refused them."""
    skipped = f" (without {', '.join(inputs.skip)})" if inputs.skip else ""
    adapters.console.line(f"ml-deploy: all inputs are in order{skipped}")
    return Result()
