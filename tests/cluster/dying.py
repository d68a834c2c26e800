"""A command that is killed: run as main.py runs it, it SIGKILLs itself before or after its N-th write.

usage: dying.py before|after N COMMAND          (inputs in the environment, as main.py has them)
       dying.py before|after "DELETE /apis" COMMAND     at the first write that begins so

Each write is printed. A run with fewer writes ends as the command does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2] / "scripts")

from ml_deploy import commands
from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.adapters.kube_http import Response
from ml_deploy.errors import MlDeployError
from ml_deploy.releases.cluster import Cluster, ClusterAccess
from ml_deploy.runtime import fields, options
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job
from ml_deploy.wiring import Wiring


class Dying(ApiServer):
    """Kills its own process before or after the N-th request that changes something."""

    when, at, writes = "", "", 0

    def _send(self, method: str, path: str, body: object = None, **options: Any) -> Response:
        harmless = method == "GET" or "selfsubject" in path or "dryRun" in (options.get("query") or {})
        if harmless or threading.current_thread() is not threading.main_thread():  # which renews the lock
            return super()._send(method, path, body, **options)
        self.writes += 1
        print(f"write {self.writes}: {method} {path}")
        due = self.at == str(self.writes) or f"{method} {path}".startswith(self.at)
        self._die("before", due)
        response = super()._send(method, path, body, **options)
        self._die("after", due)
        return response

    def _die(self, moment: str, due: bool) -> None:
        if due and self.when == moment:
            os.kill(os.getpid(), signal.SIGKILL)


class Doomed(Wiring):
    """The real wiring with a cluster that kills us."""

    def cluster(self, access: ClusterAccess) -> Cluster:
        server = connect(access, lambda: sys.exit("no Azure here"), lambda _: None)
        dying = Dying(server._http)
        dying.when, dying.at = sys.argv[1], sys.argv[2]
        return dying


def main(command: str) -> int:
    module = commands.load(command)
    inputs = fields.read(module.Inputs, options.values(module.Inputs, [], os.environ))
    try:
        module.run(inputs, Doomed(Console(), Job(os.environ)))
    except MlDeployError as error:
        print(error.message, error.hint, sep="\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[3]))
