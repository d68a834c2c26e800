"""What build-image gives to the builder: from the user's Dockerfile, or generated from the model file."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import InputError, ModelRejected, cause
from ml_deploy.images import generate, reference
from ml_deploy.images.engine import BuildRequest
from ml_deploy.models import sandbox
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.digest import model_digest, model_files
from ml_deploy.models.findings import Verdict

if TYPE_CHECKING:
    from ml_deploy.commands.build_image import Inputs

#: Labels that tie an image to its model and commit.
DIGEST_LABEL = "ml-deploy.model-digest"
REVISION_LABEL = "org.opencontainers.image.revision"
SOURCE_LABEL = "org.opencontainers.image.source"


@dataclass(frozen=True)
class Recipe:
    """What the builder is given, and what to say about it."""

    request: BuildRequest
    made_from: str
    dockerfile: str
    text: str
    model_digest: str = ""
    file: str = ""
    base: str = ""
    environment: tuple[str, ...] = ()
    health_path: str = ""


def make(inputs: Inputs, adapters: Adapters) -> Recipe:
    """Everything that can be said before the engine is asked."""
    tags = _tags(inputs, adapters.job.commit)
    own = _own_dockerfile(inputs)
    files = _model_files(inputs.model)
    digest = model_digest(files) if files else ""
    labels = _labels(inputs, adapters, digest)
    recipe = _from_dockerfile(inputs, own) if own else _generated(inputs, adapters, files)
    request = replace(
        recipe.request, tags=tags, labels=labels, build_args=pairs(inputs.build_args), secrets=_secrets(inputs, adapters),
        cache_from=inputs.cache_from, cache_to=inputs.cache_to, target=inputs.target,
    )  # fmt: skip
    return replace(recipe, request=request, model_digest=digest)


def _own_dockerfile(inputs: Inputs) -> Path | None:
    """The user's Dockerfile, or None when an image is to be generated. Raises InputError when neither is possible."""
    if inputs.runtime != "auto":
        return None
    context = Path(inputs.context or ".")
    given = Path(inputs.dockerfile) if inputs.dockerfile else context / "Dockerfile"
    generated_only = [
        name for name, value in (("requirements", inputs.requirements), ("base-image", inputs.base_image)) if value
    ]
    if given.is_file():
        if generated_only:
            raise InputError(f"`{generated_only[0]}` is for a generated image, and {given} is your own.",
                             hint=f"Leave `{generated_only[0]}` out, or set `runtime: sklearn` (or `onnx`) to generate the image.")  # fmt: skip
        _demand_context(context)
        return given
    if inputs.dockerfile:
        raise InputError(
            f"There is no Dockerfile at {given}.", hint="`dockerfile` is a path from the workspace, not from `context`."
        )
    if not inputs.model:
        _demand_context(context)
        raise InputError(f"There is nothing to build: {given} does not exist, and no `model` is given.",
                         hint="Name your Dockerfile (`dockerfile`), or the model file to generate an image from (`model`).")  # fmt: skip
    return None


def _demand_context(context: Path) -> None:
    if not context.is_dir():
        raise InputError(
            f"The build context {context} is no folder.", hint="`context` is a folder of the checked-out repository."
        )


def _from_dockerfile(inputs: Inputs, dockerfile: Path) -> Recipe:
    try:
        written = dockerfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{dockerfile} cannot be read: {error}", hint="A Dockerfile is UTF-8 text.") from error
    request = BuildRequest(context=Path(inputs.context or "."), dockerfile=dockerfile, tags=())
    name = str(dockerfile)
    return Recipe(request, f"`{name}`", name, written, file=name, health_path=inputs.health_path)


def _generated(inputs: Inputs, adapters: Adapters, files: Sequence[Path]) -> Recipe:
    main = _main_file(files)
    adapters.console.line(f"No Dockerfile in use: generating an image for {main}.")
    own = _requirements(inputs.requirements)
    plan = generate.plan(_anatomy(main), [main, *(f for f in files if f != main)],
                         runtime=inputs.runtime, requirements=own, base=inputs.base_image)  # fmt: skip
    for doubt in plan.environment.doubts:
        adapters.console.warning(doubt, title="Library versions")
    pins = tuple(line for line in plan.requirements.splitlines() if line and not line.startswith("#"))
    adapters.console.line(f"Base image {plan.base}; libraries: {', '.join(pins)}")
    request = BuildRequest(context=plan.files, dockerfile="Dockerfile", tags=())
    return Recipe(request, f"the model alone ({plan.kind})", "the generated Dockerfile", plan.dockerfile,
                  base=plan.base, environment=pins, health_path=inputs.health_path or generate.HEALTH_PATH)  # fmt: skip


def _model_files(names: Sequence[str]) -> list[Path]:
    """The model's files, real ones. Raises InputError for what is missing or only a pointer."""
    if not names:
        return []
    files = model_files(_expanded(names))
    for file in files:
        with open(file, "rb") as opened:
            if opened.read(40).startswith(b"version https://git-lfs.github.com/spec/"):
                raise InputError(f"{file} is a Git LFS pointer, not the model itself.",
                                 hint="Check the repository out with `lfs: true`, or run `git lfs pull` before this step.")  # fmt: skip
    return files


def _expanded(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207  (absolute ones too)
        if not matches:
            raise InputError(
                f"The input `model` names {name}, which matches no file in {Path.cwd()}.",
                hint="Check the path, and that an earlier step made or checked out the model (with `lfs: true` if it is in LFS).",
            )
        found += matches
    return found


def _main_file(files: Sequence[Path]) -> Path:
    """The file to load: the only one, or the only one of a folder that is a model by its name."""
    loadable = [file for file in files if file.suffix.lower() in (".pkl", ".pickle", ".joblib", ".onnx")]
    found = list(files) if len(files) == 1 else loadable
    if len(found) != 1:
        raise InputError(f"A generated image serves one model, and `model` names {len(found)} model files out of {len(files)}.",
                         hint="Name the one file, or a folder with one .onnx, .joblib or .pkl file in it.")  # fmt: skip
    return found[0]


def _anatomy(file: Path) -> Anatomy:
    """What the model file says of itself, read in a limited child. Raises ModelRejected for what must not be loaded."""
    found = sandbox.inspect([file])[0]
    refused = next((one for one in found.findings if one.verdict is Verdict.DENY and not one.allow), None)
    if refused:
        raise ModelRejected(f"No image is made of {file}: {refused.message}", hint=refused.advice, file=str(file))
    return found.anatomy


def _requirements(path: str) -> list[str]:
    if not path:
        return []
    try:
        written = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The requirements file {path} cannot be read: {cause(error)}.",
            hint="`requirements` is the path of a text file.",
        ) from error
    found = [line.strip() for line in written.splitlines()]
    outside = next(
        (
            line
            for line in found
            if line.startswith(("-r", "--requirement", "-c", "--constraint", "-e", "--editable", "."))
        ),
        "",
    )
    if outside:
        raise InputError(
            f"{path} refers to another file ({outside!r}), which the image does not have.",
            hint="Write the requirements out in one file.",
            file=path,
        )
    return [line for line in found if line and not line.startswith("#")]


def _tags(inputs: Inputs, commit: str) -> tuple[str, ...]:
    named = reference.parse(inputs.image)
    if named.digest:
        raise InputError(
            f"`image` has a digest ({inputs.image}), which only a registry can give.",
            hint="Give a name, with a tag at most.",
        )
    tags = [*([named.tag] if named.tag else []), *inputs.tags] or [commit[:12] or "latest"]
    return tuple(dict.fromkeys(str(named.with_tag(tag)) for tag in tags))


def _labels(inputs: Inputs, adapters: Adapters, digest: str) -> dict[str, str]:
    ours = {DIGEST_LABEL: digest, REVISION_LABEL: adapters.job.commit, SOURCE_LABEL: adapters.job.repository_url}
    return {**{name: value for name, value in ours.items() if value}, **pairs(inputs.labels)}


def _secrets(inputs: Inputs, adapters: Adapters) -> dict[str, str]:
    secrets = pairs(inputs.secrets)
    for value in secrets.values():
        adapters.console.mask(value)
    return secrets


def pairs(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE lines as a dictionary."""
    return {name.strip(): value for name, _, value in (line.partition("=") for line in given)}


def pairs_problems(name: str, raw: str) -> Iterator[str]:
    """What is wrong with NAME=VALUE lines; of secrets nothing is shown."""
    for number, line in enumerate((one for one in raw.splitlines() if one.strip()), 1):
        if not line.partition("=")[0].strip() or "=" not in line:
            shown = "" if name == "secrets" else f" ({line.strip()[:40]!r})"
            yield f"`{name}` has no NAME=VALUE on line {number}{shown}"
