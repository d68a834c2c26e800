"""Steady requests from a process of its own; on SIGTERM it prints when each was answered, and by which version.

usage: versions.py URL RATE [HOST [keep]]        (keep: clients keep their connections alive)
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
import urllib.parse

_WORKERS = 20


def main(url: str, rate: float, host: str, keep: bool) -> None:
    found: list[tuple[float, str]] = []
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a handler that sets an event may wait for itself
    parent = os.getppid()
    until = time.monotonic() + 20
    while Client(url, host, keep=False).ask().startswith("failed") and time.monotonic() < until:
        time.sleep(0.05)  # a new address takes a moment
    workers = [
        threading.Thread(target=work, args=(Client(url, host, keep), _WORKERS / rate, number / rate, found, stop))
        for number in range(_WORKERS)
    ]
    for worker in workers:
        worker.start()
    print("started", flush=True)
    while signal.sigtimedwait({signal.SIGTERM}, 1) is None and os.getppid() == parent:
        pass
    stop.set()
    for worker in workers:
        worker.join()
    print(json.dumps(found))


def work(
    client: Client, period: float, offset: float, found: list[tuple[float, str]], stop: threading.Event
) -> None:  # fmt: skip
    """One client; the time is when its request left."""
    following = time.monotonic() + offset
    while not stop.wait(max(0.0, following - time.monotonic())):
        following += period
        at = time.monotonic()
        found.append((at, client.ask()))


class Client:
    """Asks by a new connection each time, or keeps the one it has until the server closes it."""

    def __init__(self, url: str, host: str, keep: bool) -> None:
        self._url, self._keep = urllib.parse.urlsplit(url), keep
        self._headers = {"Host": host} if host else {}
        self._connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=5)

    def ask(self) -> str:
        """The version that answered, or how it failed."""
        try:
            self._connection.request("GET", self._url.path, headers=self._headers)
            answer = self._connection.getresponse()
            body = answer.read()
            return str(json.loads(body)["prediction"]) if answer.status == 200 else f"failed: status {answer.status}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._connection.close()
            return f"failed: {type(error).__name__}: {error}"
        finally:
            if not self._keep:
                self._connection.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "", sys.argv[4:] == ["keep"])
