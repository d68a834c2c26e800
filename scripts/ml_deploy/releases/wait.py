"""Waiting until what was applied is ready: one watch, one deadline, and a reason each time it changes.

While it is not ready the pods of the new version are looked at, so that trouble is told with its
cause within seconds; what is proven hopeless ends the wait before the deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ml_deploy.checks.cases import fenced
from ml_deploy.errors import RolloutFailed
from ml_deploy.releases import diagnosis, newpods, rollout
from ml_deploy.releases.cluster import Cluster, Object, Ref, WatchOf, patient_for
from ml_deploy.releases.diagnosis import Finding
from ml_deploy.releases.narration import Narrator, listed
from ml_deploy.releases.owned import Owned

_LOOK = 2.0  # seconds between two looks at the pods
_LOOK_SHARE = 10.0  # a look that takes t seconds is not repeated before 10 t have passed
_LOOK_LONGEST = 10.0
_DOWN = 3.0  # seconds without any ready pod that end the watch over what was ready before
_SAMPLE = 25  # new pods of a workload that are looked at first
_STANDSTILL = 5.0  # seconds without a change after which all of them are, hundreds of them too
_LOG_LINES = 15
_ADDRESS = 90.0  # seconds that a load balancer may take when all else is ready
_SILENCE = 5.0  # seconds in which a controller says something of a new custom resource
_PATIENCE = {"probe": 6.0}  # seconds before it is told: probes fail while a server starts

Tell = Callable[[str], None]


class Clock(Protocol):
    """The part of a clock that is needed here."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""


_SETTLES = 3.0  # seconds in which a bare Pod that starts and fails has done so
_LEAST = 1.0  # seconds in which what is ready is seen to be, though the deadline has passed

_UNSEEN = rollout.Waiting("not seen yet")


@dataclass
class _Watched:
    """One object that is waited for."""

    ref: Ref
    obj: Object
    verdict: rollout.Verdict = _UNSEEN


def wait_ready(
    cluster: Cluster, objects: Sequence[Object], *, seconds: float, clock: Clock, tell: Tell, stable_for: float = 0.0
) -> dict[str, str]:
    """Wait until all objects (as the server has them) are ready, and stay so for `stable_for` seconds.

    Returns a word on each object that was waited for, such as `2 of 2 ready`.
    Raises RolloutFailed at the deadline of `seconds`, or before it when there is no hope; it says why.
    """
    watched = {ref: _Watched(ref, obj) for obj in objects if rollout.waited_for(obj) for ref in [_ref(cluster, obj)]}
    if not watched:
        return {}
    return _Wait(cluster, watched, seconds, clock, tell, stable_for).run()


def settling(objects: Sequence[Object]) -> float:
    """Seconds in which objects are seen to stay ready, whatever is wanted: a Pod without a probe is ready as it starts."""
    return _SETTLES if any(obj["kind"] == "Pod" for obj in objects) else 0.0


class Until:
    """Waits for objects as often as it is called, always until the same moment on the clock's monotonic time."""

    def __init__(self, cluster: Cluster, moment: float, *, clock: Clock, tell: Tell) -> None:
        self._cluster, self._moment, self._clock, self._tell = cluster, moment, clock, tell

    def __call__(self, objects: Sequence[Object]) -> None:
        """Raises RolloutFailed when they are not ready by then."""
        left = self.left()
        patient_for(self._cluster, left)
        wait_ready(self._cluster, objects, seconds=max(left, _LEAST), clock=self._clock, tell=self._tell)

    def left(self) -> float:
        """Seconds until then, never less than 0."""
        return max(self._moment - self._clock.monotonic(), 0.0)


class _Wait:
    def __init__(
        self,
        cluster: Cluster,
        watched: dict[Ref, _Watched],
        seconds: float,
        clock: Clock,
        tell: Tell,
        stable_for: float,
    ) -> None:
        self._cluster, self._watched, self._clock, self._tell = cluster, watched, clock, tell
        self._seconds, self._stable_for = seconds, stable_for
        self._started = clock.monotonic()
        self._until = self._started + seconds
        self._owned = Owned(cluster, [one.obj for one in watched.values()])
        self._knows_owned = not self._owned.watches
        self._done_since: float | None = None
        self._only_address_since: float | None = None
        self._down_since: float | None = None
        self._stood = False
        self._changed = self._started
        self._narrator = Narrator(tell, lambda: len(self._watched), self._started)
        self._next_look = self._started + _LOOK
        self._findings: dict[tuple[Ref, str, str], tuple[float, Finding]] = {}
        self._told: set[tuple[Ref, str, float | None]] = set()
        self._causes: set[str] = set()
        self._logged: set[tuple[Ref, str]] = set()
        self._logs: dict[str, Finding] = {}

    def run(self) -> dict[str, str]:
        events = self._cluster.watch_all(self._watches(), seconds=self._seconds)
        try:
            for event in events:
                if event is not None:
                    self._see(event.type, event.object)
                now = self._clock.monotonic()
                self._narrator.tick(now)
                if self._is_done():
                    return {_title(w.ref): _words(w.verdict) for w in self._watched.values()}
                self._stop_when_down(now)
                if now >= self._next_look and not self._moves(now):
                    self._look()
                if now >= self._until:
                    break
        finally:
            getattr(events, "close", lambda: None)()  # its threads end now, not when the error has been told
        self._look()  # what is true at the end, for the last look may be some seconds old
        if self._done_since is not None:
            raise self._failed(f"ready, but not for {self._stable_for:g} s within {self._seconds:.0f} s")
        raise self._failed(f"not ready within {self._seconds:.0f} s")

    def _moves(self, now: float) -> bool:
        """Whether something changed just now, so that nobody needs to be asked why nothing does (for some seconds)."""
        return now - self._changed < _LOOK and now - self._next_look < _LOOK_LONGEST

    def _watches(self) -> list[WatchOf]:
        """One watch for each kind and namespace, narrowed to a name where there is only one."""
        names: dict[tuple[str, str, str], list[str]] = {}
        for ref in self._watched:
            names.setdefault(ref[:3], []).append(ref.name)
        for of in self._owned.watches:  # all of the kind, for nobody knows their names
            names.setdefault(of[:3], []).append("")
        return [WatchOf(*where, name=found[0] if len(found) == 1 else "") for where, found in names.items()]

    def _see(self, kind: str, obj: Object) -> None:
        meta = obj["metadata"]
        ref = _ref(self._cluster, obj)
        if obj in self._owned:
            self._watched.setdefault(ref, _Watched(ref, obj))
        known = self._watched.get(ref)
        if known is None:
            return
        if kind == "DELETED" and obj in self._owned:  # by its controller, which made another
            del self._watched[ref]
            return
        if kind == "DELETED":
            finished = known.ref.kind == "Job" and isinstance(known.verdict, rollout.Done)  # its time to live is over
            if not finished and meta.get("uid") in (None, known.obj["metadata"].get("uid")):
                raise self._failed(f"{known.ref.kind} {known.ref.name} was deleted by somebody else")
            return
        known.obj = obj
        self._changed = self._clock.monotonic()
        before, known.verdict = known.verdict, rollout.verdict(obj)
        if known.verdict != before and not (isinstance(known.verdict, rollout.Done) and before == _UNSEEN):
            self._narrator.changed(_title(known.ref), _words(known.verdict), self._changed,
                                   done=isinstance(known.verdict, rollout.Done))  # fmt: skip
        if isinstance(known.verdict, rollout.Stuck):
            self._look()
            raise self._failed(f"{known.ref.kind} {known.ref.name}: {known.verdict.reason}", known.verdict.hint)

    def _is_done(self) -> bool:
        now = self._clock.monotonic()
        if not (self._ready(now) and self._also_what_they_made(now)):
            self._done_since = None
            return False
        if self._done_since is None:
            self._done_since, self._stood = now, True
            if self._stable_for:
                self._tell(f"ready after {now - self._started:.1f} s; watching it for {self._stable_for:g} s more")
        return now - self._done_since >= self._stable_for

    def _stop_when_down(self, now: float) -> None:
        """What was ready and then has no pod at all for users is not waited for: the version before would serve them."""
        down = [w for w in self._watched.values() if rollout.is_down(w.obj)] if self._stood else []
        if not down:
            self._down_since = None
            return
        self._down_since = now if self._down_since is None else self._down_since
        if now - self._down_since >= _DOWN:
            self._look()
            raise self._failed(f"{_title(down[0].ref)} was ready, and then had no pod that is for {_DOWN:g} s")

    def _also_what_they_made(self, now: float) -> bool:
        """Custom resources are ready when their workloads are; those are looked for once, and watched from then on."""
        if not self._knows_owned:
            self._knows_owned = True
            for obj in self._owned.live():
                self._see("ADDED", obj)
        return self._ready(now)

    def _ready(self, now: float) -> bool:
        """All are Done; for a load balancer's address alone the others do not wait long: not every cluster has one."""
        waiting = [
            w for w in self._watched.values() if not isinstance(w.verdict, rollout.Done) or self._is_silent(w, now)
        ]
        if not all(w.ref.kind == "Service" and w.verdict != _UNSEEN for w in waiting):
            self._only_address_since = None
            return False
        if self._only_address_since is None:
            self._only_address_since = now
        if waiting and now - self._only_address_since < _ADDRESS:
            return False
        if waiting and self._done_since is None:
            names = ", ".join(w.ref.name for w in waiting)
            self._tell(f"Service {names}: no address after {_ADDRESS:.0f} s; the release is ready without it")
        return True

    def _is_silent(self, one: _Watched, now: float) -> bool:
        """Whether a custom resource may still get its first status from its controller; some never get one."""
        if now - self._started >= _SILENCE or not rollout.is_custom(one.obj) or one.obj.get("status"):
            return False
        kind = self._cluster.kind(one.ref.api_version, one.ref.kind)
        return kind is not None and kind.has_status

    def _look(self) -> None:
        """Find out why what is not ready is not; stop when it is hopeless."""
        started = self._clock.monotonic()
        waiting = [w for w in self._watched.values() if not isinstance(w.verdict, rollout.Done)]
        found = [(w.ref, finding) for w in waiting for finding in self._troubles(w)]
        now = self._clock.monotonic()
        before, self._findings = self._findings, {}
        for ref, finding in sorted(found, key=lambda one: diagnosis.badness(one[1])):
            key = (ref, finding.kind, "" if finding.grace is None else finding.cause)
            first = before.get(key, (now, finding))[0]
            self._findings[key] = (first, finding)
            if now - first >= _PATIENCE.get(finding.kind, 0.0):
                self._report(ref, finding)
        soon = _LOOK if found else 2 * _LOOK
        self._next_look = now + min(max(soon, (now - started) * _LOOK_SHARE), _LOOK_LONGEST)
        for first, finding in self._findings.values():
            if finding.grace is not None and now - first >= finding.grace:
                raise self._failed(finding.cause, finding.remedy)

    def _report(self, of: Ref, finding: Finding) -> None:
        """Tell of a trouble once, and again when it has become hopeless; with the log that helps."""
        key = (of, finding.kind, finding.grace)
        known = key in self._told
        self._told.add(key)
        if not known and finding.cause not in self._causes:
            self._causes.add(finding.cause)
            self._tell(finding.line)
        if known and (of, finding.kind) in self._logged:
            return  # else its log was not there yet when it was told
        log = newpods.log_of(self._cluster, finding, _LOG_LINES)
        if log:
            self._logged.add((of, finding.kind))
        if log and log not in self._logs:
            self._logs[log] = finding
            self._tell(f"the last lines of {finding.pod}/{finding.container}:\n{log}")

    def _troubles(self, watched: _Watched) -> list[Finding]:
        if rollout.unseen(watched.obj):
            return []  # the pods that its status leads to are those of the version before
        found = list(diagnosis.of_workload(watched.obj, newpods.events_about(self._cluster, watched.obj)))
        if found:
            return found
        pods = self._suspects(watched.obj)
        bad = [pod for pod in pods if _unready(pod)][:3]
        events = [event for pod in bad for event in newpods.events_about(self._cluster, pod)]
        return diagnosis.of_pods(pods, events)

    def _suspects(self, workload: Object) -> list[Object]:
        """New pods, among them some that are not ready; hundreds are listed only when a sample tells nothing."""
        pods = newpods.of(self._cluster, workload, most=_SAMPLE)
        if len(pods) < _SAMPLE or any(map(_unready, pods)) or self._clock.monotonic() - self._changed < _STANDSTILL:
            return pods
        return newpods.of(self._cluster, workload, most=_SAMPLE, fields="status.phase=Pending") or newpods.of(
            self._cluster, workload
        )

    def _failed(self, what: str, hint: str = "") -> RolloutFailed:
        """What happened first, the cause on top; the log of the container that tells most."""
        waiting = [w for w in self._watched.values() if not isinstance(w.verdict, rollout.Done)]
        findings = [finding for _, finding in self._findings.values()]
        first = findings[0] if findings else None
        who = listed([_title(w.ref) for w in waiting]) or "The release"
        if first and first.cause != what:
            what, hint = f"{first.cause.rstrip('.')} ({what})", hint or first.remedy
        reasons = "\n".join(f"- **{w.ref.kind} {w.ref.name}**: {_words(w.verdict)}" for w in waiting)
        told = "\n".join(f"- {f.where}: {f.cause}\n  {f.remedy}" for f in findings)
        logs = "".join(f"\nLast lines of `{f.pod}/{f.container}`:\n\n{fenced(log)}\n" for log, f in self._logs.items())
        return RolloutFailed(
            (what if what.startswith(who) else f"{who}: {what}").rstrip(".") + ".", hint=hint or _HINT,
            details="\n".join(part for part in (reasons, told, logs) if part),
        )  # fmt: skip


_HINT = "Look at its pods (kubectl describe pod), or raise `timeout` when it only needs more time."


def _ref(cluster: Cluster, obj: Object) -> Ref:
    meta = obj["metadata"]
    return Ref(obj["apiVersion"], obj["kind"], str(meta.get("namespace") or ""), meta["name"])


def _unready(pod: Object) -> bool:
    return rollout.condition(pod, "Ready").get("status") != "True"


def _title(ref: Ref) -> str:
    return f"{ref.kind} {ref.name}"


def _words(verdict: rollout.Verdict) -> str:
    if isinstance(verdict, rollout.Done):
        return verdict.detail or "done"
    return verdict.reason
