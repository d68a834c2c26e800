"""deploy-aks: an image by digest into a cluster, verified, or the reason why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_deploy.checks import cases
from ml_deploy.commands.common import ClusterInputs, CommandResult, cluster_contradictions
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import Cancelled, Forbidden, ManifestError, MlDeployError, Unreachable
from ml_deploy.images.reference import parse
from ml_deploy.releases import (
    admission,
    diff,
    endpoint,
    generate,
    manifests,
    ownership,
    preflight,
    snapshot,
    substitution,
)
from ml_deploy.releases.cluster import ApiError, Cluster, Object
from ml_deploy.releases.deployment import Deployment, Plan, Progress, serving
from ml_deploy.releases.lease import Lock, identity
from ml_deploy.releases.manifests import Manifest
from ml_deploy.releases.records import ref_of
from ml_deploy.runtime.fields import choice, duration, flag, integer, lines, output, text

TITLE = "Deploy to AKS"
DESCRIPTION = (
    "Deploys an image by digest to AKS (or any Kubernetes): checks everything on the server first, asks the new version "
    "golden predictions before users reach it, waits, explains what goes wrong, and goes back when told to."
)
ICON = "upload"

_GENERATED = (
    "port", "replicas", "min-replicas", "max-replicas", "cpu", "memory", "gpu", "env", "health-path", "service-type",
)  # fmt: skip
_LAST_WORDS = 2.0  # seconds of patience for letting go of the lock: after a cancel, the runner kills after ten
_LONGEST_DIFF = 200_000  # characters; a job's outputs may have 1 MB
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Inputs(ClusterInputs):
    """What to deploy, and how careful to be."""

    app: str = text("Name of the app. Its releases are recorded under this name.", required=True)
    image: str = text("Image to deploy, best by digest (`push-acr`'s output `image`). Alternative: `images`.")
    images: tuple[str, ...] = lines("Images to deploy, one a line, when there are several.")
    model_digest: str = text("Digest of the model (`lint-model`'s output), noted in annotations and in the record.")
    manifests: tuple[str, ...] = lines(
        "Manifests: files, folders or globs, one a line. Without it a Deployment and a Service are generated."
    )
    port: int = integer("Port that the container listens on (generated objects).", default="8000", minimum=1)
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
    cases: str = text("Golden predictions (JSONL) that one new pod must answer before a user reaches the new version.")
    stable_for: float = duration("How long it must stay healthy after the rollout.", default="0s")
    on_failure: str = choice(
        "What to do when the rollout fails: `rollback` restores the last good release, `keep` leaves things as they are.",
        ("rollback", "keep"), default="rollback",
    )  # fmt: skip
    rollback_timeout: float = duration("How long a rollback may take, beyond `timeout`.", default="5m")
    adopt: bool = flag("Take over objects that Helm, Argo CD, Flux or another tool owns.")
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
        if "manifests" in given:
            extra = [name for name in _GENERATED if name in given]
            if extra:
                yield f"`{'`, `'.join(extra)}` and `manifests` contradict each other: they are for generated objects"
        else:
            yield from _generated_contradictions(given)
        if "app" in given and not _NAME.fullmatch(given["app"].strip()):
            yield "`app` must be a name of lower-case letters, digits and `-`, at most 40 long"
        if "model-digest" in given and not re.fullmatch(r"\w+:[0-9a-f]{32,}", given["model-digest"].strip()):
            yield "`model-digest` must be a digest such as sha256:…"


def _generated_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    if "image" not in given:
        yield "`image` is missing: without `manifests` it says what to deploy" + (
            " (several `images` need `manifests`)" if "images" in given else ""
        )
    if "min-replicas" in given and "max-replicas" not in given:
        yield "`max-replicas` is missing: `min-replicas` is for the autoscaler that it asks for"
    if "replicas" in given and "max-replicas" in given:
        yield "`replicas` and `max-replicas` contradict each other: with an autoscaler give `min-replicas`"
    small, most = given.get("min-replicas", ""), given.get("max-replicas", "")
    if small.strip().isdigit() and most.strip().isdigit() and int(small) > int(most):
        yield "`min-replicas` is greater than `max-replicas`"
    for line in given.get("env", "").splitlines():
        if line.strip() and not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*=.*", line.strip()):
            yield f"`env` has a line that is not NAME=value ({line.strip().partition('=')[0][:40]!r})"


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What was deployed, and where it is reached."""

    revision: int | None = output("Number of this release; empty when none was made.", default=None)
    previous_revision: int | None = output("Number of the release before; empty when there was none.", default=None)
    image: str = output("The image that was deployed (the first of several).")
    endpoint: str = output(
        "URL of the Service: its load balancer's address, a node's for a NodePort, else its name inside the cluster."
    )
    status: str = output(
        "deployed, good (asked, or healthy for `stable-for`), failed, rolled-back, rendered or checked."
    )
    rolled_back: bool = output("Whether the last good release was restored.", default=False)
    diff: str = output("What would change (`dry-run: server`), values of secrets masked; the objects with `client`.")
    details: str = ""

    def summary(self) -> str:
        """Markdown for the job summary."""
        return self.details


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Deploy. Raises what stands in the way before anything changes, or RolloutFailed and the like after."""
    return _Run(inputs, adapters).run()


class _Run:
    def __init__(self, inputs: Inputs, adapters: Adapters) -> None:
        self._inputs, self._adapters = inputs, adapters
        self._started = adapters.clock.monotonic()
        self._images = inputs.images or ((inputs.image,) if inputs.image else ())
        self._checked: list[preflight.Checked] = []

    def run(self) -> Result:
        inputs = self._inputs
        asked = cases.load(Path(inputs.cases)) if inputs.cases else []
        wanted = self._prepared()
        if inputs.dry_run == "client":
            return self._rendered(wanted)
        cluster = self._adapters.cluster(inputs.access())
        cluster.patience = inputs.timeout
        self._tell(f"{inputs.app}: {len(wanted)} objects for namespace {cluster.namespace} of {cluster.server}")
        wanted = self._check(cluster, wanted, asks=bool(asked))
        if inputs.dry_run == "server":
            return self._compared(cluster)
        return self._deploy(cluster, wanted, asked)

    # before any cluster

    def _prepared(self) -> list[Manifest]:
        """The objects with images and notes, in the order in which they will be applied."""
        inputs = self._inputs
        root = self._adapters.job.workspace
        found = manifests.read(inputs.manifests, root) if inputs.manifests else generate.objects(self._app())
        if inputs.manifests:
            found, puts = substitution.put_images(found, self._images)
            for put in puts:
                self._tell(f"{put.manifest.title}: container {put.container} gets {put.after} (was {put.before})")
        for image in substitution.unpinned(self._images):
            self._adapters.console.warning(
                f"{image} is not named by digest: what it means may change between two pulls.", title="Image by tag"
            )
        preflight.refuse_none(found)
        ordered = manifests.ordered(substitution.tie_configuration(found))
        return [replace(one, object=self._noted(one.object)) for one in ordered]

    def _app(self) -> generate.App:
        inputs = self._inputs
        parse(inputs.image)
        env = dict(line.split("=", 1) for line in inputs.env)
        return generate.App(
            name=inputs.app, image=inputs.image, port=inputs.port, replicas=inputs.replicas,
            min_replicas=inputs.min_replicas, max_replicas=inputs.max_replicas, cpu=inputs.cpu, memory=inputs.memory,
            gpu=inputs.gpu, env=env, health_path=inputs.health_path, service_type=inputs.service_type,
        )  # fmt: skip

    def _noted(self, obj: Object) -> Object:
        """The object with our mark and the notes of where it comes from, in its own metadata only."""
        inputs, job = self._inputs, self._adapters.job
        notes = {"ml-deploy/images": " ".join(self._images), "ml-deploy/model-digest": inputs.model_digest,
                 "ml-deploy/commit": job.commit, "ml-deploy/run": job.run_url}  # fmt: skip
        meta = obj["metadata"]
        annotations = {**(meta.get("annotations") or {}), **{k: v for k, v in notes.items() if v}}
        return ownership.mark({**obj, "metadata": {**meta, "annotations": annotations}}, inputs.app)

    def _rendered(self, wanted: Sequence[Manifest]) -> Result:
        text = "---\n".join(diff.render(diff.masked(None, one.object)[1] or {}) for one in wanted)
        self._adapters.console.line(text)
        table = "\n".join(
            f"| {one.object['kind']} | {one.object['metadata']['name']} | {one.place} |" for one in wanted
        )
        details = (
            f"### 📄 {self._inputs.app}: {len(wanted)} objects rendered, nothing sent\n\n"
            f"| kind | name | from |\n|---|---|---|\n{table}\n\n"
            f"<details><summary>YAML</summary>\n\n```yaml\n{text}```\n</details>"
        )
        return self._result(status="rendered", diff=text, details=details, objects=[one.object for one in wanted])

    # with the cluster, before anything changes

    def _check(self, cluster: Cluster, wanted: list[Manifest], *, asks: bool) -> list[Manifest]:
        """Everything dry-run on the server; raises one error with all that stands in the way."""
        inputs = self._inputs
        wanted = preflight.place(cluster, wanted)
        objects = [one.object for one in wanted]
        preflight.check_rights(
            cluster, preflight.rights(cluster, objects, deploys=inputs.dry_run == "none", cases=asks)
        )
        live = snapshot.listed(cluster, objects)
        applier = ownership.Applier(live, inputs.app, objects, tell=self._tell, adopt=inputs.adopt)
        self._checked = preflight.check(wanted, lambda obj: applier.apply(obj, dry_run=True))
        found = preflight.problems(self._checked)
        if not found:
            pods = admission.check(cluster, wanted)
            found = [one.problem for one in pods if one.problem]
            for said in filter(None, (one.warning for one in pods)):
                self._adapters.console.warning(said, title="Pods may be refused")
        if found:
            raise self._with(preflight.together(found), Progress())
        for one in self._checked:
            for said in (*one.warnings, *([one.note] if one.note else [])):
                self._tell(f"{one.manifest.title}: {said}")
        return wanted

    def _compared(self, cluster: Cluster) -> Result:
        pairs = [(self._live(cluster, one), one.after) for one in self._checked if one.after is not None]
        text = diff.diff(pairs)
        self._adapters.console.line(text or "no differences")
        text = text if len(text) <= _LONGEST_DIFF else text[:_LONGEST_DIFF] + "\n(cut here: too long)"
        title = f"### 🔍 {self._inputs.app}: what would change in namespace {cluster.namespace}\n\n"
        notes = "".join(f"- {one.manifest.title}: {one.note}\n" for one in self._checked if one.note)
        details = title + notes + (f"\n```diff\n{text}\n```" if text else "Nothing.")
        return self._result(
            status="checked", diff=text, details=details, objects=[one.manifest.object for one in self._checked]
        )

    def _live(self, cluster: Cluster, one: preflight.Checked) -> Object | None:
        return cluster.get(ref_of(one.manifest.object, cluster.namespace))

    # the deployment itself

    def _deploy(self, cluster: Cluster, wanted: Sequence[Manifest], asked: Sequence[cases.Case]) -> Result:
        inputs, clock = self._inputs, self._adapters.clock
        until = self._started + inputs.timeout
        self._make_namespace(cluster, wanted)
        lock = Lock(cluster, cluster.namespace, inputs.app, holder=identity(self._adapters.job.run_url),
                    clock=clock, tell=self._tell)  # fmt: skip
        with lock.held(wait=max(until - clock.monotonic(), 0)):
            plan = self._plan([one.object for one in wanted], asked)
            deployment = Deployment(cluster, plan, clock=clock, until=until, tell=self._tell, guard=lock.guard)
            try:
                progress = deployment.run()
            except (MlDeployError, ApiError) as error:
                cluster.patience = _LAST_WORDS
                raise self._explained(error, deployment.progress) from error
        return self._succeeded(cluster, progress)

    def _make_namespace(self, cluster: Cluster, wanted: Sequence[Manifest]) -> None:
        """The namespace that holds lock and records, when the release brings it along."""
        for one in wanted:
            if one.object["kind"] == "Namespace" and one.object["metadata"]["name"] == cluster.namespace:
                cluster.apply(one.object, force=True)

    def _plan(self, objects: Sequence[Object], asked: Sequence[cases.Case]) -> Plan:
        inputs, job = self._inputs, self._adapters.job
        return Plan(
            app=inputs.app, objects=objects, images=self._images, model_digest=inputs.model_digest, commit=job.commit,
            run_url=job.run_url, cases=asked, stable_for=inputs.stable_for or 0.0, history_limit=inputs.history_limit,
            rollback_timeout=inputs.rollback_timeout if inputs.on_failure == "rollback" else None, adopt=inputs.adopt,
        )  # fmt: skip

    def _succeeded(self, cluster: Cluster, progress: Progress) -> Result:
        assert progress.release is not None
        where = self._endpoint(cluster, progress.applied)
        seconds = self._adapters.clock.monotonic() - self._started
        self._tell(
            f"revision {progress.release.revision} is {progress.release.state}" + (f": {where}" if where else "")
        )
        head = (
            f"### ✅ {self._inputs.app}: revision {progress.release.revision} is {progress.release.state}\n\n"
            f"Rolled out in {progress.rollout_seconds:.1f} s ({seconds:.1f} s in all)"
            + (f", reached at {where}" if where else "")
            + (f"; before it, revision {progress.previous.revision} served" if progress.previous else "")
            + f".\n\n{self._origin()}"
        )
        asked = f"\n\n{progress.asked.sentence()}\n\n{progress.asked.table()}" if progress.asked else ""
        details = f"{head}\n\n{self._table(progress)}{asked}"
        return self._result(status=progress.release.state, endpoint=where, details=details, objects=progress.applied,
                            progress=progress)  # fmt: skip

    def _origin(self) -> str:
        """What was deployed, in one line each."""
        job, inputs = self._adapters.job, self._inputs
        facts = [("image", image) for image in self._images]
        facts += [("model", inputs.model_digest), ("commit", job.commit)]
        return "  \n".join(f"{name} `{value}`" for name, value in facts if value)

    def _table(self, progress: Progress) -> str:
        rows = []
        for obj in progress.applied:
            title = f"{obj['kind']} {obj['metadata']['name']}"
            rows.append(f"| {obj['kind']} | {obj['metadata']['name']} | {progress.ready.get(title, 'applied')} |")
        return "| kind | name | state |\n|---|---|---|\n" + "\n".join(rows)

    def _endpoint(self, cluster: Cluster, applied: Sequence[Object]) -> str:
        service = endpoint.service_of(applied, self._inputs.app)
        if service is None:
            return ""
        live = cluster.get(ref_of(service, cluster.namespace)) or service
        return endpoint.address(live, lambda: _nodes(cluster))

    # failures

    def _with(self, error: MlDeployError, progress: Progress) -> MlDeployError:
        """The error with what serves now, the outputs and the report."""
        if progress.release is None:
            error.result = self._result(status="failed", objects=(), error=error)
            return error
        said = serving(progress)
        if progress.problem:
            said = f"Then this went wrong, too: {progress.problem} {said}"
        error.message = f"{error.message} {said}"
        status = "rolled-back" if progress.rolled_back_to else "failed"
        error.result = self._result(status=status, progress=progress, objects=progress.applied, error=error)
        return error

    def _explained(self, error: MlDeployError | ApiError, progress: Progress) -> MlDeployError:
        if isinstance(error, ApiError):
            return self._with(ManifestError(f"The cluster refused: {error.message}"), progress)
        if isinstance(error, Cancelled):
            error.hint = error.hint or "Run it again to finish: nothing needs to be cleaned up."
        return self._with(error, progress)

    def _result(
        self, *, status: str, objects: Sequence[Object], progress: Progress | None = None, error: MlDeployError | None = None,
        endpoint: str = "", diff: str = "", details: str = "",
    ) -> Result:  # fmt: skip
        progress = progress or Progress()
        outputs: dict[str, Any] = {
            "revision": progress.release.revision if progress.release else None,
            "previous_revision": progress.previous.revision if progress.previous else None,
            "image": self._images[0] if self._images else "", "endpoint": endpoint, "status": status,
            "rolled_back": progress.rolled_back_to is not None, "diff": diff,
        }  # fmt: skip
        report = {
            **{name.replace("_", "-"): value for name, value in outputs.items()},
            "app": self._inputs.app, "images": list(self._images), "model-digest": self._inputs.model_digest,
            "objects": [_row(obj, progress) for obj in objects],
            "warnings": [w for one in self._checked for w in one.warnings],
            "predictions": progress.asked.as_json() if progress.asked else [],
            "rollout-seconds": round(progress.rollout_seconds, 3),
            "seconds": round(self._adapters.clock.monotonic() - self._started, 3),
            "error": {"reason": error.reason, "message": error.message, "hint": error.hint} if error else None,
        }  # fmt: skip
        path = self._adapters.job.report("deploy-aks.json", self._adapters.console.redact(json.dumps(report, indent=2)))
        return Result(**outputs, report=str(path), details=details)

    def _tell(self, message: str) -> None:
        self._adapters.console.line(f"{self._adapters.clock.monotonic() - self._started:6.1f} s  {message}")


def _row(obj: Object, progress: Progress) -> dict[str, str]:
    meta = obj["metadata"]
    title = f"{obj['kind']} {meta['name']}"
    return {"kind": obj["kind"], "name": meta["name"], "namespace": str(meta.get("namespace") or ""),
            "state": progress.ready.get(title, "")}  # fmt: skip


def _nodes(cluster: Cluster) -> Sequence[Object]:
    """The cluster's nodes, or none when we may not see them."""
    try:
        return cluster.list("v1", "Node", "")
    except (ApiError, Forbidden, Unreachable):
        return ()
