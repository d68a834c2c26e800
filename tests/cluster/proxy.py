"""A proxy before the cluster that breaks requests on demand; each test shows by its hits that it did."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FAULTS = Path(__file__).resolve().parents[2] / "scripts/local/faults.py"


@dataclass
class Proxy:
    """A fault proxy before the cluster."""

    kubeconfig: str
    control: str

    def ask(self, method: str, content: Any = None) -> Any:
        data = json.dumps(content).encode() if content is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.control, method=method, data=data, headers=headers)
        trusting = ssl._create_unverified_context()
        with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:
            return json.loads(answer.read() or b"null")

    def break_every(self, nth: int, **rule: Any) -> None:
        """Every n-th request meets the fault, a hundred requests long."""
        for number in range(nth, 100, nth):
            self.ask("POST", {**rule, "after": number - 1, "times": 1})

    def hits(self) -> int:
        return sum(rule["hits"] for rule in self.ask("GET"))


@contextmanager
def proxied(kubeconfig: str, tmp_path: Path) -> Iterator[Proxy]:
    """The proxy for as long as it is needed."""
    state = tmp_path / "proxy"
    command = [sys.executable, "-E", "-s", str(FAULTS), "--kubeconfig", kubeconfig, "--state", str(state)]
    with (tmp_path / "proxy.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 20
        while not (state / "kubeconfig").exists():
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "proxy.log").read_text()
            time.sleep(0.05)
        server = yaml.safe_load((state / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"]
        yield Proxy(str(state / "kubeconfig"), f"{server}/-/faults")
    finally:
        process.terminate()
        process.wait(10)
