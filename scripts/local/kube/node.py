"""The one node: gives each pod a runner, and answers for its logs."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from . import podspec
from .admission import Admission, stamp
from .engine import Engine, EngineError
from .errors import ApiError, bad_request
from .events import Recorder
from .kinds import POD, SECRET, Object
from .runner import Runner
from .store import Change, Store

NAME = "stand-in"
LABEL = "ml-deploy.stand-in"


class Node:
    """What scheduler and kubelet do, on the Docker engine of this machine."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        recorder: Recorder,
        engine: Engine,
        state: Path,
        registry_config: Path | None,
    ) -> None:
        self.store, self.admission, self.recorder, self.engine, self.state = store, admission, recorder, engine, state
        self.label = f"{LABEL}={state}"
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, force_close=True))
        self._registry_config = registry_config
        self.runners: dict[str, Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        store.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.kind is not POD:
            return
        uid, pod = change.object["metadata"]["uid"], change.object
        if change.type == "ADDED":
            asyncio.get_running_loop().call_soon(self._schedule, pod)
        elif change.type == "DELETED" and uid in self.runners:
            self._keep(self.runners.pop(uid).remove())
        elif pod["metadata"].get("deletionTimestamp") and uid in self.runners:
            self.runners[uid].terminate(pod["metadata"]["deletionGracePeriodSeconds"])

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _schedule(self, pod: Object) -> None:
        pod = self.store.get(POD, pod["metadata"]["namespace"], pod["metadata"]["name"]) or pod
        why = podspec.unschedulable(pod["spec"])
        condition = {"type": "PodScheduled", "status": "False" if why else "True", "lastProbeTime": None,
                     "lastTransitionTime": stamp()}  # fmt: skip
        if why:
            self.recorder.event(pod, "Warning", "FailedScheduling", why)
            condition |= {"reason": "Unschedulable", "message": why}
        status = {"phase": "Pending", "qosClass": "Burstable", "conditions": [condition]}
        spec = pod["spec"] if why else {**pod["spec"], "nodeName": NAME}
        pod = self.store.put(POD, {**pod, "spec": spec, "status": status})
        if not why:
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            self.recorder.event(pod, "Normal", "Scheduled", f"Successfully assigned {where} to {NAME}")
            self.runners[pod["metadata"]["uid"]] = Runner(self, pod)

    def lookup(self, namespace: str) -> podspec.Lookup:
        """Reads config maps and secrets of a namespace."""
        return lambda kind, name: self.store.get(kind, namespace, name)

    def pull_auth(self, pod: Object, image: str) -> dict[str, str] | None:
        """Credentials for an image: the pod's own secrets first, then the node's file (as a kubelet's identity)."""
        configs: list[Object] = []
        for ref in pod["spec"].get("imagePullSecrets") or []:
            secret = self.store.get(SECRET, pod["metadata"]["namespace"], ref.get("name", ""))
            if secret and ".dockerconfigjson" in (secret.get("data") or {}):
                configs.append(json.loads(base64.b64decode(secret["data"][".dockerconfigjson"])))
        if self._registry_config and self._registry_config.exists():
            configs.append(json.loads(self._registry_config.read_text()))
        return podspec.pull_auth(image.partition("/")[0], configs)

    async def logs(self, pod: Object, container: str, query: dict[str, str]) -> AsyncIterator[bytes]:
        """A container's log. Raises ApiError in a real server's words when there is none."""
        runner = self.runners.get(pod["metadata"]["uid"])
        name = pod["metadata"]["name"]
        found = runner.containers.get(container) if runner else None
        if container not in [
            one["name"] for one in (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or []))
        ]:
            raise bad_request(f"container {container} is not valid for pod {name}")
        previous = query.get("previous") in ("true", "1")
        id_ = (found.last_id if previous else found.id or found.last_id) if found else ""
        if not id_ and previous:
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        if not id_:
            why = (found.state.get("waiting") or {}).get("reason", "ContainerCreating") if found else "PodInitializing"
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        try:
            return await self.engine.logs(
                id_, tail=query.get("tailLines", "all"), follow=int(query.get("follow") == "true" and not previous),
                timestamps=int(query.get("timestamps") == "true"),
            )  # fmt: skip
        except EngineError as error:
            raise ApiError(500, "InternalError", f"the engine has no log: {error}") from error

    async def clean(self) -> None:
        """Remove all containers and volumes of this state folder."""
        await self.engine.remove_labelled(self.label)
        shutil.rmtree(self.state / "pods", ignore_errors=True)

    async def close(self) -> None:
        """Stop everything and leave nothing behind."""
        for runner in self.runners.values():
            runner.stop()
        await self.clean()
        await self.http.close()
