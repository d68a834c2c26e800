"""A run that is killed: deploys or rolls back as the commands do, and SIGKILLs itself at the N-th write.

usage: dying.py SCRIPTS_DIR KUBECONFIG NAMESPACE before|after N rollback
       dying.py SCRIPTS_DIR KUBECONFIG NAMESPACE before|after N STRATEGY < OBJECTS.json

Exits 0 when it came to its end with fewer writes. A run of `rollback` goes through the command itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, cast

if __name__ == "__main__":
    sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]

from tests.cluster.apps import PREDICT

from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.adapters.kube_http import Response
from ml_deploy.checks.cases import parse
from ml_deploy.commands import deploy_aks, rollback
from ml_deploy.commands.ports import Adapters
from ml_deploy.releases.cluster import Cluster, ClusterAccess
from ml_deploy.releases.deployment import Deployment, Plan
from ml_deploy.releases.lease import Lock, identity
from ml_deploy.releases.stage import CanaryPlan
from ml_deploy.runtime import fields
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job
from ml_deploy.wiring import Wiring


class Dying(ApiServer):
    """Kills its own process before or after the N-th request that changes something."""

    when, left = "after", 0

    def _send(self, method: str, path: str, body: object = None, **options: Any) -> Response:
        if method == "GET" or "selfsubject" in path or "dryRun" in str(options.get("query")):
            return super()._send(method, path, body, **options)
        self.left -= 1
        if self.left == 0 and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        response = super()._send(method, path, body, **options)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return response


class Doomed(Wiring):
    """The real wiring with a cluster that kills us."""

    def __init__(self, when: str, at: int) -> None:
        super().__init__(Console(), Job({}))
        self._when, self._at = when, at

    def cluster(self, access: ClusterAccess) -> Cluster:
        server = connect(access, lambda: sys.exit("no Azure here"), lambda _: None)
        dying = Dying(server._http)
        dying.when, dying.left = self._when, self._at
        return dying


def main(kubeconfig: str, namespace: str, when: str, at: int, what: str) -> None:
    wiring = Doomed(when, at)
    if what == "rollback":
        inputs = {"kubeconfig": kubeconfig, "namespace": namespace, "app": "web", "from-revision": "2",
                  "timeout": "60s"}  # fmt: skip
        rollback.run(fields.read(rollback.Inputs, inputs), cast(Adapters, wiring))
        return
    if what in ("promote", "reject"):
        inputs = {"kubeconfig": kubeconfig, "namespace": namespace, "app": "web", "action": what, "revision": "2"}
        deploy_aks.run(fields.read(deploy_aks.Inputs, inputs), cast(Adapters, wiring))
        return
    cluster = wiring.cluster(ClusterAccess(kubeconfig=kubeconfig, namespace=namespace))
    case = parse(json.dumps({"path": PREDICT, "method": "GET", "status": 200}), 1)
    plan = Plan(
        app="web", objects=json.load(sys.stdin), strategy=what, cases=[case], canary=CanaryPlan(steps=(50, 100))
    )
    with Lock(cluster, namespace, "web", holder=identity(), clock=time, tell=print).held(wait=60):
        Deployment(cluster, plan, clock=time, until=time.monotonic() + 60, tell=print).run()


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6])
