"""Start the Kubernetes stand-in: python scripts/local/kube/main.py --state DIR [--port N].

Writes DIR/kubeconfig when it is ready, serves until SIGTERM or SIGINT, then removes its containers.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import secrets
import signal
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from local import serving
from local.kube.admission import Admission
from local.kube.api import Api
from local.kube.controllers import Controllers
from local.kube.engine import Engine, EngineError
from local.kube.kinds import NAMESPACE
from local.kube.node import Node
from local.kube.reach import Reach
from local.kube.store import Store


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description="A stand-in for Kubernetes on the Docker engine of this machine.")
    parser.add_argument("--state", type=Path, required=True, help="folder for the kubeconfig and the pods' volumes")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    options = parser.parse_args()
    state = options.state.resolve()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(state / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            asyncio.run(_serve(state, options.port))
        except BlockingIOError:
            sys.exit(f"kube stand-in: already running in {state}")
        except EngineError as error:
            sys.exit(f"kube stand-in: {error}")


async def _serve(state: Path, port: int) -> None:
    loop, engine, token = asyncio.get_running_loop(), Engine(), secrets.token_hex(16)
    admission = Admission(Store(), loop)
    node, reach = Node(admission, engine, state), Reach(admission)
    Controllers(admission, loop)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    authority, kubeconfig = serving.Authority(state), state / "kubeconfig"
    try:
        await node.clean()  # what a killed one left behind
        for name in ("default", "kube-system"):
            admission.create(NAMESPACE, {"metadata": {"name": name}})
        node.register()
        app = Api(admission, node, reach, token).application()
        async with serving.served(app, port, authority.server()) as bound:
            serving.write(kubeconfig, serving.kubeconfig(f"https://127.0.0.1:{bound}", authority.ca, {"token": token}))
            print(f"kube stand-in: {kubeconfig}", flush=True)
            await stop.wait()
            kubeconfig.unlink(missing_ok=True)
    finally:
        await node.close()
        await reach.close()
        engine.close()


if __name__ == "__main__":
    main()
