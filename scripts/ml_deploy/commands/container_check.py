"""Starts a container of an image as a cluster would, waits until it is ready, and asks it golden predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ml_deploy.checks import cases as golden
from ml_deploy.checks.http import Ask, EndpointAccess, Request
from ml_deploy.commands.ports import Adapters
from ml_deploy.errors import EndpointDown, InputError, WrongAnswers
from ml_deploy.images.engine import Container, ImageInfo, RunRequest

_POLL = 0.1  # seconds
_STOP = 5.0  # seconds that a container without requests gets to end
_LOG_LINES = 20
_NOT_YET = (502, 503, 504)  # what a server says that is still loading; 404 and 501 come from one that is up


@dataclass(frozen=True, kw_only=True)
class Check:
    """What to start (an image's ID, and its name for people) and what to ask. Without `health_path` any answer
    counts as ready that does not say "later"."""

    image: str
    name: str
    port: int
    health_path: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_only: bool = True
    root: bool = False
    seconds: float = 60.0
    cases: Sequence[golden.Case] = ()


@dataclass(frozen=True)
class Checked:
    """How it went. Seconds from start to ready, and from SIGTERM to the end."""

    ready: float
    stop: float
    report: golden.Report | None

    @property
    def stubborn(self) -> bool:
        """Whether SIGTERM did not end it in time."""
        return self.stop >= _STOP


def port_of(image: ImageInfo, given: int | None, name: str) -> int:
    """The port to ask. Raises InputError when neither the input nor the image tells."""
    if given:
        return given
    if len(image.ports) == 1:
        return image.ports[0]
    exposed = f"exposes the ports {', '.join(map(str, image.ports))}" if image.ports else "exposes no port"
    raise InputError(
        f"The image {name} {exposed}, so the check does not know which one to ask.",
        hint="Set `port`, or add one `EXPOSE` to the Dockerfile; or set `check: false`.",
    )


def runs_as_root(image: ImageInfo) -> bool:
    """Whether the image's user is root, by name, by number, or because none is set."""
    return image.user.partition(":")[0] in ("", "root", "0")


def warnings(image: ImageInfo) -> Iterator[str]:
    """What a strict cluster would object to."""
    user = image.user.partition(":")[0]
    if runs_as_root(image):
        yield "The image runs as root; a cluster that demands `runAsNonRoot` refuses it. Add `USER 10001` to the Dockerfile."
    elif not user.isdigit():
        yield f"The image's user {user!r} is a name; `runAsNonRoot` can only judge numbers. Write `USER 10001` in the Dockerfile."


def check(adapters: Adapters, what: Check) -> Checked:
    """Run the check; the container is removed in any case. Raises EndpointDown, WrongAnswers."""
    with _container(adapters, what) as container:
        endpoint = adapters.endpoint(EndpointAccess(url=f"http://{container.address}", seconds=30.0))
        try:
            ready = _wait(adapters, what, container, endpoint.ask)
            adapters.console.line(f"The container is ready after {ready:.1f} s.")
            report = golden.judge(what.cases, endpoint.ask) if what.cases else None
        finally:
            endpoint.close()
        if report is not None:
            _judge(adapters, report, container)
        return Checked(ready, container.stop(_STOP), report)


@contextmanager
def _container(adapters: Adapters, what: Check) -> Iterator[Container]:
    request = RunRequest(
        what.image,
        what.port,
        env=what.env,
        read_only=what.read_only,
        capabilities=what.root,
        labels={"ml-deploy.check": "true"},
    )
    container = adapters.engine().run(request)
    try:
        yield container
    finally:
        container.remove()


def _wait(adapters: Adapters, what: Check, container: Container, ask: Ask) -> float:
    """Seconds until it was ready; a line whenever the reason for waiting changes."""
    start = adapters.clock.monotonic()
    told = ""
    while True:
        reason = _not_ready(what, ask)
        waited = adapters.clock.monotonic() - start
        if not reason:
            return waited
        _demand_running(what, container)
        if waited > what.seconds:
            raise _down(
                what,
                container,
                f"was not ready after {what.seconds:.0f} s: {reason}",
                "Raise `ready-timeout` if it only needs longer.",
            )
        if reason != told and waited > 1:
            adapters.console.line(f"Waiting for the container: {reason}")
            told = reason
        adapters.clock.sleep(_POLL)


def _not_ready(what: Check, ask: Ask) -> str:
    path = what.health_path or "/"
    try:
        answer = ask(Request("GET", path))
    except EndpointDown:
        return f"port {what.port} does not answer yet"
    if answer.status < 400 or (not what.health_path and answer.status not in _NOT_YET):
        return ""
    return f"GET {path} answers {answer.status}"


def _demand_running(what: Check, container: Container) -> None:
    state = container.state()
    if state.running:
        return
    why = "it ran out of memory" if state.out_of_memory else state.error or f"exit status {state.exit_code}"
    raise _down(what, container, f"ended before it was ready ({why})", "")


def _down(what: Check, container: Container, happened: str, hint: str) -> EndpointDown:
    logs = container.logs(_LOG_LINES).strip()
    last = next((line.strip() for line in reversed(logs.splitlines()) if line.strip()), "")
    if "Read-only file system" in logs:
        hint = "The root file system is read-only, as in a strict cluster: write to /tmp, or set `read-only: false`."
    return EndpointDown(
        f"The container of {what.name} {happened}." + (f" Its last line: {last[:300]}" if last else " It logged nothing."),
        title="Image does not serve",
        hint=hint or "Its log below says why; `docker run` the image to try it by hand.",
        details=f"<details open><summary>The container's last lines</summary>\n\n```text\n{_fenced(logs)}\n```\n\n</details>" if logs else "",
    )  # fmt: skip


def _judge(adapters: Adapters, report: golden.Report, container: Container) -> None:
    adapters.console.line(report.sentence())
    if not report.failures:
        return
    logs = container.logs(_LOG_LINES).strip()
    details = report.table() + (f"\n\n```text\n{_fenced(logs)}\n```" if logs else "")
    if report.down:
        raise EndpointDown(
            f"The container answers no prediction: {report.sentence()}", title="Image does not serve",
            hint="Its log says why. Nothing was pushed.", details=details,
        )  # fmt: skip
    raise WrongAnswers(
        report.sentence(), details=details,
        hint="The image was not pushed. Compare the model's library versions with those it was trained with; if the new "
        "answers are right, record the golden predictions again (`record-cases`).",
    )  # fmt: skip


def _fenced(text: str) -> str:
    return text.replace("```", "'''")
