"""Steady requests from a process of its own; on SIGTERM it prints what became of them.

usage: traffic.py URL RATE EXPECTED      (EXPECTED: answers that are right, separated by commas)
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time
import urllib.parse
from collections import Counter

_WORKERS = 20


def main(url: str, rate: float, expected: set[str]) -> None:
    found: Counter[str] = Counter()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    workers = [
        threading.Thread(target=work, args=(url, _WORKERS / rate, number / rate, expected, found, stop))
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
    url: str, period: float, offset: float, expected: set[str], found: Counter[str], stop: threading.Event
) -> None:
    """One client: every request on a connection of its own."""
    following = time.monotonic() + offset
    while not stop.wait(max(0.0, following - time.monotonic())):
        following += period
        found[one(urllib.parse.urlsplit(url), expected)] += 1


def one(url: urllib.parse.SplitResult, expected: set[str]) -> str:
    """`right`, `wrong`, or how it failed."""
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=5)
    try:
        connection.request("GET", url.path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return f"failed: status {answer.status}"
        return "right" if json.loads(body)["prediction"] in expected else "wrong"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"failed: {type(error).__name__}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), set(sys.argv[3].split(",")))
