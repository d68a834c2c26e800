"""Steady requests from a process of its own; on SIGTERM it prints when each was answered, and by which version.

usage: versions.py URL RATE [HOST]
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time
import urllib.parse

_WORKERS = 20


def main(url: str, rate: float, host: str) -> None:
    found: list[tuple[float, str]] = []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    until = time.monotonic() + 20
    while one(urllib.parse.urlsplit(url), host).startswith("failed") and time.monotonic() < until:
        time.sleep(0.05)  # a new address takes a moment
    workers = [
        threading.Thread(target=work, args=(url, host, _WORKERS / rate, number / rate, found, stop))
        for number in range(_WORKERS)
    ]
    for worker in workers:
        worker.start()
    print("started", flush=True)
    while not stop.wait(0.2):
        pass
    for worker in workers:
        worker.join()
    print(json.dumps(found))


def work(
    url: str, host: str, period: float, offset: float, found: list[tuple[float, str]], stop: threading.Event
) -> None:
    """One client; the time is when its request left."""
    following = time.monotonic() + offset
    while not stop.wait(max(0.0, following - time.monotonic())):
        following += period
        at = time.monotonic()
        found.append((at, one(urllib.parse.urlsplit(url), host)))


def one(url: urllib.parse.SplitResult, host: str) -> str:
    """The version that answered, or how it failed."""
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=5)
    try:
        connection.request("GET", url.path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        body = answer.read()
        return str(json.loads(body)["prediction"]) if answer.status == 200 else f"failed: status {answer.status}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"failed: {type(error).__name__}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
