"""The gateway as users meet it: asked until it works with an edit of ours, and loaded to compare both versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ml_deploy.checks import versus
from ml_deploy.checks.cases import Case, judge_answer
from ml_deploy.checks.http import Answer, Endpoint, EndpointAccess, Request, header
from ml_deploy.checks.load import Load, Plan
from ml_deploy.errors import EndpointDown, InputError, MlDeployError, WrongAnswers
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref
from ml_deploy.releases.lease import Clock
from ml_deploy.releases.strategies import edge, routes
from ml_deploy.releases.strategies.routes import CANARY, EDIT, STABLE, TRACK

OpenEndpoint = Callable[[EndpointAccess], Endpoint]

_UNKNOWN = (502, 503, 504)  # what gateways say while they do not know a backend yet
_IN_A_ROW = 3  # a gateway may have several instances
_PAUSE = 0.1
_TRY = 5.0  # seconds in which a gateway that can be reached from here answers at all
_UNSIGNED = 10.0  # seconds after which a gateway that answers well but without our header is taken not to set it
_SETTLE = 5.0  # seconds that a gateway is given where it cannot be asked
_WARMUP = 4


class Edge:
    """One gateway in front of a Service. `request` is what it is asked first."""

    def __init__(
        self, cluster: Cluster, route: Object, service: str, cases: Sequence[Case], *,
        open_endpoint: OpenEndpoint | None, clock: Clock, tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._clock, self._tell, self._cases = clock, tell, cases
        self._rules = routes.original(route)
        self._ours = lambda ref: bool(ref.get("name") == service)
        self.request = cases[0].request if cases else self._any_request()
        self._host, self._endpoint, self._signs = "", None, True  # type: str, Endpoint | None, bool
        if open_endpoint and edge.way(self._rules, self.request, self._ours):
            self._open(cluster, route, open_endpoint)

    @property
    def reached(self) -> bool:
        """Whether the gateway can be asked from here, as far as is known."""
        return self._endpoint is not None

    def close(self) -> None:
        """Close the connections."""
        if self._endpoint:
            self._endpoint.close()

    def wait(self, word: str, *, canary: bool, seconds: float) -> None:
        """Return when the gateway works with the edit of this word. Raises EndpointDown when it does not in time."""
        started = self._clock.monotonic()
        if self._endpoint is None or not self._asked(word, started, started + seconds, canary):
            self._clock.sleep(min(_SETTLE, seconds))

    def compare(self, rate: float, seconds: float) -> versus.Comparison | None:
        """Both versions under one load, sent in turn; None where there is nothing to ask, or nowhere.

        Raises WrongAnswers when the canary answers a golden prediction wrongly under load.
        """
        asked = [(case, way) for case in self._cases if (way := edge.way(self._rules, case.request, self._ours))]
        if self._endpoint is None or not asked or rate * seconds < 2:
            return None
        requests = [
            edge.asked_at(case.request, way, self._host, **{TRACK: track})
            for case, way in asked for track in (CANARY, STABLE)
        ]  # fmt: skip
        load = self._endpoint.load(Plan(rate, max(2, round(rate * seconds)), warmup=_WARMUP), requests)
        _refuse_wrong([case for case, _ in asked], load)
        new, old = (versus.version([s for s in load.samples if s.which % 2 == side]) for side in (0, 1))
        return versus.compare(new, old)

    def _any_request(self) -> Request:
        """A GET that a rule takes, where there are no golden predictions: only gateways' own errors matter then."""
        paths = [(m.get("path") or {}).get("value", "/") for rule in self._rules for m in rule.get("matches") or []]
        asked = [Request("GET", path) for path in ("/", *paths)]
        return next((one for one in asked if edge.way(self._rules, one, self._ours)), asked[0])

    def _open(self, cluster: Cluster, route: Object, open_endpoint: OpenEndpoint) -> None:
        for ref, parent in edge.parents(route):
            gateway = _readable(cluster, ref)
            url, host = edge.address(route, gateway, parent) if gateway else ("", "")
            if url:
                self._host, self._endpoint = host, open_endpoint(EndpointAccess(url, seconds=10.0))
                self._tell(f"the gateway is asked at {url}" + (f" as {host}" if host else ""))
                return
        self._tell("the gateway has no address that can be asked from here")

    def _asked(self, word: str, started: float, until: float, canary: bool) -> bool:
        """Ask until it answers with our word, several times in a row; False when it cannot be asked."""
        way = edge.way(self._rules, self.request, self._ours)
        assert self._endpoint and way
        request = edge.asked_at(self.request, way, self._host, **{TRACK: CANARY if canary else STABLE})
        well, reached, last = 0, False, "no answer"
        while well < _IN_A_ROW:
            now = self._clock.monotonic()
            if now >= until and reached:
                raise EndpointDown(
                    f"The gateway does not lead to the canary within {now - started:.0f} s: {last}.",
                    hint="Look at the status of the HTTPRoute and of the Gateway (kubectl describe httproute).",
                )
            try:
                answer = self._endpoint.ask(request)
                reached = True
            except EndpointDown as error:
                last = error.message.rstrip(".")
                if not reached and now - started > _TRY:
                    return self._unreachable(last)
                self._clock.sleep(_PAUSE)
                continue
            last = _words(answer)
            well = well + 1 if self._right(answer, word, now - started) else 0
            if not well:
                self._clock.sleep(_PAUSE)
        return self._signs

    def _right(self, answer: Answer, word: str, waited: float) -> bool:
        if answer.status in _UNKNOWN:
            return False
        if self._signs and not header(answer, EDIT) and waited > _UNSIGNED:
            self._signs = False
            self._tell(f"the gateway does not set headers of answers: it is given {_SETTLE:.0f} s after each change")
        return not self._signs or header(answer, EDIT) == word

    def _unreachable(self, why: str) -> bool:
        self._tell(f"the gateway cannot be asked from here ({why}): it is given {_SETTLE:.0f} s after each change")
        assert self._endpoint
        self._endpoint.close()
        self._endpoint = None
        return False


def _refuse_wrong(cases: Sequence[Case], load: Load) -> None:
    for (which, status, body), count in load.answers.items():
        if which % 2 == 0 and 200 <= status < 300:
            # the kind of the body is not kept: what is no JSON counts as text
            outcome = judge_answer(cases[which // 2], Answer(status, {"content-type": "text/plain"}, body))
            if outcome.differences:
                raise WrongAnswers(
                    f'The canary answers wrongly under load ({count} times): "{outcome.case.name}": {outcome.text()}',
                    hint="The same prediction was right without load: look for state that requests share.",
                )


def _readable(cluster: Cluster, ref: Ref) -> Object | None:
    try:
        return cluster.get(ref)
    except (ApiError, InputError, MlDeployError) as error:
        if isinstance(error, MlDeployError) and error.reason == "cancelled":
            raise
        return None


def _words(answer: Answer) -> str:
    said = f"it answers {answer.status}"
    return said if header(answer, EDIT) else f"{said} without the header {EDIT}"
