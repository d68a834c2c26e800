"""smoke-test: golden predictions and a short load against an endpoint, judged by limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ml_deploy.checks import chart, limits
from ml_deploy.checks.cases import escape_cell, load
from ml_deploy.checks.compare import cut
from ml_deploy.checks.http import Ask, Request
from ml_deploy.checks.load import Plan
from ml_deploy.checks.ready import GRACE
from ml_deploy.checks.smoke import Demands, RunLoad, Seen, smoke
from ml_deploy.checks.statistics import SHARES, needed
from ml_deploy.checks.through import DEFAULT_PORT, Inside, ask_service, inside_of
from ml_deploy.commands.common import ClusterInputs, CommandResult, cluster_contradictions, write_report
from ml_deploy.commands.endpoint import EndpointInputs, endpoint_contradictions
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import EndpointDown, MlDeployError, NoRelease, TimedOut, TooSlow, WrongAnswers
from ml_deploy.releases.cluster import ApiError, Cluster
from ml_deploy.releases.records import Records
from ml_deploy.runtime import fields
from ml_deploy.runtime.fields import integer, number, output, parse_duration, text

TITLE = "Test an endpoint with golden predictions and load"
DESCRIPTION = (
    "Sends golden predictions and a short load to an endpoint, and judges answers, latency, errors and throughput."
)
ICON = "activity"

_RATE = 10.0
_SECONDS = 10.0
_MOST_AT_ONCE = 500
#: Inputs that ask for a load (none has a default, so that being given means something).
_LOAD = ("rate", "duration", "max-p50", "max-p95", "max-p99", "max-error-rate", "min-throughput")


@dataclass(frozen=True, kw_only=True)
class _Checks(EndpointInputs):
    service: str = text(
        "Name of a Service inside the cluster, instead of `url`: it is asked through the API server, "
        "which shows answers and not latency."
    )
    port: str = text(
        "Port of the `service`: its number, its name, or the container's port that it leads to. "
        "A Service's only port is found by the default, too.",
        default=DEFAULT_PORT,
    )
    cases: str = text("File of golden predictions (JSONL): requests with the answers that they must get.")
    ready_timeout: float = fields.duration("How long to wait until the endpoint serves.", default="2m")
    rate: float | None = number("Requests a second under load. Default: 10, when there is a limit to judge.")
    duration: float | None = fields.duration(
        "How long the load lasts. Default: 10s, or longer if a limited percentile needs more."
    )
    warmup: int = integer("Requests at the start of the load that are not counted.", default="10")
    concurrency: int = integer(
        "How many requests may be under way at once, up to 500; one more is dropped and counts as failed.",
        default="50", minimum=1,
    )  # fmt: skip
    max_p50: float | None = fields.duration("Limit of the median latency, such as 100ms.")
    max_p95: float | None = fields.duration("Limit of the 95th percentile of the latency.")
    max_p99: float | None = fields.duration("Limit of the 99th percentile of the latency.")
    max_error_rate: float | None = number("Share of requests under load that may fail, 0 to 1. Default: 0.")
    min_throughput: float | None = number("Requests a second that must be answered rightly; less than `rate`.")


@dataclass(frozen=True, kw_only=True)
class Inputs(ClusterInputs, _Checks):
    """What smoke-test takes."""

    app: str = text("App whose release gets the verdict, together with `revision`.")
    revision: int | None = integer("Revision that the verdict is recorded for.", minimum=0)

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        """What does not go together."""
        if "url" not in given and "service" not in given:
            yield "`url` is missing: give it, or `service` and `port` for a Service that has no address outside"
        if "service" in given:
            yield from _service_contradictions(given)
        if "revision" in given and "app" not in given:
            yield "`app` is missing: `revision` needs it"
        yield from endpoint_contradictions(given)
        yield from _load_contradictions(given)
        yield from cluster_contradictions(given)

    @property
    def loaded(self) -> bool:
        """Whether a load is asked for."""
        return any(getattr(self, name.replace("-", "_")) is not None for name in _LOAD)


def _service_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    if "url" in given:
        yield "`url` and `service` name two endpoints: give one of them"
    load = [f"`{name}`" for name in _LOAD if name in given]
    if load:
        yield (
            f"{', '.join(load)} cannot be judged through `service`: the latency would be that of the API server's tunnel. "
            "Give a `url`, or leave the limits out"
        )
    if "ca" in given:
        yield "`ca` is for `url`: a `service` is asked through the API server"
    if any(line.strip().lower().startswith("authorization:") for line in given.get("headers", "").splitlines()):
        yield "`headers` has an Authorization header, which the API server does not pass on to a `service`"


def _load_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    rate, least, share = (_float(given.get(name, "")) for name in ("rate", "min-throughput", "max-error-rate"))
    if rate == 0:
        yield "`rate` must be more than 0"
    if least is not None and least >= (rate or _RATE):
        yield f"`min-throughput` must be less than `rate` (it is {least:g}, and {rate or _RATE:g} requests a second are sent)"
    if share is not None and share > 1:
        yield f"`max-error-rate` must be a share between 0 and 1 (1% is 0.01; it is {share:g})"
    if (_float(given.get("concurrency", "")) or 0) > _MOST_AT_ONCE:
        yield f"`concurrency` must be {_MOST_AT_ONCE} or less"
    lasting, timeout = _seconds(given.get("duration", "")), _seconds(given.get("timeout", "10m"))
    if lasting == 0:
        yield "`duration` must be more than 0s"
    if lasting and timeout and lasting > timeout:
        yield "`duration` must be less than `timeout`"


def _float(raw: str) -> float | None:
    try:
        return float(raw)
    except ValueError:
        return None  # said elsewhere


def _seconds(raw: str) -> float | None:
    try:
        return parse_duration(raw)
    except ValueError:
        return None  # said elsewhere


@dataclass(frozen=True, kw_only=True)
class Result(CommandResult):
    """What smoke-test found."""

    healthy: bool = output("Whether everything that was asked for is as it should be.", default=False)
    passed: int = output("How many golden predictions were answered as expected.", default=0)
    failed: int = output("How many golden predictions were not.", default=0)
    p50: str = output("Median latency under load, in milliseconds; empty without a load.")
    p95: str = output("95th percentile of the latency under load, in milliseconds.")
    p99: str = output("99th percentile of the latency under load, in milliseconds.")
    error_rate: str = output("Share of requests under load that failed or could not be sent, 0 to 1.")
    throughput: str = output("Requests a second that were answered rightly under load.")
    target: str = ""
    details: str = field(default="", repr=False)

    def summary(self) -> str:
        """Markdown for the job summary."""
        return f"### ✅ Smoke test: `{self.target}` is healthy\n\n{self.details}"


def run(inputs: Inputs, adapters: Adapters) -> Result:
    """Test the endpoint. Raises EndpointDown, WrongAnswers, TooSlow, TimedOut, or what the cluster's adapter raises."""
    demands = _demands(inputs)
    headers = inputs.parsed_headers(adapters)
    inside = _inside(inputs)
    adapters.console.line(f"Smoke test of {_target(inputs)}{', through the API server' if inside else ''}")
    endpoint = None if inside else adapters.endpoint(inputs.endpoint_access(adapters))
    try:
        cluster = adapters.cluster(inputs.access()) if inside or inputs.revision is not None else None
        release = _Release(inputs, adapters, cluster) if cluster and inputs.revision is not None else None
        if cluster and inside:
            ask = ask_service(cluster, inside, headers=headers, seconds=inputs.request_timeout)
            return _tested(inputs, adapters, demands, ask, None, release)
        assert endpoint
        return _tested(inputs, adapters, demands, endpoint.ask, endpoint.load, release)
    finally:
        if endpoint:
            endpoint.close()


def _target(inputs: Inputs) -> str:
    return inputs.url or f"service {inputs.service}"


def _tested(
    inputs: Inputs, adapters: Adapters, demands: Demands, ask: Ask, run_load: RunLoad | None, release: _Release | None
) -> Result:
    seen, target = Seen(), _target(inputs)
    try:
        smoke(demands, ask, run_load, adapters.clock, adapters.console.line, seen)
    except (EndpointDown, WrongAnswers, TooSlow, TimedOut) as error:
        if (inputs.url or f"services/{inputs.service}:") not in error.message:
            error.message = f"{target}: {error.message}"
        error.result = _result(adapters, target, demands, seen, error)
        error.details = "\n\n".join(part for part in (error.details, _details(demands, seen)) if part)
        if release and not isinstance(error, TimedOut):
            release.failed(error)
        raise
    adapters.console.line("Healthy.")
    if not demands.cases:
        adapters.console.notice(_NO_CASES if demands.plan else _NOTHING)
    if release:
        release.passed(seen)
    return _result(adapters, target, demands, seen, None)


class _Release:
    """The record of the release that is tested. Raises NoRelease at once when there is none."""

    def __init__(self, inputs: Inputs, adapters: Adapters, cluster: Cluster) -> None:
        self._console, self._revision = adapters.console, inputs.revision or 0
        self._records = Records(cluster, inputs.namespace or cluster.namespace, inputs.app, clock=adapters.clock)
        if self._records.find(self._revision) is None:
            raise NoRelease(
                f"There is no record of revision {self._revision} of {inputs.app} in namespace {self._records.namespace}.",
                hint="`app`, `revision` and `namespace` must be those of deploy-aks.",
            )

    def passed(self, seen: Seen) -> None:
        """Make it a good one, if predictions were asked: whether a model is good is for its predictions to say."""
        if not seen.report:
            self._console.warning(
                f"Revision {self._revision} is not recorded as good: no golden predictions were asked. Give `cases`.",
                title="No verdict",
            )
            return
        self._judge(True, f"{seen.report.sentence()}" + ("; limits kept" if seen.figures else ""))

    def failed(self, error: MlDeployError) -> None:
        """Make it a failed one. Trouble in writing that does not hide why the test failed."""
        try:
            self._judge(False, error.message)
        except (MlDeployError, ApiError) as trouble:
            self._console.warning(f"The verdict could not be recorded: {trouble}", title="No verdict")

    def _judge(self, good: bool, text: str) -> None:
        release = self._records.judge(self._revision, by="smoke-test", good=good, text=self._console.redact(text))
        self._console.line(f"Recorded: revision {release.revision} of {release.app} is {release.state}.")


def _inside(inputs: Inputs) -> Inside | None:
    """The Service to ask through the API server; None when the endpoint is asked by its address.

    deploy-aks gives a Service without an address outside by its name inside the cluster. It is asked through the API
    server too, where that suffices: no load is wanted, and the cluster is named.
    """
    if inputs.service:
        return Inside(inputs.namespace, inputs.service, inputs.port)
    named = inputs.kubeconfig or inputs.cluster_name or inputs.revision is not None
    return inside_of(inputs.url) if named and not inputs.loaded else None


def _demands(inputs: Inputs) -> Demands:
    path = inputs.url_path or ("/predict" if inputs.cases else "/")
    cases = tuple(load(Path(inputs.cases), path=path)) if inputs.cases else ()
    return Demands(
        cases=cases,
        probe=cases[0].request if cases else Request("GET", path),
        plan=_plan(inputs) if inputs.loaded else None,
        limits=limits.Limits(
            inputs.max_p50, inputs.max_p95, inputs.max_p99, inputs.max_error_rate or 0.0, inputs.min_throughput
        ),
        # a name that only the cluster knows will not be known here later either
        ready_seconds=min(inputs.ready_timeout, GRACE) if inside_of(inputs.url) else inputs.ready_timeout,
        seconds=inputs.timeout,
    )


def _plan(inputs: Inputs) -> Plan:
    rate = inputs.rate or _RATE
    limited = [share for name, share in SHARES.items() if getattr(inputs, f"max_{name}") is not None]
    count = round(rate * (inputs.duration or _SECONDS))
    if inputs.duration is None:
        count = max(count, *(needed(share) for share in limited), 1)
    return Plan(rate, max(1, count), inputs.warmup, inputs.concurrency)


def _result(adapters: Adapters, target: str, demands: Demands, seen: Seen, error: MlDeployError | None) -> Result:
    report = write_report(adapters, "smoke-test", {
        "target": target, "healthy": error is None, "reason": error.reason if error else "",
        "message": error.message if error else "", **seen.as_json(),
    })  # fmt: skip
    found = Result(
        report=report,
        healthy=error is None,
        passed=seen.report.passed if seen.report else 0,
        failed=seen.report.failed if seen.report else 0,
        target=target,
        details=_details(demands, seen),
    )
    figures = seen.figures
    if figures is None:
        return found
    return replace(
        found,
        p50=_milliseconds(figures.p50),
        p95=_milliseconds(figures.p95),
        p99=_milliseconds(figures.p99),
        error_rate=f"{figures.error_rate:.6g}",
        throughput=f"{figures.throughput:.4g}",
    )


def _details(demands: Demands, seen: Seen) -> str:
    """What was found, as Markdown."""
    parts = []
    if seen.figures:
        parts += [limits.table(seen.verdicts), _chart(demands, seen)]
    for outcome, times in seen.wrong[:5]:
        parts.append(f"Under load {times} × {escape_cell(outcome.case.name)}: {escape_cell(cut(outcome.text(), 300))}")
    if seen.report:
        title = f"{seen.report.passed} of {len(demands.cases)} golden predictions answered as expected"
        opened = " open" if seen.report.failed else ""
        parts.append(f"<details{opened}><summary>{title}</summary>\n\n{seen.report.table()}\n\n</details>")
    if not demands.cases:
        parts.append(_NOTHING if not demands.plan else _NO_CASES)
    return "\n\n".join(part for part in parts if part)


_NO_CASES = "No golden predictions were asked: give `cases` to check the answers too (`record-cases` writes them)."
_NOTHING = "Only a GET was sent, and its answer was not judged: give `cases` (`record-cases` writes them) or limits such as `max-p95`."


def _chart(demands: Demands, seen: Seen) -> str:
    if not seen.figures or not seen.figures.times:
        return ""
    marks = {name: getattr(seen.figures, name) for name in SHARES}
    wanted = {f"max-{name}": getattr(demands.limits, f"max_{name}") for name in SHARES}
    marks |= {name: value for name, value in wanted.items() if value is not None and value <= seen.figures.times[-1]}
    return f"```text\n{chart.latencies(seen.figures.times, marks)}\n```"


def _milliseconds(seconds: float) -> str:
    return "" if math.isinf(seconds) else f"{seconds * 1000:.3f}".rstrip("0").rstrip(".")
