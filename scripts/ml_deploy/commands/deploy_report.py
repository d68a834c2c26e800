"""What deploy-aks gives back: outputs, summary and report, of a success and of every failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml_deploy.checks.cases import escape_cell, fenced
from ml_deploy.commands.common import CommandResult, write_report
from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import Cancelled, Forbidden, ManifestError, MlDeployError, Unreachable
from ml_deploy.releases import diff, endpoint, leftovers
from ml_deploy.releases.cluster import ApiError, Cluster, Object, hurried
from ml_deploy.releases.deployment import Progress, serving
from ml_deploy.releases.history import WAITING, ref_of
from ml_deploy.releases.preflight import Checked
from ml_deploy.releases.prune import Pruning
from ml_deploy.releases.sources.manifests import Manifest
from ml_deploy.releases.stage import Taken
from ml_deploy.runtime.fields import output

_LONGEST_DIFF = 200_000  # characters; a job's outputs may have 1 MB


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
        "deployed, good (asked, or healthy for `stable-for`), waiting (a canary, to be promoted or rejected), failed, "
        "rolled-back, rendered, checked or torn-down."
    )
    rolled_back: bool = output("Whether the last good release was restored.", default=False)
    diff: str = output("What would change (`dry-run: server`), values of secrets masked; the objects with `client`.")
    details: str = ""

    def summary(self) -> str:
        """Markdown for the job summary."""
        return self.details


class Reporter:
    """Tells the log what happens, and makes the Result of what came of it. `checked`: what the dry run found.

    pruning: what goes once the release is ready. images: what is deployed.
    """

    def __init__(self, inputs: Inputs, adapters: Adapters, images: Sequence[str]) -> None:
        self._inputs, self._adapters, self.images = inputs, adapters, images
        self._started = adapters.clock.monotonic()
        self.checked: Sequence[Checked] = ()
        self.pruning = Pruning()

    def tell(self, message: str) -> None:
        """A line in the log, with the seconds since the start."""
        self._adapters.console.line(f"{self._seconds():6.1f} s  {message}")

    def rendered(self, wanted: Sequence[Manifest]) -> Result:
        """The objects as YAML; nothing was sent."""
        text = "---\n".join(diff.render(diff.masked(None, one.object)[1] or {}) for one in wanted)
        self._adapters.console.line(text)
        text = _cut(text)
        table = "\n".join(
            f"| {one.object['kind']} | {one.object['metadata']['name']} | {one.place} |" for one in wanted
        )
        details = (
            f"### 📄 {self._inputs.app}: {len(wanted)} objects rendered, nothing sent\n\n"
            f"| kind | name | from |\n|---|---|---|\n{table}\n\n"
            f"<details><summary>YAML</summary>\n\n{fenced(text, 'yaml')}\n</details>"
        )
        return self._result(status="rendered", diff=text, details=details, objects=[one.object for one in wanted])

    def compared(self, cluster: Cluster) -> Result:
        """What would change in the cluster, as a diff."""
        pairs: list[tuple[Object | None, Object | None]]
        pairs = [(_live(cluster, one), one.after) for one in self.checked if one.after is not None]
        pairs += [(gone, None) for gone in self.pruning.goes]
        text = diff.diff(pairs)
        self._adapters.console.line(text or "no differences")
        text = _cut(text)
        title = f"### 🔍 {self._inputs.app}: what would change in namespace {cluster.namespace}\n\n"
        notes = "".join(f"- {one.manifest.title}: {one.note}\n" for one in self.checked if one.note)
        notes += "".join(f"- {line}\n" for line in self.pruning.lines())
        details = title + notes + (f"\n{fenced(text, 'diff')}" if text else "Nothing.")
        return self._result(
            status="checked", diff=text, details=details, objects=[one.manifest.object for one in self.checked]
        )

    def torn_down(self, removed: Sequence[str], stays: Sequence[str], said: str = "", *, dry: bool = False) -> Result:
        """An app that is gone, or (`dry`) what its going would mean."""
        rows = [*(f"- {one}" for one in removed), *(f"- {one}" for one in stays)]
        count = f"{len(removed)} object{'s' if len(removed) != 1 else ''}"
        title = f"### 🧹 {self._inputs.app}: {said or f'removed {count}, its records and its lock'}"
        return self._result(status="checked" if dry else "torn-down", objects=(), details="\n".join([title, "", *rows]))

    def succeeded(self, cluster: Cluster, progress: Progress) -> Result:
        """A release that is in place."""
        assert progress.release is not None
        where = self._where(cluster, progress.applied or progress.release.objects)
        if progress.release.state == WAITING:
            return self._waiting(progress, where)
        seconds = self._seconds()
        self.tell(f"revision {progress.release.revision} is {progress.release.state}" + (f": {where}" if where else ""))
        head = (
            f"### ✅ {self._inputs.app}: revision {progress.release.revision} is {progress.release.state}\n\n"
            f"Rolled out in {progress.rollout_seconds:.1f} s ({seconds:.1f} s in all)"
            + (f", reached at {where}" if where else "")
            + (f"; before it, revision {progress.previous.revision} served" if progress.previous else "")
            + f".\n\n{self._origin()}"
        )
        asked = f"\n\n{progress.asked.sentence()}\n\n{progress.asked.table()}" if progress.asked else ""
        canary = f"\n\n{_steps(progress)}" if progress.taken else ""
        pruned = "".join(f"\n- removed {one}" for one in progress.pruned)
        details = f"{head}\n\n{self._table(progress)}{canary}{asked}" + (f"\n{pruned}" if pruned else "")
        return self._result(status=progress.release.state, endpoint=where, details=details, objects=progress.applied,
                            progress=progress)  # fmt: skip

    def _waiting(self, progress: Progress, where: str) -> Result:
        """A canary that has taken its last step below 100 %."""
        release = progress.release
        assert release is not None
        served = f"revision {progress.previous.revision}" if progress.previous else "the version before"
        told = f"revision {release.revision} waits as a canary with {progress.share} % of the traffic; {served} has the rest"
        self.tell(told)
        app, number = self._inputs.app, release.revision
        details = (
            f"### ⏸️ {app}: {told}\n\nDecide with `action: promote` or `action: reject` (and `revision: {number}`); "
            f"other deployments of {app} stop until then.\n\n{self._origin()}\n\n{_steps(progress)}"
        )
        return self._result(status=WAITING, endpoint=where, details=details, objects=(), progress=progress)

    def settled(self, cluster: Cluster, progress: Progress, told: str) -> Result:
        """A decision on a canary that leaves nothing to wait for."""
        release = progress.release
        assert release is not None
        self.tell(told)
        where = self._where(cluster, release.objects)
        for words in progress.stays:
            self.tell(words)
        details = f"### {self._inputs.app}: {told}" + _listed(progress.stays)
        return self._result(status=release.state, endpoint=where, details=details, objects=(), progress=progress)

    def _where(self, cluster: Cluster, objects: Sequence[Object]) -> str:
        """The URL for users; empty where it cannot be found out any more, for all is done already."""
        try:
            with hurried(cluster):
                return endpoint.reached(cluster, objects, self._inputs.app)[1]
        except (ApiError, Forbidden, Unreachable) as error:
            self.tell(f"where it is reached cannot be asked: {error.message}")
            return ""

    def _origin(self) -> str:
        """What was deployed, in one line each."""
        job, inputs = self._adapters.job, self._inputs
        facts = [("image", image) for image in self.images]
        facts += [("model", inputs.model_digest), ("commit", job.commit)]
        return "  \n".join(f"{name} `{value}`" for name, value in facts if value)

    def _table(self, progress: Progress) -> str:
        rows = []
        for obj in progress.applied:
            title = f"{obj['kind']} {obj['metadata']['name']}"
            rows.append(f"| {obj['kind']} | {obj['metadata']['name']} | {progress.ready.get(title, 'applied')} |")
        return "| kind | name | state |\n|---|---|---|\n" + "\n".join(rows)

    def failed(self, error: MlDeployError | ApiError, progress: Progress) -> MlDeployError:
        """The error with what serves now, the outputs and the report."""
        if isinstance(error, ApiError):
            return self._with(ManifestError(f"The cluster refused: {error.message}"), progress)
        if isinstance(error, Cancelled):
            error.hint = error.hint or "Run it again to finish: nothing needs to be cleaned up."
        return self._with(error, progress)

    def _with(self, error: MlDeployError, progress: Progress) -> MlDeployError:
        if progress.release is None:
            error.result = self._result(status="failed", objects=(), error=error)
            return error
        said = serving(progress)
        if progress.problem:
            said = f"Then this went wrong, too: {progress.problem} {said}"
        error.message = f"{error.message.rstrip('. ')}. {said}"
        if progress.taken:
            error.details = f"{error.details}\n\n{_steps(progress)}".strip()
        error.details = (error.details + _listed(progress.stays)).strip()
        status = "rolled-back" if progress.rolled_back_to else "failed"
        error.result = self._result(status=status, progress=progress, objects=progress.applied, error=error)
        return error

    def _result(
        self, *, status: str, objects: Sequence[Object], progress: Progress | None = None, error: MlDeployError | None = None,
        endpoint: str = "", diff: str = "", details: str = "",
    ) -> Result:  # fmt: skip
        progress = progress or Progress()
        outputs: dict[str, Any] = {
            "revision": progress.release.revision if progress.release else None,
            "previous_revision": progress.previous.revision if progress.previous else None,
            "image": self.images[0] if self.images else "", "endpoint": endpoint, "status": status,
            "rolled_back": progress.rolled_back_to is not None, "diff": diff,
        }  # fmt: skip
        report = {
            **{name.replace("_", "-"): value for name, value in outputs.items()},
            "app": self._inputs.app, "images": list(self.images), "model-digest": self._inputs.model_digest,
            "objects": [_row(obj, progress) for obj in objects],
            "pruned": list(progress.pruned),
            "warnings": [w for one in self.checked for w in one.warnings],
            "canary": [_taken(one) for one in progress.taken],
            "predictions": progress.asked.as_json() if progress.asked else [],
            "rollout-seconds": round(progress.rollout_seconds, 3),
            "seconds": round(self._seconds(), 3),
            "error": {"reason": error.reason, "message": error.message, "hint": error.hint} if error else None,
        }  # fmt: skip
        return Result(**outputs, report=write_report(self._adapters, "deploy-aks", report), details=details)

    def _seconds(self) -> float:
        return self._adapters.clock.monotonic() - self._started


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_DIFF else text[:_LONGEST_DIFF] + "\n(cut here: too long)"


def _row(obj: Object, progress: Progress) -> dict[str, str]:
    meta = obj["metadata"]
    title = f"{obj['kind']} {meta['name']}"
    return {"kind": obj["kind"], "name": meta["name"], "namespace": str(meta.get("namespace") or ""),
            "state": progress.ready.get(title, "")}  # fmt: skip


def _listed(lines: Sequence[str]) -> str:
    return "\n" + "".join(f"\n- {escape_cell(line)}" for line in lines) if lines else ""


def _steps(progress: Progress) -> str:
    rows = [
        f"| {one.share} % | {one.pods} | {escape_cell('; '.join(one.found)) or 'stayed ready'} |"
        for one in progress.taken
    ]
    return "| canary's traffic | pods | found |\n|---:|---:|---|\n" + "\n".join(rows)


def _taken(one: Taken) -> dict[str, Any]:
    compared = one.compared.as_json() if one.compared else None
    return {"share": one.share, "pods": one.pods, "found": list(one.found), "compared": compared}


def _live(cluster: Cluster, one: Checked) -> Object | None:
    """What it is compared with: of a colour that is made beside another, the other one."""
    obj = one.manifest.object
    return leftovers.beside(cluster, obj) or cluster.get(ref_of(obj, cluster.namespace))
