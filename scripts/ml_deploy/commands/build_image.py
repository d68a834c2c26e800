"""build-image: the serving image, from the user's Dockerfile or from nothing but a model file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ml_deploy.checks import cases as golden
from ml_deploy.commands import build_recipe, container_check
from ml_deploy.commands.build_recipe import Recipe, pairs, pairs_problems
from ml_deploy.commands.common import CommandResult, write_report
from ml_deploy.commands.container_check import Check, Checked
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import BuildFailed, MlDeployError
from ml_deploy.images.dockerfile import instructions
from ml_deploy.images.engine import BuildError, Built, ImageInfo, Layer
from ml_deploy.images.failure import Failure, explain
from ml_deploy.runtime.fields import choice, duration, flag, integer, lines, output, secret_lines, size, text

TITLE = "Build the serving image"
DESCRIPTION = "Builds the serving image from your Dockerfile, or from nothing but a scikit-learn or ONNX model, and asks a container of it golden predictions before anything is pushed."
ICON = "package"

_PAUSES = (3.0, 10.0)  # seconds before a base image is pulled again


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What build-image is told."""

    image: str = text(
        "Name of the image, such as `churn` or `myregistry.azurecr.io/ml/churn`; a tag may follow.", required=True
    )
    model: tuple[str, ...] = lines(
        "The model file (or a folder with it). Its digest becomes a label of the image; without a Dockerfile the image is made from it."
    )
    context: str = text("Folder of the build context, for your own Dockerfile. Default: the workspace.")
    dockerfile: str = text(
        "Path of your Dockerfile. Default: `Dockerfile` in `context`; where there is none, an image is generated from `model`."
    )
    runtime: str = choice(
        "`auto` uses your Dockerfile where there is one. `sklearn` and `onnx` generate the image from `model` even then.",
        ("auto", "sklearn", "onnx"),
        default="auto",
    )
    requirements: str = text(
        "A requirements file with what your model needs besides its framework, for a generated image. Its versions go before ours."
    )
    base_image: str = text(
        "Base of a generated image: Debian-based, with Python and pip. Default: `python:3.12-slim`, or the newest Python that the model's library has wheels for."
    )
    tags: tuple[str, ...] = lines("Tags, one a line. Default: the tag in `image`, else the commit, else `latest`.")
    target: str = text("Stage of your Dockerfile to build.")
    build_args: tuple[str, ...] = lines(
        "Build arguments, NAME=VALUE, one a line. They stay visible in the image's history: secrets go into `secrets`."
    )
    secrets: tuple[str, ...] = secret_lines(
        "Build secrets for `RUN --mount=type=secret`, ID=VALUE, one a line. Needs buildx."
    )
    cache_from: tuple[str, ...] = lines("Build caches to read, as buildx has them, such as `type=gha`. Needs buildx.")
    cache_to: tuple[str, ...] = lines("Build caches to write, such as `type=gha,mode=max`. Needs buildx.")
    labels: tuple[str, ...] = lines("Labels besides those of model, commit and repository, NAME=VALUE, one a line.")
    max_image_size: int | None = size("Fail when the image is larger (unpacked), such as `2GB`.")
    check: bool = flag(
        "Start a container of the image, with a read-only root and without new privileges, and ask it `cases`.",
        default=True,
    )
    cases: str = text("Golden predictions to ask the container: a JSONL file (see the README).")
    port: int | None = integer(
        "Port that the container serves on. Default: the image's only `EXPOSE`.", minimum=1, maximum=65535
    )
    health_path: str = text(
        "Path that answers 200 when the container is ready. Default: `/v2/health/ready` for a generated image; for your own, any answer counts."
    )
    env: tuple[str, ...] = lines("Environment of the container, NAME=VALUE, one a line.")
    read_only: bool = flag(
        "Whether the check gives the container a read-only root file system (/tmp is writable).", default=True
    )
    ready_timeout: float = duration("How long the checked container may take to be ready.", default="2m")

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """What does not go together."""
        chosen = given.get("runtime", "auto").strip() != "auto"
        for name in ("requirements", "base-image", "runtime"):
            if name in given and "dockerfile" in given and (name != "runtime" or chosen):
                yield f"`{name}` is for a generated image, and `dockerfile` brings your own: give one of them"
        if chosen:
            yield from (f"`{name}` is for your own Dockerfile, and `runtime` generates one: give one of them"
                        for name in ("target", "secrets") if name in given)  # fmt: skip
            if "model" not in given:
                yield "`model` is missing: `runtime` generates an image from it"
        if "cases" in given and given.get("check", "").strip() == "false":
            yield "`cases` are asked by the check: leave them out, or leave out `check: false`"
        for name in ("build-args", "labels", "env", "secrets"):
            yield from pairs_problems(name, given.get(name, ""))


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What was built."""

    image: str = output("The image's name with its first tag.")
    image_id: str = output("The image's ID, `sha256:…`.")
    size: int = output("The image's size in bytes, unpacked.", default=0)
    model_digest: str = output("The model's digest, `sha256:…`, also in the label `ml-deploy.model-digest`.")
    metadata: str = output(
        "What the builder says of the image, as JSON (buildx's metadata file; empty object without buildx)."
    )
    made_from: str = ""
    dockerfile: str = field(default="", repr=False)
    base: str = ""
    environment: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    seconds: float = 0.0
    checked: Checked | None = field(default=None, repr=False)

    def summary(self) -> str:
        """A table of what was built, and the answers of the check."""
        rows = [("Image", f"`{self.image}`"), ("ID", f"`{self.image_id[:19]}`"), ("Size", _megabytes(self.size)),
                ("Made from", self.made_from), ("Model", f"`{self.model_digest}`" if self.model_digest else "not given"),
                ("Build", f"{self.seconds:.1f} s")]  # fmt: skip
        if self.environment:
            rows.append(("Libraries", ", ".join(f"`{line}`" for line in self.environment)))
        if self.checked:
            rows.append(("Ready after", f"{self.checked.ready:.1f} s"))
        table = "\n".join(f"| {name} | {value} |" for name, value in rows)
        asked = f"\n\n{self.checked.report.table()}" if self.checked and self.checked.report else ""
        return f"### 🧱 Image built\n\n| | |\n|---|---|\n{table}{asked}"


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Build, measure, check. Raises BuildFailed, EngineUnavailable, InputError, EndpointDown or WrongAnswers."""
    asked = golden.load(Path(inputs.cases)) if inputs.cases else []
    recipe = build_recipe.make(inputs, adapters)
    result = Result(
        model_digest=recipe.model_digest,
        made_from=recipe.made_from,
        dockerfile=recipe.text,
        base=recipe.base,
        environment=recipe.environment,
    )
    try:
        result = _build(inputs, adapters, recipe, result)
        if inputs.check:
            result = _check(inputs, adapters, recipe, result, asked)
    except MlDeployError as error:
        error.result = _reported(adapters, result, error)
        raise
    return _reported(adapters, result, None)


def _build(inputs: Inputs, adapters: Adapters, recipe: Recipe, result: Result) -> Result:
    engine = adapters.engine()
    adapters.console.line(f"Building {recipe.request.tags[0]} from {recipe.made_from.replace('`', '')}")
    info = engine.info()
    how = f"docker buildx build {info.buildx}" if info.buildx else "the classic docker build (there is no buildx)"
    adapters.console.line(f"Docker Engine {info.version}, {how}")
    start = adapters.clock.monotonic()
    built = _built(adapters, recipe)
    seconds = adapters.clock.monotonic() - start
    image = engine.inspect(built.image_id)
    assert image is not None
    result = replace(
        result, image=recipe.request.tags[0], image_id=image.id, size=image.size, seconds=seconds,
        metadata=json.dumps(built.metadata), layers=tuple(layer for layer in engine.history(image.id) if layer.size),
    )  # fmt: skip
    adapters.console.line(f"Built {result.image}: {image.id[:19]}, {_megabytes(image.size)}, {seconds:.1f} s")
    _demand_size(inputs.max_image_size, result)
    return result


def _built(adapters: Adapters, recipe: Recipe) -> Built:
    """Build; a base image that a registry could not give just now is asked for again."""
    for pause in (*_PAUSES, None):
        try:
            with adapters.console.group("Build output"):
                return adapters.engine().build(recipe.request, adapters.console.line)
        except BuildError as error:
            why = explain(error.output, instructions(recipe.text), recipe.dockerfile, recipe.request.build_args)
            if not why.temporary or pause is None:
                raise _failed(why, recipe) from error
        adapters.console.line(f"{why.message} Trying again in {pause:.0f} s.")
        adapters.clock.sleep(pause)
    raise AssertionError


def _failed(why: Failure, recipe: Recipe) -> BuildFailed:
    excerpt = why.excerpt.replace("```", "'''")
    return BuildFailed(
        why.message, hint=why.hint, file=recipe.file, line=why.line if recipe.file else 0,
        details=f"The last lines of the build:\n\n```text\n{excerpt}\n```" if excerpt else "",
    )  # fmt: skip


def _demand_size(limit: int | None, result: Result) -> None:
    if limit is None or result.size <= limit:
        return
    biggest = sorted(result.layers, key=lambda layer: -layer.size)[:8]
    rows = "\n".join(f"| {_megabytes(one.size)} | `{_step(one)}` |" for one in biggest)
    raise BuildFailed(
        f"The image {result.image} has {_megabytes(result.size)}, more than the allowed {_megabytes(limit)}.",
        title="Image too large",
        hint=f"Its largest layer ({_megabytes(biggest[0].size)}) comes from: {_step(biggest[0])}. Leave out what serving does not need, "
        "or raise `max-image-size`.",
        details=f"The largest layers:\n\n| size | made by |\n|---:|---|\n{rows}",
    )  # fmt: skip


def _step(layer: Layer) -> str:
    text = (
        layer.created_by.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").strip().replace("`", "'").replace("|", "¦")
    )
    return text[:100] or "the base image"


def _check(inputs: Inputs, adapters: Adapters, recipe: Recipe, result: Result, asked: Sequence[golden.Case]) -> Result:
    image = adapters.engine().inspect(result.image_id)
    assert image is not None
    port = container_check.port_of(image, inputs.port, result.image)
    for warning in container_check.warnings(image):
        adapters.console.warning(warning, title="Image", file=recipe.file)
    adapters.console.line(f"Checking a container of {result.image} on port {port}")
    what = Check(image=result.image_id, name=result.image, port=port, health_path=recipe.health_path, env=pairs(inputs.env),
                 read_only=inputs.read_only, root=container_check.runs_as_root(image), seconds=inputs.ready_timeout, cases=asked)  # fmt: skip
    checked = container_check.check(adapters, what)
    _doubts(adapters, recipe, image, checked)
    return replace(result, checked=checked)


def _doubts(adapters: Adapters, recipe: Recipe, image: ImageInfo, checked: Checked) -> None:
    if checked.report is None:
        adapters.console.warning(
            "The container became ready, but no prediction was asked: give `cases` with golden predictions.",
            title="Nothing asked",
        )
    if checked.stubborn:
        command = " ".join(image.command)[:80]
        adapters.console.warning(
            f"The container does not end on SIGTERM, so every rollout cuts requests off: start the server itself, not a shell "
            f"(CMD in its list form, or `exec`). It runs: {command}", title="Ignores SIGTERM", file=recipe.file,
        )  # fmt: skip


def _reported(adapters: Adapters, result: Result, error: MlDeployError | None) -> Result:
    checked = result.checked
    report: dict[str, Any] = {
        "image": result.image, "image-id": result.image_id, "size": result.size, "model-digest": result.model_digest,
        "made-from": result.made_from.replace("`", ""), "dockerfile": result.dockerfile, "base": result.base, "requirements": list(result.environment),
        "seconds": round(result.seconds, 3), "layers": [asdict(layer) for layer in result.layers],
        "metadata": json.loads(result.metadata or "{}"),
        "check": None if checked is None else {
            "ready-seconds": round(checked.ready, 3), "stop-seconds": round(checked.stop, 3),
            "cases": checked.report.as_json() if checked.report else [],
        },
        "error": None if error is None else {"reason": error.reason, "message": error.message},
    }  # fmt: skip
    return replace(result, report=write_report(adapters, "build-image", report))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"
