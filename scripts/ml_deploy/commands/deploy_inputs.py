"""What deploy-aks is given, and what does not go together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ml_deploy.commands.common import ClusterInputs, cluster_contradictions
from ml_deploy.commands.one_at_a_time import on_conflict
from ml_deploy.releases.strategies import steps as canary_steps
from ml_deploy.runtime.fields import choice, duration, flag, integer, lines, number, parse_duration, parsed, text

_GENERATED = (
    "port", "replicas", "min-replicas", "max-replicas", "cpu", "memory", "gpu", "env", "health-path", "service-type",
)  # fmt: skip
_SOURCES = (
    "image", "images", "manifests", "substitute", "chart", "chart-version", "values", "set", "kustomize", "patch", "image-paths",
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


def _keep_old(value: str) -> float | None:
    """Seconds; None for until the next deployment."""
    if value.strip() == "until-next":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"must be until-next, or {str(error).removeprefix('must be ')}") from None


@dataclass(frozen=True, kw_only=True)
class Inputs(ClusterInputs):
    """What to deploy, and how careful to be."""

    app: str = text("Name of the app. Its releases are recorded under this name.", required=True)
    action: str = choice(
        "`deploy`; what becomes of a canary that waits: `promote` makes it the release, `reject` takes it away; or "
        "`teardown`, which removes the app with all that is ours (with `dry-run: server` it only lists it).",
        ("deploy", "promote", "reject", "teardown"), default="deploy",
    )  # fmt: skip
    image: str = text("Image to deploy, best by digest (`push-acr`'s output `image`). Alternative: `images`.")
    images: tuple[str, ...] = lines("Images to deploy, one a line, when there are several.")
    model_digest: str = text("Digest of the model (`lint-model`'s output), noted in annotations and in the record.")
    manifests: tuple[str, ...] = lines(
        "Manifests: files, folders or globs, one a line. Without `manifests`, `chart` and `kustomize` a Deployment and a "
        "Service are generated."
    )
    substitute: tuple[str, ...] = lines(
        "Names of environment variables, one a line, whose `${NAME}` is replaced in manifests and kustomizations."
    )
    chart: str = text(
        "Helm chart instead of manifests: a folder, a .tgz, an oci:// address or repo/name. Rendered by the helm on the PATH."
    )
    chart_version: str = text("Version (or range) of a chart that comes from a registry or a repository.")
    values: tuple[str, ...] = lines("Values files of the chart, one a line; later ones win.")
    set: tuple[str, ...] = lines("Values of the chart, one name=value a line, as `helm --set` takes them.")
    kustomize: str = text("Folder of a kustomization instead of manifests; needs kustomize or kubectl on the PATH.")
    patch: str = text(
        "What inputs do not name, merged into the objects: YAML, or its path. `kind` (and `metadata.name`) say for which."
    )
    image_paths: tuple[str, ...] = lines(
        "Where custom resources keep images outside of containers, one Kind:path a line: `Model:spec.server.image`."
    )
    port: int = integer(
        "Port that the container listens on (generated objects).", default="8000", minimum=1, maximum=65535
    )
    replicas: int = integer("Number of pods (generated objects).", default="2", minimum=1)
    min_replicas: int | None = integer("Least pods under the autoscaler (generated objects). Default: 2.", minimum=1)
    max_replicas: int | None = integer("Most pods; asks for an autoscaler on CPU (generated objects).", minimum=1)
    cpu: str = text("CPU that each pod asks for (generated objects).", default="250m")
    memory: str = text("Memory that each pod asks for and is limited to (generated objects).", default="512Mi")
    gpu: int = integer("NVIDIA GPUs of each pod (generated objects).", default="0")
    env: tuple[str, ...] = lines("Environment, one NAME=value a line (generated objects). No place for secrets.")
    health_path: str = text("Path of the health probes (generated objects).", default="/v2/health/ready")
    service_type: str = choice(
        "How the Service is reached (generated objects).",
        ("ClusterIP", "NodePort", "LoadBalancer"),
        default="ClusterIP",
    )
    strategy: str = choice(
        "How the new version comes to its users: `rolling` replaces pod by pod, `blue-green` switches the Services to a "
        "complete second set of pods, `canary` gives it a growing share.",
        ("rolling", "blue-green", "canary"), default="rolling",
    )  # fmt: skip
    steps: tuple[int, ...] = parsed(
        "Shares of the traffic that a canary gets, in percent. 100 promotes it; without it the last step waits for "
        "`action: promote` or `reject`.",
        canary_steps.parse, default="10, 50, 100",
    )  # fmt: skip
    pause: float = duration("How long each step of a canary lasts before it is judged.", default="30s")
    traffic: str = choice(
        "How a canary's share is set: by the number of pods (`replicas`) or by the weights of the HTTPRoute that leads to "
        "the Service (`gateway`); `auto` takes the gateway where there is such a route.",
        ("auto", "replicas", "gateway"), default="auto",
    )  # fmt: skip
    rate: float | None = number(
        "Requests a second under which a canary is compared with the stable version at the gateway. Default: 10."
    )
    revision: int | None = integer("Revision that is to be promoted or rejected. Default: the one that waits.")
    keep_old: float | None = parsed(
        "How long the old colour stays as the way back (`blue-green`): `until-next` deployment, or a duration that this "
        "step watches the new one for before it removes the old.",
        _keep_old, default="until-next",
    )  # fmt: skip
    cases: str = text("Golden predictions (JSONL) that new pods must answer before a user reaches the new version.")
    stable_for: float = duration("How long it must stay healthy after the rollout.", default="0s")
    on_failure: str = choice(
        "What to do when the rollout fails: `rollback` restores the last good release, `keep` leaves things as they are.",
        ("rollback", "keep"), default="rollback",
    )  # fmt: skip
    rollback_timeout: float = duration("How long a rollback may take, beyond `timeout`.", default="5m")
    on_conflict: str = on_conflict()
    adopt: bool = flag("Take over objects that Helm, Argo CD, Flux or another tool owns.")
    prune: bool = flag("Remove what the release before had and this one has not, once this one is ready.")
    dry_run: str = choice(
        "`client` renders the objects without a cluster, `server` asks the cluster what would change, `none` deploys.",
        ("none", "client", "server"), default="none",
    )  # fmt: skip
    history_limit: int = integer("Number of releases whose record is kept.", default="10", minimum=2)

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """What does not go together."""
        if given.get("dry-run") != "client":
            yield from cluster_contradictions(given)
        if "image" in given and "images" in given:
            yield "`image` and `images` are both set: give one of them"
        if "action" not in given:
            yield from _source_contradictions(given)
        elif given["action"] in ("promote", "reject", "teardown"):
            yield from _action_contradictions(given)
        yield from _canary_contradictions(given)
        yield from _strategy_contradictions(given)
        if "app" in given and not _NAME.fullmatch(given["app"].strip()):
            yield "`app` must be a name of lower-case letters, digits and `-`, at most 40 long"
        if "model-digest" in given and not re.fullmatch(r"\w+:[0-9a-f]{32,}", given["model-digest"].strip()):
            yield "`model-digest` must be a digest such as sha256:…"


def _action_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """What is there already needs no word on what to deploy."""
    decides = given["action"] in ("promote", "reject")
    names = (
        *_SOURCES,
        *_GENERATED,
        "strategy",
        "steps",
        "pause",
        "traffic",
        "prune",
        *(("dry-run",) if decides else ()),
    )
    extra = [name for name in names if name in given]
    if extra:
        why = "what waits is known" if decides else "nothing is deployed"
        yield f"`{'`, `'.join(extra)}` and `action: {given['action']}` contradict each other: {why}"
    if not decides and given.get("dry-run") == "client":
        yield "`dry-run: client` and `action: teardown` contradict each other: only the cluster knows what is there"


def _canary_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    if "revision" in given and given.get("action") not in ("promote", "reject"):
        yield "`revision` is for `action: promote` and `action: reject`: a deployment gets its number"
    if given.get("strategy") != "canary":
        for name in ("steps", "pause", "traffic"):
            if name in given and "action" not in given:
                yield f"`{name}` is for `strategy: canary`"
        return
    try:
        count = sum(share < canary_steps.ALL for share in canary_steps.parse(given.get("steps", "10, 50, 100")))
        pauses = count * (parse_duration(given.get("pause", "30s")) or 0)
        timeout = parse_duration(given.get("timeout", "10m")) or 0
    except ValueError:
        return  # said elsewhere
    if pauses >= timeout:
        yield f"`pause` and `steps` take {pauses:g} s together, and `timeout` is {timeout:g} s"


def _source_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    sources = [name for name in ("manifests", "chart", "kustomize") if name in given]
    if len(sources) > 1:
        yield f"`{'`, `'.join(sources)}` contradict each other: the objects come from one of them"
    if not sources:
        yield from _generated_contradictions(given)
    extra = [name for name in _GENERATED if name in given]
    if extra and sources:
        yield f"`{'`, `'.join(extra)}` and `{sources[0]}` contradict each other: they are for generated objects"
    for name in ("chart-version", "values", "set"):
        if name in given and "chart" not in given:
            yield f"`chart` is missing: `{name}` is for it"
    if "substitute" in given and not {"manifests", "kustomize"} & set(sources):
        yield "`substitute` needs `manifests` or `kustomize`" + (": a chart takes values by `set`" if sources else "")
    if "image-paths" in given and not sources:
        yield "`image-paths` needs `manifests`, `chart` or `kustomize`: generated objects have their image"
    for name in given.get("substitute", "").split("\n"):
        if name.strip() and not re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
            yield f"`substitute` takes names of environment variables, without $ and braces (it has {name.strip()[:40]!r})"
    for line in given.get("set", "").split("\n"):
        if line.strip() and "=" not in line:
            yield f"`set` has a line that is not name=value ({line.strip()[:40]!r})"


def _strategy_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    if "keep-old" in given and given.get("strategy") != "blue-green":
        yield "`keep-old` needs `strategy: blue-green`: no other strategy has an old colour"
    if "keep-old" in given and _seconds(given, "keep-old", "") >= _seconds(given, "timeout", "10m"):
        yield "`keep-old` must be shorter than `timeout`: the step watches for so long"


def _seconds(given: Mapping[str, str], name: str, default: str) -> float:
    """A duration among the raw inputs; 0 for what is none (that is told elsewhere)."""
    try:
        return parse_duration(given.get(name, default)) or 0.0
    except ValueError:
        return 0.0


def _generated_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    if "image" not in given:
        yield "`image` is missing: without `manifests`, `chart` or `kustomize` it says what to deploy" + (
            " (several `images` need one of those)" if "images" in given else ""
        )
    if "min-replicas" in given and "max-replicas" not in given:
        yield "`max-replicas` is missing: `min-replicas` is for the autoscaler that it asks for"
    if "replicas" in given and "max-replicas" in given:
        yield "`replicas` and `max-replicas` contradict each other: with an autoscaler give `min-replicas`"
    small, most = given.get("min-replicas", ""), given.get("max-replicas", "")
    if small.strip().isdigit() and most.strip().isdigit() and int(small) > int(most):
        yield "`min-replicas` is greater than `max-replicas`"
    names = []
    for line in filter(None, map(str.strip, given.get("env", "").splitlines())):
        if not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*=.*", line):
            yield f"`env` has a line that is not NAME=value ({line.partition('=')[0][:40]!r})"
        names.append(line.partition("=")[0])
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield f"`env` gives {name} more than one value"
