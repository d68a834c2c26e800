"""Watches that heal: one reading thread per watch, one queue, and a None each second."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any

from ml_deploy.adapters import kube_errors
from ml_deploy.adapters.kube_http import Http, Response, lowered
from ml_deploy.errors import AuthFailed
from ml_deploy.releases.cluster import Event, Object, WatchOf

_ROUND = 25.0  # seconds; short rounds find a connection that died without a word
_TICK = 1.0  # seconds
_SHORT = 1.0  # seconds; a round that ends sooner was cut, politely or not

#: The present objects and the version to watch from.
Lister = Callable[[WatchOf], tuple[list[Object], str]]


class Watcher:
    """Several watches as one stream of events, for `seconds`."""

    def __init__(self, http: Http, lister: Lister, seconds: float) -> None:
        self._http, self._lister = http, lister
        self._until = time.monotonic() + seconds
        self._queue: queue.Queue[Event | BaseException] = queue.Queue()
        self._stop = threading.Event()
        self._open: set[HTTPConnection] = set()
        self._lock = threading.Lock()

    def events(self, of: Sequence[tuple[WatchOf, str]]) -> Iterator[Event | None]:
        """Yields until the time is over; what a watch cannot heal is raised here."""
        for one, path in of:
            threading.Thread(target=self._run, args=(one, path), daemon=True).start()
        try:
            while (left := self._until - time.monotonic()) > 0:
                try:
                    event = self._queue.get(timeout=min(_TICK, left))
                except queue.Empty:
                    yield None
                    continue
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._stop.set()
            with self._lock:
                for connection in self._open:
                    _wake(connection)

    def _run(self, of: WatchOf, path: str) -> None:
        try:
            _OneWatch(self, of, path).run()
        except BaseException as error:  # it belongs to the thread that reads the events
            self._queue.put(error)

    # what one watch uses

    @property
    def over(self) -> bool:
        """Whether nobody listens any more."""
        return self._stop.is_set() or time.monotonic() >= self._until

    def put(self, event: Event) -> None:
        """Hand an event over."""
        self._queue.put(event)

    def list(self, of: WatchOf) -> tuple[list[Object], str]:
        """What is there now."""
        return self._lister(of)

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of one round, until the server ends it. Raises OSError, HTTPException or _Refused."""
        connection, answer = self._http.stream(path, _ROUND + 5)
        with self._lock:
            self._open.add(connection)
        try:
            if answer.status != 200:
                raise _Refused(Response(answer.status, lowered(answer.headers), answer.read()))
            while not self.over and (line := answer.readline()):
                yield line
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def pause(self, seconds: float) -> None:
        """Wait, unless nobody listens any more."""
        self._stop.wait(seconds)

    def refused(self, refusal: _Refused, of: WatchOf) -> None:
        """Raise what a refusal means, unless it is temporary."""
        status = refusal.response.status
        if status == 401:
            self._http.forget_token()
        elif status not in (410, 429) and status < 500:
            raise kube_errors.error(self._http.endpoint.server, refusal.response, "watch", of.kind, of.namespace)


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class _Gone(Exception):
    """The version is too old: list again."""


class _OneWatch:
    """One watch: list, follow, and after a cut go on from the last version (or list again after 410)."""

    def __init__(self, watcher: Watcher, of: WatchOf, path: str) -> None:
        self._watcher, self._of, self._path = watcher, of, path
        self._version = ""
        self._known: dict[str, Object] = {}
        self._failures = 0
        self._rejected = 0

    def run(self) -> None:
        while not self._watcher.over:
            try:
                if not self._version:
                    self._list()
                started = time.monotonic()
                self._follow()
                if time.monotonic() - started < _SHORT:
                    self._pause()
            except _Gone:
                self._version = ""
            except _Refused as refusal:
                self._heal(refusal)
            except (OSError, HTTPException, ValueError):
                self._pause()

    def _pause(self, asked: float = 0.0) -> None:
        """Longer after each round in a row that brought nothing. asked: seconds that the server wants to be left alone."""
        self._failures += 1
        self._watcher.pause(asked or min(0.05 * 2 ** min(self._failures, 6), 2.0))

    def _heal(self, refusal: _Refused) -> None:
        self._rejected += refusal.response.status == 401
        if self._rejected > 2:
            raise AuthFailed("The cluster does not accept our credentials any more (401).")
        self._watcher.refused(refusal, self._of)
        self._version = "" if refusal.response.status == 410 else self._version
        asked = refusal.response.headers.get("retry-after", "")
        self._pause(float(asked) if asked.isdigit() else 0.0)

    def _list(self) -> None:
        """The present state as events: what is new, what changed, and what went while we did not look."""
        items, self._version = self._watcher.list(self._of)
        before, self._known = self._known, {}
        for item in items:
            uid = item["metadata"]["uid"]
            self._known[uid] = item
            if uid not in before:
                self._watcher.put(Event("ADDED", item))
            elif before[uid]["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
                self._watcher.put(Event("MODIFIED", item))
        for uid, item in before.items():
            if uid not in self._known:
                self._watcher.put(Event("DELETED", item))

    def _follow(self) -> None:
        query = {
            "watch": "true", "resourceVersion": self._version, "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(_ROUND)), "labelSelector": self._of.selector,
            "fieldSelector": f"metadata.name={self._of.name}" if self._of.name else "",
        }  # fmt: skip
        encoded = urllib.parse.urlencode({k: v for k, v in query.items() if v})
        for line in self._watcher.lines(f"{self._path}?{encoded}"):
            self._one(json.loads(line))

    def _one(self, event: dict[str, Any]) -> None:
        obj = event.get("object") or {}
        if event.get("type") == "ERROR":
            if obj.get("code") == 410:
                raise _Gone
            raise OSError(str(obj.get("message", "watch failed")))
        self._version = str((obj.get("metadata") or {}).get("resourceVersion") or self._version)
        if event.get("type") == "BOOKMARK":
            return
        uid = obj["metadata"]["uid"]
        if event["type"] == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = obj
        self._failures = self._rejected = 0
        self._watcher.put(Event(event["type"], obj))


def _wake(connection: HTTPConnection) -> None:
    """End a blocking read in the thread that owns the connection."""
    try:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
