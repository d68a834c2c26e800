"""The one node: gives each pod a runner, and answers for its logs."""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from . import podspec
from .admission import Admission, stamp
from .engine import THREADS, Engine, EngineError
from .errors import ApiError, bad_request
from .kinds import NODE, POD, Object
from .runner import Runner
from .store import Change, place

NAME = "stand-in"
LABEL = "ml-deploy.stand-in"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Node:
    """What scheduler and kubelet do, on the Docker engine of this machine."""

    def __init__(self, admission: Admission, engine: Engine, state: Path) -> None:
        self.admission, self.store, self.engine, self.state = admission, admission.store, engine, state
        self.label = f"{LABEL}={state}"
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, force_close=True))
        self.runners: dict[str, Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.store.listeners.append(self._changed)

    def register(self) -> None:
        """The object of this one node."""
        have = {**{name: str(value) for name, value in podspec.capacity().items()}, "pods": str(THREADS)}
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": NAME}
        node = self.admission.create(NODE, {"metadata": {"name": NAME, "labels": labels}, "spec": {}})
        status = {"capacity": have, "allocatable": have, "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                  "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp()}],
                  "nodeInfo": {"architecture": ARCHITECTURES.get(platform.machine(), ""), "operatingSystem": "linux"}}  # fmt: skip
        self.admission.status(NODE, node, status)

    def _changed(self, change: Change) -> None:
        if change.kind is not POD:
            return
        pod, runner = change.object, self.runners.get(change.object["metadata"]["uid"])
        if change.type == "ADDED":
            asyncio.get_running_loop().call_soon(self._schedule, pod)
        elif change.type == "DELETED" and runner:
            task = asyncio.ensure_future(self.runners.pop(pod["metadata"]["uid"]).remove())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif runner and "deletionTimestamp" in pod["metadata"]:
            runner.terminate(pod["metadata"]["deletionGracePeriodSeconds"])

    def _schedule(self, pod: Object) -> None:
        why = podspec.unschedulable(pod["spec"])
        condition = {"type": "PodScheduled", "status": "False" if why else "True", "lastTransitionTime": stamp()}
        condition |= {"reason": "Unschedulable", "message": why} if why else {}
        status = {"phase": "Pending", "conditions": [condition]}
        spec = pod["spec"] if why else {**pod["spec"], "nodeName": NAME}
        if not (live := self.store.get(POD, *place(pod))):
            return
        pod = self.store.put(POD, {**live, "spec": spec, "status": status})
        if why:
            self.admission.event(pod, "Warning", "FailedScheduling", why)
            return
        self.admission.event(pod, "Normal", "Scheduled", f"Successfully assigned {'/'.join(place(pod))} to {NAME}")
        self.runners[pod["metadata"]["uid"]] = Runner(self, pod)

    async def logs(self, pod: Object, query: dict[str, str]) -> AsyncIterator[bytes]:
        """A container's log. Raises ApiError in a real server's words when there is none."""
        name, runner = pod["metadata"]["name"], self.runners.get(pod["metadata"]["uid"])
        container = query.get("container") or pod["spec"]["containers"][0]["name"]
        if container not in [one["name"] for one in pod["spec"]["containers"]]:
            raise bad_request(f"container {container} is not valid for pod {name}")
        found = runner.containers[container] if runner else None
        previous, following = query.get("previous") == "true", query.get("follow") == "true"
        id_ = (found.last_id if previous else found.id or found.last_id) if found else ""
        if previous and not id_:
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        if found is None or not id_:
            why = ((found.state if found else {}).get("waiting") or {}).get("reason", "ContainerCreating")
            why = "trying and failing to pull image" if "ImagePull" in why else why
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        tail = int(query["tailLines"]) if "tailLines" in query else "all"
        times = query.get("timestamps") == "true"
        try:
            return await self.engine.logs(id_, tail=tail, follow=following, timestamps=times)
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
