"""push-acr: an image of the engine into a registry, by digest, with a short-lived token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from ml_deploy.commands.common import AzureInputs, CommandResult, azure_contradictions, write_report
from ml_deploy.errors import AuthFailed, InputError, MlDeployError, RegistryError, TimedOut
from ml_deploy.images import reference
from ml_deploy.images.registry import Failure, Progress, RegistryAccess, judge, pause
from ml_deploy.runtime.fields import duration, integer, lines, output, secret, text

if TYPE_CHECKING:  # loading these costs a tenth of a warm start
    from ml_deploy.commands.ports import Adapters
    from ml_deploy.images.engine import ImageInfo
    from ml_deploy.images.registry import Manifest, Registry
    from ml_deploy.runtime.console import Console

TITLE = "Push the image to a registry"
DESCRIPTION = "Pushes an image to Azure Container Registry (or any registry) with a short-lived token, retries what can be retried, and gives back the digest."
ICON = "upload"


@dataclass(frozen=True, kw_only=True)
class Inputs(AzureInputs):
    """What push-acr is told."""

    registry: str = text(
        "Login server (`myregistry.azurecr.io`, `localhost:5000`) or an Azure registry's name. Default: the registry in `image`."
    )
    image: str = text("The image to push, by name or ID, as the container engine of this job has it.", required=True)
    repository: str = text("Repository in the registry, such as `ml/churn`. Default: the one in `image`.")
    tags: tuple[str, ...] = lines("Tags, one a line. Default: the tag in `image`, else `latest`.")
    username: str = text("User of a registry that is not signed in to through Azure; goes before `client-id`.")
    password: str = secret("Password or token of `username`.")
    retries: int = integer(
        "How often a push is tried again after throttling, a server error or a cut connection.", default="5"
    )
    timeout: float = duration("How long the whole step may take.", default="10m")

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """What does not go together."""
        for one, other in (("username", "password"), ("password", "username")):
            if one in given and other not in given:
                yield f"`{other}` is missing: `{one}` needs it"
        yield from azure_contradictions(given)


@dataclass(frozen=True)
class Interruption:
    """A push that did not get through and was tried again."""

    kind: str
    why: str
    waited: float


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What the registry now holds."""

    image: str = output("The image by digest, `registry/repository@sha256:…`: deploy this one.")
    repository: str = output("Registry and repository, without tag and digest.")
    digest: str = output("Digest of the manifest that the registry holds, `sha256:…`.")
    tags: tuple[str, ...] = output("Tags under which the registry holds it, one a line.", default=())
    pushed: bool = output("Whether layers were pushed; false when the registry had the image already.", default=False)
    interruptions: tuple[Interruption, ...] = ()

    def summary(self) -> str:
        """A table of what is where."""
        what = "pushed" if self.pushed else "the registry had it already"
        rows = [("Image", f"`{self.image}`"), ("Tags", ", ".join(f"`{t}`" for t in self.tags)), ("Result", what)]
        if self.interruptions:
            rows.append(("Tried again", "; ".join(f"{i.why} (waited {i.waited:.0f} s)" for i in self.interruptions)))
        table = "\n".join(f"| {name} | {value} |" for name, value in rows)
        return f"### 📦 Image in the registry\n\n| | |\n|---|---|\n{table}"


@dataclass(frozen=True)
class Target:
    """Where the image goes."""

    registry: Registry
    repository: str
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry.host}/{self.repository}"


@dataclass
class Push:
    """One push with its retries, until the deadline."""

    adapters: Adapters
    target: Target
    retries: int
    deadline: float
    pushed: bool = False
    interruptions: list[Interruption] = field(default_factory=list)

    def run(self) -> str:
        """Push the first tag; the digest. Raises what cannot be healed by trying again."""
        renewed = False
        while True:
            digest, error = self._once()
            if digest and not error:
                self.pushed = True
                return digest
            failure = judge(error)
            if failure is Failure.UNAUTHORIZED and not renewed:
                renewed = True
                self.adapters.console.line("the credential is no longer accepted: signing in again")
                self.target.registry.sign_in(self.target.repository)
            elif failure in (Failure.THROTTLED, Failure.TEMPORARY) and len(self.interruptions) < self.retries:
                self._wait(failure, error)
            else:
                raise refused(self.target, failure, error, len(self.interruptions))

    def _once(self) -> tuple[str, str]:
        clock, console = self.adapters.clock, self.adapters.console
        progress = Progress(clock.monotonic())
        for event in self.target.registry.push(self.target.repository, self.target.tags[0], self._left()):
            line = progress.line(event, clock.monotonic())
            if line:
                console.line(line)
            self._left()
        return progress.digest, progress.error or ("" if progress.digest else "the engine reported no digest")

    def _wait(self, failure: Failure, error: str) -> None:
        told = self.target.registry.busy_for(self.target.repository) if failure is Failure.THROTTLED else None
        seconds = pause(failure, len(self.interruptions) + 1, told)
        asked = ", as the registry asks" if told is not None else ""
        self.interruptions.append(Interruption(failure.value, error, seconds))
        self.adapters.console.line(
            f"{failure.value}: {error}; trying again in {seconds:.0f} s{asked} "
            f"({len(self.interruptions)} of {self.retries})"
        )
        if seconds >= self._left():
            raise refused(self.target, failure, error, len(self.interruptions))
        self.adapters.clock.sleep(seconds)

    def _left(self) -> float:
        left = self.deadline - self.adapters.clock.monotonic()
        if left <= 0:
            raise TimedOut(
                f"The push to {self.target.name} was not done in time.",
                hint="Set a longer `timeout`. What was pushed so far is kept: the next push is shorter.",
            )
        return left


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Push, tag, verify. Raises InputError, AuthFailed, Forbidden, RegistryError, EngineUnavailable, TimedOut."""
    began = adapters.clock.monotonic()
    push: Push | None = None
    try:
        target = resolve(inputs, adapters)
        image = adapters.engine().inspect(inputs.image)
        if image is None:
            raise InputError(
                f"The container engine of this job has no image {inputs.image}.",
                hint="Build it in the same job (build-image gives its name as output `image`), or load it first.",
            )
        push = Push(adapters, target, inputs.retries, began + inputs.timeout)
        digest = _arrive(inputs.image, image, push)
    except MlDeployError as error:
        tried = push.interruptions if push else []
        facts = {"error": error.message, "reason": error.reason, "interruptions": [asdict(i) for i in tried]}
        error.result = Result(report=write_report(adapters, "push-acr", facts))
        raise
    result = Result(
        image=f"{target.name}@{digest}", repository=target.name, digest=digest, tags=target.tags,
        pushed=push.pushed, interruptions=tuple(push.interruptions),
    )  # fmt: skip
    facts = asdict(result) | {"seconds": round(adapters.clock.monotonic() - began, 3), "image-id": image.id}
    adapters.console.line(f"{result.image} ({', '.join(target.tags)})")
    return replace(result, report=write_report(adapters, "push-acr", facts))


def resolve(inputs: Inputs, adapters: Adapters) -> Target:
    """Registry, repository and tags, from the inputs and the image's own name. Raises InputError."""
    is_id = re.fullmatch(r"(sha256:)?[0-9a-f]{64}|sha256:[0-9a-f]{6,}", inputs.image)
    named = None if is_id else reference.parse(inputs.image)
    registry = _registry_name(inputs, named)
    client = adapters.registry(
        RegistryAccess(
            registry=registry, username=inputs.username, password=inputs.password, client_id=inputs.client_id,
            tenant_id=inputs.tenant_id, subscription_id=inputs.subscription_id, client_secret=inputs.client_secret,
        )
    )  # fmt: skip
    repository = inputs.repository.removeprefix(f"{client.host}/")
    if not repository and named is None:
        raise InputError(
            "`repository` is missing: an image's ID has no name to take it from.", hint="Set `repository`."
        )
    if not repository and named is not None:
        repository = named.repository.removeprefix("library/")
    whole = reference.parse(f"{client.host}/{repository}")
    if whole.tag or whole.digest:
        raise InputError(f"`repository` has a tag or digest in it: {inputs.repository}.", hint="Tags go into `tags`.")
    tags = inputs.tags or ((named.tag if named else "") or "latest",)
    return Target(client, repository, tuple(dict.fromkeys(reference.check_tag(tag) for tag in tags)))


def _registry_name(inputs: Inputs, named: reference.Reference | None) -> str:
    name = inputs.registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    name = name or (named.registry if named and named.registry != reference.DOCKER_HUB else "")
    hint = "Set `registry` to the login server, such as myregistry.azurecr.io."
    if not name:
        raise InputError(f"`registry` is missing, and the image's name {inputs.image} says none either.", hint=hint)
    if "/" in name:
        raise InputError(f"`registry` has a path in it: {name}.", hint=f"{hint} The path goes into `repository`.")
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", name):
        raise InputError(f"`registry` is no name of a registry: {name!r}.", hint=hint)
    return name


def _arrive(name: str, image: ImageInfo, push: Push) -> str:
    """Make the registry hold the image under all tags; its digest there, as the registry itself says."""
    target, console = push.target, push.adapters.console
    console.line(f"signing in to {target.registry.host}")
    target.registry.sign_in(target.repository)
    manifest = _present(target, image)
    if manifest is not None:
        console.line(f"{target.name} has this image already: nothing to push")
        digest = manifest.digest
    else:
        tagged = f"{target.name}:{target.tags[0]}"
        push.adapters.engine().tag(name, tagged)
        console.line(f"pushing {tagged} ({image.size / 1e6:.0f} MB unpacked)")
        digest = push.run()
    for tag in target.tags:
        manifest = _under(target, tag, digest, manifest, console)
    return digest


def _present(target: Target, image: ImageInfo) -> Manifest | None:
    """The image's manifest when the registry has it, under one of the tags or as pushed from here before."""
    before = [d.partition("@")[2] for d in image.repo_digests if d.startswith(f"{target.name}@")]
    for known in (*before, *target.tags):
        manifest = target.registry.manifest(target.repository, known)
        if manifest is not None and manifest.is_image(image.id):
            return manifest
    return None


def _under(target: Target, tag: str, digest: str, manifest: Manifest | None, console: Console) -> Manifest | None:
    """See to it that the registry has the digest under the tag; a missing tag is one PUT of the manifest."""
    registry, repository = target.registry, target.repository
    found = registry.digest(repository, tag)
    if found == digest:
        return manifest
    manifest = manifest or registry.manifest(repository, digest)
    if manifest is None:
        raise RegistryError(
            f"The push to {target.name} was reported as done, but the registry has no {digest}.",
            hint="Look for quarantine and retention policies of the registry, then run the job again.",
        )
    registry.put_manifest(repository, tag, manifest)
    console.line(f"tag {tag}: {f'was {found}' if found else 'new'}")
    found = registry.digest(repository, tag)
    if found != digest:
        raise RegistryError(
            f"{target.name}:{tag} is {found or 'missing'} after it was set to {digest}.",
            hint="Somebody else pushes the same tag at the same time, or the tag is locked. Use unique tags.",
        )
    return manifest


_REMEDIES = (
    ("does not exist locally", "The image vanished from the engine during the push: another job removed it."),
    ("HTTP response to HTTPS client", "The registry speaks no TLS: add it to `insecure-registries` of the Docker engine."),
    ("x509|certificate", "The Docker engine does not trust the registry's certificate: put its CA into /etc/docker/certs.d/."),
    ("disallowed|locked|immutable", "Unlock it: az acr repository update --write-enabled true. Or push another tag."),
    ("quota|storage|no space", "The registry is full: delete old images (az acr run acr purge) or enlarge it."),
)  # fmt: skip


def refused(target: Target, failure: Failure, error: str, tries: int) -> MlDeployError:
    """Our error for a push that stays refused."""
    hint = next((hint for sign, hint in _REMEDIES if re.search(sign, error, re.IGNORECASE)), "")
    if failure is Failure.DENIED and not hint:
        return target.registry.denied(target.repository)
    if failure is Failure.UNAUTHORIZED:
        return AuthFailed(f"{target.registry.host} does not accept the credential of this push: {error}.", hint=hint)
    if failure in (Failure.THROTTLED, Failure.TEMPORARY):
        often = f" after {tries + 1} attempts" if tries else ""
        hint = "Set more `retries` and a longer `timeout`, or run the job again later. What was pushed so far is kept."
        return RegistryError(f"The push to {target.name} did not get through{often}: {error}.", hint=hint)
    return RegistryError(f"The registry refused the push to {target.name}: {error}.", hint=hint)
