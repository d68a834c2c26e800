"""Asking a new version before a user reaches it.

One pod of the new template is started beside the old version. Its labels are ours alone, so that no Service,
PodDisruptionBudget, autoscaler or replica set selects it. It is asked the golden predictions through the API server's
pod proxy and removed on every way out; what a killed run left behind is removed by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ml_deploy.checks import http
from ml_deploy.checks.cases import Case, Report, judge
from ml_deploy.checks.through import through_cluster
from ml_deploy.errors import AuthFailed, EndpointDown, Forbidden, InputError, MlDeployError, Unreachable, WrongAnswers
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref, hurried
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.record_secrets import APP, REVISION
from ml_deploy.releases.selectors import selects
from ml_deploy.releases.sources.manifests import lone_spec

ROLE = "ml-deploy/role"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
#: Labels that select no pod but tell admission what to put into one: a token of Entra's, a proxy.
_FOR_ADMISSION = ("azure.workload.identity/use", "sidecar.istio.io/inject", "istio.io/rev")
_FIRST_ANSWER = 30.0  # seconds after ready in which a server may still refuse connections
_PAUSE = 0.5

#: Waits until an object is ready, for at most so many seconds. Raises RolloutFailed, which says why it is not.
Wait = Callable[[Object, float], None]


class Clock(Protocol):
    """The part of a clock that is needed here."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True)
class Target:
    """What is asked: a workload of the release, and the container's port that its Service leads to."""

    workload: Object
    port: int


def target(objects: Sequence[Object], *, images: Iterable[str] = ()) -> Target:
    """The workload that answers predictions: one with a Service and, if several have one, with the deployed image.

    Raises InputError when there is none, or more than one.
    """
    found = [Target(w, p) for w in objects if w.get("kind") in WORKLOADS if (p := _port(w, objects))]
    served = [t for t in found if _service(t.workload, objects)] or found
    if len(served) > 1:
        wanted = set(images)
        served = [t for t in served if wanted & {c.get("image") for c in _containers(t.workload)}] or served
    if len(served) == 1:
        return served[0]
    names = ", ".join(str(ref_of(t.workload)) for t in served)
    raise InputError(
        f"`cases` cannot be asked: {len(served)} workloads could answer ({names})." if served else
        "`cases` cannot be asked: no Deployment, StatefulSet or DaemonSet of this release has a port.",
        hint="Deploy them separately, or leave `cases` out." if served else
        "Add `containerPort` to the container that serves predictions, or a Service that leads to it.",
    )  # fmt: skip


def ask_before_traffic(
    cluster: Cluster, target: Target, cases: Sequence[Case], *, app: str, revision: int, wait: Wait, clock: Clock,
    seconds: float, tell: Callable[[str], None],
) -> Report:  # fmt: skip
    """Start one pod of the new template outside all traffic, ask it `cases`, remove it.

    seconds: the deadline for all of it. Raises RolloutFailed (it does not start), EndpointDown (it does not answer)
    or WrongAnswers.
    """
    pod = pod_of(target.workload, app=app, revision=revision, namespace=cluster.namespace, seconds=seconds)
    until = clock.monotonic() + seconds
    remove_leftovers(cluster, app, pod["metadata"]["namespace"])
    tell(f"before traffic: starting one pod of the new version beside the old one ({pod['metadata']['name']})")
    try:
        started = _start(cluster, pod, clock, until)
        wait(started, until - clock.monotonic())
        report = judge(cases, first_patiently(asker(cluster, pod, target.port), clock, until))
    finally:
        _remove(cluster, pod)
    if report.failures:
        raise wrong(report, f"The new version of {app}", "No user has reached it: the old version serves as before.")
    tell(f"before traffic: {report.sentence()}")
    return report


def wrong(report: Report, who: str, serving: str) -> MlDeployError:
    """The error for failed golden predictions."""
    kind: type[MlDeployError] = EndpointDown if report.down else WrongAnswers
    return kind(
        f"{who} fails its golden predictions: {report.sentence()}",
        hint=f"{serving} Compare the model file and the library versions with those that `cases` were recorded with.",
        details=report.table(),
    )


def pod_of(workload: Object, *, app: str, revision: int, namespace: str, seconds: float = 600) -> Object:
    """One pod of a workload's template, with labels that no Service goes by; it dies by itself after `seconds`."""
    meta, spec = workload["spec"]["template"].get("metadata") or {}, lone_spec(workload)
    spec.setdefault("activeDeadlineSeconds", int(seconds) + 60)
    spec["terminationGracePeriodSeconds"] = 1  # nobody waits for its last answer
    for container in spec.get("containers") or []:
        (container.get("lifecycle") or {}).pop("preStop", None)
    kept = {name: value for name, value in (meta.get("labels") or {}).items() if name in _FOR_ADMISSION}
    labels = {
        **kept,
        APP: app,
        REVISION: str(revision),
        ROLE: "before-traffic",
        "app.kubernetes.io/managed-by": "ml-deploy",
    }
    metadata: dict[str, Any] = {
        "name": f"{app}-r{revision}-before-traffic",
        "namespace": (workload.get("metadata") or {}).get("namespace") or namespace,
        "labels": labels,
    }
    if meta.get("annotations"):
        metadata["annotations"] = dict(meta["annotations"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def remove_leftovers(cluster: Cluster, app: str, namespace: str) -> None:
    """Remove pods that a killed run left. Call with the lock held."""
    for pod in cluster.list("v1", "Pod", namespace, selector=f"{APP}={app},{ROLE}=before-traffic"):
        _remove(cluster, pod)


def asker(cluster: Cluster, pod: Object, port: int) -> http.Ask:
    """Asks one pod through the API server; raises EndpointDown when the pod does not answer."""
    meta = pod["metadata"]
    return through_cluster(cluster, meta["namespace"], f"pods/{meta['name']}:{port}")


def first_patiently(ask: http.Ask, clock: Clock, until: float) -> http.Ask:
    """Until it has answered once, a server that is not up yet is asked again (a pod without probes is ready at once).

    After `until`, on the clock's monotonic time, nothing is asked: of a hundred cases each may take its full time.
    """
    answered = False
    limit = min(until, clock.monotonic() + _FIRST_ANSWER)

    def patient(request: http.Request) -> http.Answer:
        nonlocal answered
        if clock.monotonic() >= until:
            raise EndpointDown("not asked any more, for the deadline has passed")
        while True:
            try:
                answer = ask(request)
                answered = True
                return answer
            except EndpointDown:
                if answered or clock.monotonic() + _PAUSE > limit:
                    raise
                clock.sleep(_PAUSE)

    return patient


def _start(cluster: Cluster, pod: Object, clock: Clock, until: float) -> Object:
    """Create the pod; one of the same name that is on its way out is waited for."""
    while True:
        try:
            return cluster.create(pod).object
        except ApiError as error:
            if error.code != 409 or clock.monotonic() + _PAUSE > until:
                raise
        clock.sleep(_PAUSE)


def _remove(cluster: Cluster, pod: Object) -> None:
    try:
        with hurried(cluster):
            cluster.delete(Ref("v1", "Pod", pod["metadata"]["namespace"], pod["metadata"]["name"]))
    except (ApiError, AuthFailed, Forbidden, Unreachable):
        pass  # it dies by activeDeadlineSeconds, and the next run removes it (a cancel is not swallowed)


def _labels(workload: Object) -> dict[str, str]:
    return (workload["spec"]["template"].get("metadata") or {}).get("labels") or {}


def _containers(workload: Object) -> list[Object]:
    return list(workload["spec"]["template"]["spec"].get("containers") or [])


def _service(workload: Object, objects: Sequence[Object]) -> Object | None:
    """The Service of the release that leads to this workload."""
    for obj in objects:
        if obj.get("kind") == "Service" and selects((obj.get("spec") or {}).get("selector"), _labels(workload)):
            return obj
    return None


def _port(workload: Object, objects: Sequence[Object]) -> int:
    """The container's port that its Service leads to, else the port called http, else the first; 0 without any."""
    ports = [port for container in _containers(workload) for port in container.get("ports") or []]
    named = {port["name"]: int(port["containerPort"]) for port in ports if port.get("name")}
    service = _service(workload, objects)
    if service and service["spec"].get("ports"):
        first = service["spec"]["ports"][0]
        wanted = first.get("targetPort", first["port"])
        return named.get(wanted, 0) if isinstance(wanted, str) else int(wanted)
    return named.get("http") or (int(ports[0]["containerPort"]) if ports else 0)
