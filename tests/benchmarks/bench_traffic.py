"""Users through every way in and back: how many requests were sent, failed, or were answered wrongly.

usage: bench_traffic.py --kubeconfig FILE --image IMAGE [--kubectl PATH] [--rate R] [--gateway NAMESPACE/NAME]

IMAGE and the gateway as in bench_canary.py. One app of four pods; half of the requests come on connections of their own,
half on connections that are kept until the server closes them. An answer of a version that should not serve by then is
wrong. Goal: nothing failed, nothing wrong.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tests.benchmarks.bench_canary import Canaries
from tests.benchmarks.cluster_options import lasting, parser
from tests.cluster.canaries import clients

_AFTERWARDS = 4.0  # seconds in which pods that go would still be asked
_ROLLED_BACK = 11
_CANARY = ("--strategy", "canary", "--pause", "3s")


class Ways(Canaries):
    """The app, and each way by which another version of it comes or goes."""

    replicas = 4

    def command(self, name: str, *options: str, code: int = 0) -> None:
        """A command of ours for the app; ends the benchmark when it ends otherwise than it should."""
        words = [str(ROOT / "scripts" / "run.sh"), name, "--app", "ours", "--kubeconfig", self._options.kubeconfig,
                 "--namespace", self._options.namespace, *options]  # fmt: skip
        done = subprocess.run(words, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode != code:
            sys.exit(done.stdout + done.stderr)

    def bring(self, version: str, *options: str, crashes: bool = False) -> None:
        """Deploy a version; one that crashes ends in a rollback."""
        path = self.written(version, crashes=crashes)
        self.command("deploy-aks", "--manifests", str(path), *options, code=_ROLLED_BACK if crashes else 0)

    def written(self, version: str, *, crashes: bool) -> Path:
        """The manifests of a version."""
        objects = self.objects(version)
        if crashes:
            container = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"][
                "containers"
            ][0]
            container["command"] = ["/bin/sh", "-c", "exit 3"]
        return self.write(objects)


Way = tuple[str, Callable[[], None], set[str]]


def ways(app: Ways) -> Iterator[Way]:
    """Name, what is done, and the versions that may answer meanwhile; each starts where the one before ended."""
    yield "rolling", lambda: app.bring("v2"), {"v1", "v2"}
    yield "automatic rollback", lambda: app.bring("bad", crashes=True), {"v2"}
    yield "rollback", lambda: app.command("rollback"), {"v1", "v2"}
    if not app.host:
        yield "blue-green", lambda: app.bring("v3", "--strategy", "blue-green"), {"v1", "v3"}
        yield "blue-green again", lambda: app.bring("v4", "--strategy", "blue-green"), {"v3", "v4"}
        yield "rollback of blue-green", lambda: app.command("rollback"), {"v3", "v4"}
        yield "back to rolling", lambda: app.bring("v1"), {"v3", "v1"}
    yield "canary 25, 50, 100", lambda: app.bring("v5", *_CANARY, "--steps", "25, 50, 100"), {"v1", "v5"}
    yield "canary that crashes", lambda: app.bring("bad", *_CANARY, "--steps", "50", crashes=True), {"v5"}
    yield "canary that waits", lambda: app.bring("v6", *_CANARY, "--steps", "50"), {"v5", "v6"}
    yield "reject", lambda: app.command("deploy-aks", "--action", "reject"), {"v5", "v6"}
    yield "canary that waits again", lambda: app.bring("v7", *_CANARY, "--steps", "50"), {"v5", "v7"}
    yield "promote", lambda: app.command("deploy-aks", "--action", "promote"), {"v5", "v7"}


def watched(app: Ways, way: Way, rate: float) -> None:
    """Go one way under the eyes of users; a line of what they saw."""
    name, work, right = way
    started = time.monotonic()
    with ExitStack() as stack:
        users = [stack.enter_context(clients(app.url(), rate / 2, app.host, keep=keep)) for keep in (False, True)]
        work()
        taken = time.monotonic() - started
        time.sleep(_AFTERWARDS)
    answers = [words for one in users for _, words in one.times]
    failed = [words for words in answers if words.startswith("failed")]
    wrong = [words for words in answers if words not in right and not words.startswith("failed")]
    print(f"{name:<26}{taken:>8.1f}{len(answers):>9}{len(failed):>9}{len(wrong):>9}", flush=True)
    for words in sorted({*failed, *wrong})[:3]:
        print(f"    {words}")


def main() -> None:
    """A line for each way."""
    options_of = parser(__doc__)
    options_of.add_argument("--rate", type=float, default=200)
    options_of.add_argument("--gateway", default="")
    options = options_of.parse_args()
    with lasting(Ways, options) as app:
        app.bring("v1")
        print(f"{f'{options.rate:g} requests a second':<26}{'seconds':>8}{'sent':>9}{'failed':>9}{'wrong':>9}")
        for way in ways(app):
            watched(app, way, options.rate)


if __name__ == "__main__":
    main()
