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
from local.kube.events import Recorder
from local.kube.kinds import NAMESPACE
from local.kube.node import Node
from local.kube.reach import Reach
from local.kube.store import Store


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description="A stand-in for Kubernetes on the Docker engine of this machine.")
    parser.add_argument("--state", type=Path, required=True, help="folder for the kubeconfig and the pods' volumes")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--registry-config", type=Path, help="docker config.json with credentials for image pulls")
    options = parser.parse_args()
    state = options.state.resolve()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(state / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            asyncio.run(_serve(state, options.port, options.registry_config))
        except BlockingIOError:
            sys.exit(f"kube stand-in: already running in {state}")
        except EngineError as error:
            sys.exit(f"kube stand-in: {error}")
    return 0


async def _serve(state: Path, port: int, registry_config: Path | None) -> None:
    loop, engine, store = asyncio.get_running_loop(), Engine(), Store()
    admission = Admission(store, loop.call_soon)
    recorder = Recorder(store, admission)
    node = Node(store, admission, recorder, engine, state, registry_config)
    reach = Reach(store, admission, recorder, loop)
    Controllers(store, admission, recorder, loop)
    try:
        await node.clean()  # what a killed one left behind
        await engine.ensure_pause()
        for name in ("default", "kube-system"):
            admission.create(NAMESPACE, {"metadata": {"name": name}})
        token = secrets.token_hex(16)
        await _answer(state, port, token, Api(store, admission, node, reach, token))
    finally:
        await node.close()
        await reach.close()
        await engine.close()


async def _answer(state: Path, port: int, token: str, api: Api) -> None:
    """Serve until a signal comes; the kubeconfig is there as long as that."""
    authority, kubeconfig, stop = serving.Authority(state), state / "kubeconfig", asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving.served(api.application(), port, authority.server()) as bound:
        serving.write(kubeconfig, serving.kubeconfig(f"https://127.0.0.1:{bound}", authority.ca, {"token": token}))
        print(f"kube stand-in: {kubeconfig}", flush=True)
        try:
            await stop.wait()
        finally:
            kubeconfig.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
