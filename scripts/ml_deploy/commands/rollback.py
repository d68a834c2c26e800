"""rollback: the last good release, or a named one, back as a whole, and verified to serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ml_deploy.checks import cases as golden
from ml_deploy.checks.through import through_cluster
from ml_deploy.commands import image_checks
from ml_deploy.commands.common import ClusterInputs, CommandResult, cluster_contradictions, write_report
from ml_deploy.commands.one_at_a_time import alone, on_conflict
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import Cancelled, EndpointDown, Forbidden, ManifestError, MlDeployError, NoRelease
from ml_deploy.releases import endpoint, pod_images, restore, wait
from ml_deploy.releases.before_traffic import first_patiently, wrong
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.history import DEPLOYING, FAILED, Release, current_of
from ml_deploy.releases.records import Records
from ml_deploy.releases.rejection import reject
from ml_deploy.releases.stage import Plan, Progress, Stage
from ml_deploy.releases.strategies import canary_records, canary_trial
from ml_deploy.runtime.fields import integer, output, text

TITLE = "Roll back"
DESCRIPTION = "Restores the last good release of an app, or a named one, as a whole, and verifies that it serves."
ICON = "rotate-ccw"

ROLLED_BACK, NOT_CURRENT, NOT_RESTORED, OUT_OF_TRAFFIC = "rolled-back", "not-current", "failed", "out-of-traffic"
_LAG = 2.0  # seconds in which a Service may still lead to a pod that is on its way out


@dataclass(frozen=True, kw_only=True)
class Inputs(ClusterInputs):
    """What to go back to."""

    app: str = text("Name of the app, as given to deploy-aks.", required=True)
    to_revision: int | None = integer("Revision to restore. Default: the newest older one that was judged good.")
    from_revision: int | None = integer(
        "Revision to undo. When another one is current by now, nothing is done and the step succeeds."
    )
    cases: str = text("Golden predictions (a JSONL file) that the restored release must answer, asked in the cluster.")
    why: str = text("Why, in a sentence; kept in the release's record.")
    on_conflict: str = on_conflict()

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """The cluster's, and a way from a revision to itself."""
        yield from cluster_contradictions(given)
        if "to-revision" in given and given.get("to-revision") == given.get("from-revision"):
            yield "`to-revision` and `from-revision` are the same revision"


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What is serving now."""

    revision: int | None = output("The revision that is current now.", default=None)
    from_revision: int | None = output("The revision that was current before.", default=None)
    image: str = output("The image of the revision that is current now.")
    status: str = output(
        "`rolled-back`; `not-current` (nothing was done: `from-revision` is not the current one); "
        "`out-of-traffic` (a failed release has no good one before it); `failed`."
    )
    endpoint: str = output("URL of the app's Service.")
    app: str = ""
    notes: tuple[str, ...] = ()
    cases: golden.Report | None = field(default=None, repr=False)

    def summary(self) -> str:
        """What happened, what serves, what was removed and what was left."""
        rows = [("app", self.app), ("serving", f"revision {self.revision}"), ("image", f"`{self.image}`" if self.image else ""),
                ("before", f"revision {self.from_revision}" if self.from_revision is not None else ""),
                ("endpoint", self.endpoint)]  # fmt: skip
        table = "\n".join(
            f"| {name} | {golden.escape_cell(value) if name == 'app' else value} |" for name, value in rows if value
        )
        title = {ROLLED_BACK: "⏪ Rolled back", NOT_CURRENT: "Nothing to roll back"}.get(self.status, "Rollback")
        notes = "\n".join(f"- {golden.escape_cell(note)}" for note in self.notes)
        asked = self.cases.table() if self.cases else ""
        return "\n\n".join(part for part in (f"### {title}", f"| | |\n|---|---|\n{table}", notes, asked) if part)


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Choose, restore, wait, ask. Raises NoRelease, Conflict, RolloutFailed, WrongAnswers and the cluster's errors."""
    asked = golden.load(Path(inputs.cases)) if inputs.cases else []
    cluster = adapters.cluster(inputs.access())
    cluster.patience = inputs.timeout
    adapters.console.line(f"rollback of {inputs.app} in namespace {cluster.namespace} at {cluster.server}")
    rollback = _Rollback(inputs, adapters, cluster, asked)
    try:
        return rollback.run()
    except ApiError as error:
        raise ManifestError(f"The cluster refused: {error.message}", result=rollback.result()) from error
    except Cancelled as error:
        error.hint = error.hint or rollback.halfway()
        error.result = error.result or rollback.result()
        raise
    except MlDeployError as error:
        error.result = error.result or rollback.result()
        raise


class _Rollback:
    """One run of the command, and how far it came."""

    def __init__(self, inputs: Inputs, adapters: Adapters, cluster: Cluster, asked: Sequence[golden.Case]) -> None:
        self._inputs, self._adapters, self._cluster, self._asked = inputs, adapters, cluster, asked
        self._started = adapters.clock.monotonic()
        self._until = adapters.clock.monotonic() + inputs.timeout
        self._records = Records(cluster, cluster.namespace, inputs.app, clock=adapters.clock)
        self._current: Release | None = None
        self._result = Result(app=inputs.app, status=NOT_RESTORED)

    def run(self) -> Result:
        """Under the lock, unless there is nothing to do."""
        history = self._records.all()
        if not self._see(history):
            raise self._unknown()
        if self._is_elsewhere(history):
            return self._nothing_to_do()
        with alone(self._inputs, self._adapters, self._cluster, self._tell, patience=self._left() / 2):
            history = self._records.all()
            self._see(history)
            if self._is_elsewhere(history):
                return self._nothing_to_do()
            if canary_records.any_of(history) and self._without_canary(history):
                return self._after(self._current)
            return self._restore(self._records.all())

    def _tell(self, words: str) -> None:
        self._adapters.console.line(f"{self._adapters.clock.monotonic() - self._started:6.1f} s  {words}")

    def result(self) -> Result:
        """What is known by now."""
        return replace(self._result, report=self._report())

    def halfway(self) -> str:
        """What a cancelled rollback leaves."""
        current = f"Revision {self._current.revision} is still recorded as the current one. " if self._current else ""
        return f"{current}Run rollback again: it goes on where this one stopped."

    def _see(self, history: Sequence[Release]) -> bool:
        self._current = current_of(history)
        if self._current:
            self._result = replace(self._result, from_revision=self._current.revision,
                                   revision=self._current.revision, image=self._current.image)  # fmt: skip
        return self._current is not None

    def _is_elsewhere(self, history: Sequence[Release]) -> bool:
        """Whether `from-revision` neither serves nor is a canary."""
        told, waiting = self._inputs.from_revision, canary_records.undecided(history)
        known = [one.revision for one in (self._current, waiting) if one]
        return told is not None and bool(known) and told not in known

    def _without_canary(self, history: Sequence[Release]) -> bool:
        """Take away the canary that waits, or that an ended run left; whether that was all that there was to do."""
        waiting, clock = canary_records.undecided(history), self._adapters.clock
        plan, progress = Plan(app=self._inputs.app, objects=()), Progress(release=waiting)
        stage = Stage(self._cluster, plan, clock, self._until, self._tell, progress, self._records)
        if waiting is None or waiting.activated:
            canary_trial.clean(stage)
            return False
        reject(stage, why=self._inputs.why or "rolled back")
        assert self._current
        told = f"revision {waiting.revision} was a canary: it is rejected"
        self._tell(told)
        self._result = replace(self._result, from_revision=waiting.revision, notes=(told,))
        to = self._inputs.to_revision
        return to in (None, self._current.revision) and self._inputs.from_revision in (None, waiting.revision)

    def _nothing_to_do(self) -> Result:
        assert self._current
        words = (f"nothing to do: revision {self._inputs.from_revision} is not the current one"
                 f" (revision {self._current.revision} is)")  # fmt: skip
        self._adapters.console.notice(words, title="Nothing to roll back")
        self._result = replace(self._result, status=NOT_CURRENT, notes=(words,))
        return self.result()

    def _restore(self, history: Sequence[Release]) -> Result:
        assert self._current
        target = self._records.load(self._target(history))
        gone = image_checks.missing(self._inputs, self._adapters)
        pod_images.check_retained(self._cluster, target, history, gone)
        self._tell(f"restoring {target.row()}")
        done = restore.restore(
            self._cluster, self._records, target, self._current, tell=self._tell, why=self._inputs.why,
            wait=wait.Until(self._cluster, self._until, clock=self._adapters.clock, tell=self._tell),
        )  # fmt: skip
        removed = tuple(f"removed: {one}" for one in done.removed)
        self._result = replace(self._result, revision=done.release.revision, image=done.release.image,
                               notes=(*self._result.notes, *removed, *done.kept))  # fmt: skip
        return self._after(done.release)

    def _after(self, serving: Release | None) -> Result:
        """Where it is reached, and what it answers."""
        assert serving
        objects = serving.objects or self._records.load(serving).objects
        service, where = endpoint.reached(self._cluster, objects, self._inputs.app)
        self._result = replace(self._result, endpoint=where)
        self._ask(serving, service)
        self._result = replace(self._result, status=ROLLED_BACK)
        self._tell(f"revision {serving.revision} serves again")
        return self.result()

    def _target(self, history: Sequence[Release]) -> Release:
        assert self._current
        if self._inputs.to_revision is not None:
            named = restore.named(history, self._inputs.to_revision)
            if named.state in (FAILED, DEPLOYING):
                self._adapters.console.warning(f"You named {named.row()}: it was never seen to serve well.")
            return named
        try:
            target = restore.choose(history, self._current)
        except NoRelease as error:
            if self._current.state == FAILED:
                raise self._out_of_traffic(self._current, error) from error
            raise
        if not target.good:
            self._adapters.console.warning(
                f"No older release was ever judged good; revision {target.revision} was healthy when it was replaced.",
                title="Unjudged release",
            )
        return target

    def _out_of_traffic(self, failed: Release, nothing: NoRelease) -> NoRelease:
        services = restore.take_out_of_traffic(self._cluster, self._records, failed, tell=self._tell)
        self._result = replace(self._result, status=OUT_OF_TRAFFIC)
        names = ", ".join(f"Service {name}" for name in services)
        did = (
            f"It was taken out of traffic: {names} leads nowhere now." if services else "It has no Service of its own."
        )
        return NoRelease(
            f"Revision {failed.revision} of {failed.app} failed, and there is no good release before it. {did}",
            hint="Its pods are left for you to look at. The next deployment puts the app back into traffic.",
            details=nothing.details,
        )

    def _left(self) -> float:
        return self._until - self._adapters.clock.monotonic()

    def _ask(self, release: Release, service: Object | None) -> None:
        """Ask the golden predictions through the Service; a wrong answer is asked once more, for Services lag."""
        if not self._asked:
            return
        if service is None:
            raise EndpointDown(
                f"Revision {release.revision} has no Service to ask `cases` through.",
                hint="It is restored and ready; leave `cases` out for an app without a Service.",
            )
        clock, meta = self._adapters.clock, service["metadata"]
        where = f"services/{meta['name']}:{service['spec']['ports'][0]['port']}"
        ask = first_patiently(through_cluster(self._cluster, meta["namespace"], where), clock, self._until)
        report = golden.judge(self._asked, ask)
        if report.failures:
            clock.sleep(_LAG)
            report = golden.judge(self._asked, ask)
        self._result = replace(self._result, cases=report)
        self._tell(report.sentence())
        self._records.judge(release.revision, by="rollback", good=not report.failures, text=report.sentence())
        if report.failures:
            raise wrong(report, f"Revision {release.revision}, restored,", "It is what serves now.")

    def _unknown(self) -> NoRelease:
        where = self._cluster.namespace
        if not self._namespace_exists():
            return NoRelease(f"The namespace {where} does not exist in the cluster.", hint="Correct `namespace`.")
        apps = self._records.apps()
        known = f"Apps with releases there: {', '.join(apps)}." if apps else "No app has any there."
        return NoRelease(
            f"There is no release of {self._inputs.app} in namespace {where} that ever went live.",
            hint=f"{known} Check `app` and `namespace`; releases are what deploy-aks recorded.",
        )

    def _namespace_exists(self) -> bool:
        try:
            return self._cluster.get(Ref("v1", "Namespace", "", self._cluster.namespace)) is not None
        except (ApiError, Forbidden):
            return True  # we may not see namespaces

    def _report(self) -> str:
        result = self._result
        data: dict[str, Any] = {
            "app": result.app, "namespace": self._cluster.namespace, "status": result.status, "revision": result.revision,
            "from-revision": result.from_revision, "image": result.image, "endpoint": result.endpoint,
            "why": self._inputs.why, "notes": list(result.notes),
            "cases": result.cases.as_json() if result.cases else [],
        }  # fmt: skip
        return write_report(self._adapters, "rollback", data)
