"""One deployment of an app at a time: a Lease `ml-deploy.<app>` in the app's namespace.

    with Lock(cluster, namespace, app, holder=identity(job.run_url), clock=clock, tell=console.line).held(wait=120):
        ...

The lease is renewed by a thread. A holder that could not renew for two thirds of it (its machine was paused, the API
server away) must not write any more: while the lock is held, the connection asks `guard` before each attempt to write,
whoever writes. Takeover is by resourceVersion, so of two only one gets it.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from ml_deploy.errors import Conflict, MlDeployError
from ml_deploy.releases.cluster import ApiError, Cluster, Object, Ref, hurried

LEASE_SECONDS = 60
_SKEW = 60.0  # seconds by which two runners' clocks may differ
_POLL = 1.0
_API = "coordination.k8s.io/v1"


class LockLost(Conflict):
    """Another deployment may have taken over meanwhile: this one writes nothing any more."""

    title = "Lock lost"


class Clock(Protocol):
    """The part of a clock that the lock needs."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


def identity(run_url: str = "") -> str:
    """Who we are, in words and uniquely: `<run or host> <host>/<process space>/<pid>/<random>`."""
    return f"{run_url or platform.node()} {_here()}/{os.getpid()}/{secrets.token_hex(4)}"


def words(holder: str) -> str:
    """The part of an identity that tells people something: the run's address or the host."""
    return holder.split(" ")[0]


def surely_dead(holder: str) -> bool:
    """Whether the holder was a process on this very machine that no longer runs: then nobody need wait for it."""
    where, _, rest = holder.rpartition(" ")[2].rpartition("/")[0].rpartition("/")
    if where != _here() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


class Lock:
    """The lock of one app in one namespace. Safe to renew from its own thread."""

    def __init__(
        self, cluster: Cluster, namespace: str, app: str, *, holder: str, clock: Clock,
        tell: Callable[[str], None] = lambda _: None, seconds: float = LEASE_SECONDS,
    ) -> None:  # fmt: skip
        self._cluster, self._clock, self._tell = cluster, clock, tell
        self._ref = Ref(_API, "Lease", namespace, f"ml-deploy.{app}")
        self._app, self._holder, self._seconds = app, holder, seconds
        self._renewed: float | None = None
        self._lost = ""
        self._stop = threading.Event()

    @contextmanager
    def held(self, *, wait: float) -> Iterator[Lock]:
        """Take the lock, waiting up to `wait` seconds; renew it meanwhile; let go on every way out.

        Raises Conflict when another deployment still holds it then.
        """
        thread = threading.Thread(target=self._keep, name="ml-deploy-lease", daemon=True)
        try:
            self.acquire(wait=wait)
            self._cluster.guard_writes(self.guard)  # retries, too, for a write may be retried for minutes
            thread.start()
            yield self
        finally:
            self._cluster.guard_writes(lambda: None)
            self.release()
            if thread.ident:
                thread.join(2)  # a renewal that is under way

    def acquire(self, *, wait: float) -> None:
        """Take the lock, without renewing it. Raises Conflict after `wait` seconds."""
        until = self._clock.monotonic() + wait
        seen: tuple[str, float] = ("", 0.0)
        told = False
        while True:
            lease = self._cluster.get(self._ref)
            version = lease["metadata"]["resourceVersion"] if lease else ""
            if seen[0] != version:
                seen = (version, self._clock.monotonic())
            if self._is_free(lease, self._clock.monotonic() - seen[1]):
                if self._take(lease):
                    return
                continue  # another one was faster: look again
            assert lease is not None
            holder = str(lease["spec"].get("holderIdentity"))
            if self._clock.monotonic() >= until:
                raise self._busy(holder, lease)
            if not told:
                self._tell(
                    f"waiting: another deployment of {self._app} is running ({words(holder)}); up to {wait:.0f} s"
                )
                told = True
            self._clock.sleep(_POLL)

    def guard(self) -> None:
        """Asked before every write. Raises LockLost once two thirds of the lease passed unrenewed."""
        if not self._lost and self._renewed is not None and self._age() <= self._seconds * 2 / 3:
            return
        why = self._lost or f"it could not be renewed for {self._age():.0f} s"
        raise LockLost(
            f"This deployment of {self._app} lost its lock ({why}) and stopped writing.",
            hint="Another deployment may have taken over. Look at what is running now, then run this one again.",
        )

    def renew(self) -> None:
        """Renew once; a failure is noticed by `guard` when it lasts."""
        started = self._clock.monotonic()
        try:
            lease = self._cluster.get(self._ref)
            if lease is None or lease["spec"].get("holderIdentity") != self._holder:
                by = words(str((lease or {}).get("spec", {}).get("holderIdentity") or "somebody deleted it"))
                self._lost = f"taken over: {by}"
                return
            lease["spec"]["renewTime"] = self._now()
            self._cluster.replace(lease)
            self._renewed = started
        except (ApiError, MlDeployError):
            return

    def release(self) -> None:
        """Let go, if it is ours. Never raises: an unreleased lease runs out by itself."""
        self._stop.set()
        for _ in range(3):  # our own renewal may come in between
            try:
                with hurried(self._cluster):
                    self._give_up()
                break
            except ApiError as error:
                if error.code != 409:
                    break
            except MlDeployError:
                break
        self._renewed = None

    def _give_up(self) -> None:
        lease = self._cluster.get(self._ref)
        if lease and lease["spec"].get("holderIdentity") == self._holder:
            for gone in ("holderIdentity", "acquireTime", "renewTime"):
                lease["spec"].pop(gone, None)
            self._cluster.replace(lease)

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / 5) and not self._lost:
            self.renew()

    def _age(self) -> float:
        return self._clock.monotonic() - (self._renewed or 0.0)

    def _is_free(self, lease: Object | None, unchanged: float) -> bool:
        """Nobody holds it, or its holder is gone: not renewed for its whole length, by our own watch or long ago."""
        spec = (lease or {}).get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self._holder:
            return True
        seconds = float(spec.get("leaseDurationSeconds") or self._seconds)
        renewed = _seconds(spec.get("renewTime") or spec.get("acquireTime") or "")
        long_ago = self._clock.time() - renewed > seconds + _SKEW
        return unchanged > seconds or long_ago or surely_dead(holder)

    def _take(self, lease: Object | None) -> bool:
        """Create the lease or take it over as it was read; False when somebody else changed it first."""
        started = self._clock.monotonic()
        try:
            if lease is None:
                self._cluster.create(self._new())
            else:
                self._announce(lease)
                transitions = int(lease["spec"].get("leaseTransitions") or 0) + 1
                lease["spec"] = {**self._spec(), "leaseTransitions": transitions}
                self._cluster.replace(lease)
        except ApiError as error:
            if error.code == 409 or (error.code == 404 and lease is not None):
                return False
            raise
        self._renewed = started
        return True

    def _announce(self, lease: Object) -> None:
        before = lease["spec"].get("holderIdentity")
        if before and before != self._holder:
            self._tell(f"taking over the lock of {words(str(before))}, which ended without releasing it")

    def _new(self) -> Object:
        labels = {"ml-deploy/app": self._app, "app.kubernetes.io/managed-by": "ml-deploy"}
        meta = {"name": self._ref.name, "namespace": self._ref.namespace, "labels": labels}
        return {"apiVersion": _API, "kind": "Lease", "metadata": meta, "spec": self._spec()}

    def _spec(self) -> dict[str, Any]:
        now = self._now()
        return {"holderIdentity": self._holder, "leaseDurationSeconds": int(self._seconds),
                "acquireTime": now, "renewTime": now}  # fmt: skip

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _busy(self, holder: str, lease: Object) -> Conflict:
        since = str(lease["spec"].get("acquireTime") or "")[:19].replace("T", " ")
        return Conflict(
            f"Another deployment of {self._app} in namespace {self._ref.namespace} is running: {words(holder)},"
            f" since {since} UTC.",
            hint="Wait until it ends, then run this one again; `concurrency:` in the workflow lets them queue. "
            "Should it have been killed, its lock runs out within two minutes.",
            title="Another deployment is running",
        )


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _here() -> str:
    """This machine and process space: host name, boot and PID namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        space = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        boot = space = "-"
    return f"{platform.node()}/{boot}-{space}"
