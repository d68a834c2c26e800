"""One pod: its containers on the engine, started, probed, restarted, and ended in good order."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import podspec
from .admission import stamp
from .engine import EngineError
from .kinds import POD, Object
from .podspec import ConfigError
from .probes import Asked
from .store import place

if TYPE_CHECKING:
    from .node import Node

BACKOFF, BACKOFF_LIMIT = 10, 300
CALM_SECONDS = 600  # a container that ran this long starts without a wait again


@dataclass
class Container:
    """What is known of one container."""

    spec: Object
    image: Object = field(default_factory=dict)
    id: str = ""
    last_id: str = ""
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    probes: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def status(self) -> Object:
        """As in `status.containerStatuses`."""
        digest = (self.image.get("RepoDigests") or [self.image.get("Id", "")])[0]
        ids = {"containerID": f"docker://{self.id or self.last_id}"} if self.id or self.last_id else {}
        return {"name": self.name, "state": self.state, "lastState": self.last, "ready": self.ready, **ids,
                "restartCount": self.restarts, "image": self.spec["image"], "imageID": digest, "started": self.started}  # fmt: skip


class Runner:
    """Runs one pod from its assignment to its removal."""

    def __init__(self, node: Node, pod: Object) -> None:
        self.node, self.pod, self.engine = node, pod, node.engine
        self.ip = ""
        self.folder: Path = node.state / "pods" / pod["metadata"]["uid"]
        self.volumes: dict[str, Path] = {}
        self.containers = {one["name"]: Container(one) for one in pod["spec"]["containers"]}
        self._policy = pod["spec"]["restartPolicy"]
        self._ending: asyncio.Task[None] | None = None
        self._task = asyncio.ensure_future(self._run())

    def event(self, type_: str, reason: str, message: str, one: Container | None = None) -> None:
        self.node.admission.event(self.pod, type_, reason, message, f"spec.containers{{{one.name}}}" if one else "")

    def _lookup(self) -> podspec.Lookup:
        return lambda kind, name: self.node.store.get(kind, self.pod["metadata"]["namespace"], name)

    async def _run(self) -> None:
        self.publish()
        try:
            await self._mount()
            await asyncio.gather(*(self._live(one) for one in self.containers.values()))
        except EngineError as error:
            self.event("Warning", "FailedCreatePodSandBox", f"The engine refused: {error}")

    async def _mount(self) -> None:
        self.folder.mkdir(parents=True)
        while True:
            try:
                if self.pod["spec"].get("initContainers"):
                    raise ConfigError("the stand-in has no init containers", "FailedMount")
                self.volumes = podspec.write_volumes(self.pod, self.folder, self._lookup())
                return
            except ConfigError as error:
                self.event("Warning", error.reason, str(error))
                await asyncio.sleep(2)

    async def _network(self, one: Container) -> str:
        """The first container has the pod's address; the others wait for it and join."""
        first = next(iter(self.containers.values()))
        while one is not first and not first.id:
            await asyncio.sleep(0.2)
        return "default" if one is first else f"container:{first.id}"

    def _labels(self, container: str) -> dict[str, str]:
        key, _, value = self.node.label.partition("=")
        names = zip(("namespace", "name"), place(self.pod), strict=True)
        labels = {f"io.kubernetes.pod.{part}": text for part, text in names}
        return {**labels, key: value, "io.kubernetes.container.name": container}

    def _name(self, container: str, attempt: int) -> str:
        return "_".join(["k8s", container, *reversed(place(self.pod)), self.pod["metadata"]["uid"], str(attempt)])

    async def _live(self, one: Container) -> None:
        """Start a container again and again as the restart policy says."""
        delay = 0
        while True:
            await self._image(one)
            begin = time.monotonic()
            one.state = {"terminated": await self._attempt(one, await self._config(one))}
            one.ready = one.started = False
            self.publish()
            if self._policy == "Never" or (self._policy == "OnFailure" and not one.state["terminated"]["exitCode"]):
                return
            one.last = one.state
            delay = 0 if time.monotonic() - begin > CALM_SECONDS else delay
            if delay:
                await self._back_off(one, delay)
            delay = min(max(delay * 2, BACKOFF), BACKOFF_LIMIT)
            one.restarts += 1

    async def _back_off(self, one: Container, delay: int) -> None:
        pod = f"{'_'.join(reversed(place(self.pod)))}({self.pod['metadata']['uid']})"
        for_ = f"{delay // 60}m{delay % 60}s" if delay >= 60 else f"{delay}s"
        self._wait(one, "CrashLoopBackOff", f"back-off {for_} restarting failed container={one.name} pod={pod}")
        self.event("Warning", "BackOff", f"Back-off restarting failed container {one.name} in pod {pod}", one)
        await asyncio.sleep(delay)

    def _wait(self, one: Container, reason: str, message: str) -> None:
        one.state = {"waiting": {"reason": reason, "message": message}}
        self.publish()

    async def _image(self, one: Container) -> None:
        """Have the image, pulling it with back-off."""
        image, delay = one.spec["image"], BACKOFF
        while True:
            try:
                found = await self.engine.image(image)
                if not found and one.spec["imagePullPolicy"] != "Never":
                    self.event("Normal", "Pulling", f'Pulling image "{image}"', one)
                    await self.engine.pull(image)
                    self.event("Normal", "Pulled", f'Successfully pulled image "{image}"', one)
                    found = await self.engine.image(image)
                if found:
                    one.image = found
                    return
                reason, message = "ErrImageNeverPull", f'"{image}" is not present with pull policy of Never'
            except EngineError as error:
                reason = "InvalidImageName" if error.code == 400 else "ErrImagePull"
                message = f'Failed to pull image "{image}": {error}'
            await self._image_back_off(one, reason, message, delay)
            delay = min(delay * 2, BACKOFF_LIMIT)

    async def _image_back_off(self, one: Container, reason: str, message: str, delay: int) -> None:
        self._wait(one, reason, message)
        self.event("Warning", "Failed", message, one)
        self.event("Warning", "Failed", f"Error: {reason}", one)
        await asyncio.sleep(1)
        if reason == "ErrImagePull":
            why = f'Back-off pulling image "{one.spec["image"]}"'
            self._wait(one, "ImagePullBackOff", f"{why}: ErrImagePull: {message}")
            self.event("Normal", "BackOff", why, one)
        await asyncio.sleep(delay)

    def _message(self, one: Container) -> Path:
        return self.folder / f"{one.name}.{one.restarts}.message"

    async def _config(self, one: Container) -> Object:
        """The engine's configuration, once everything that it refers to is there."""
        pod = {**self.pod, "status": {"podIP": self.ip}}
        while True:
            try:
                env = podspec.environment(pod, one.spec, self._lookup())
                self._message(one).touch()
                self._message(one).chmod(0o666)
                config = podspec.container_config(pod, one.spec, one.image, self.volumes, env, self._message(one))
                config["HostConfig"]["NetworkMode"] = await self._network(one)
                return {**config, "Labels": self._labels(one.name)}
            except ConfigError as error:
                self._wait(one, error.reason, str(error))
                self.event("Warning", "Failed", f"Error: {error}", one)
                await asyncio.sleep(5)

    async def _find_address(self) -> None:
        """The pod's address: a new one whenever its first container starts."""
        first = next(iter(self.containers.values()))
        if first.id:
            found = (await self.engine.call("inspect_container", first.id))["NetworkSettings"]["Networks"]
            self.ip = next(iter(found.values()))["IPAddress"]

    async def _attempt(self, one: Container, config: Object) -> Object:
        """Run a container until it ends; its terminated state."""
        if one.last_id:
            await self.engine.remove(one.last_id)
        one.last_id, one.id = one.id, ""
        begin = stamp()
        try:
            one.id = await self.engine.run(self._name(one.name, one.restarts), config)
            await self._find_address()
        except EngineError as error:
            self.event("Warning", "Failed", f"Error: {error}", one)
            why = {"exitCode": 128, "reason": "StartError", "message": str(error)}
            return {**why, "startedAt": begin, "finishedAt": stamp()}
        self.event("Normal", "Started", f"Container started: {one.name}", one)
        one.state = {"running": {"startedAt": begin}}
        self._probe(one, "startupProbe") if "startupProbe" in one.spec else self._after_startup(one)
        self.publish()
        try:
            await self.engine.call("wait", one.id)
        finally:
            while one.probes:
                one.probes.pop().cancel()
        state = (await self.engine.call("inspect_container", one.id))["State"]
        reason = "OOMKilled" if state["OOMKilled"] else "Error" if state["ExitCode"] else "Completed"
        message = self._message(one).read_text(errors="replace")[:4096]
        return {"exitCode": state["ExitCode"], "reason": reason, "startedAt": begin, "finishedAt": stamp(),
                "containerID": f"docker://{one.id}", **({"message": message} if message else {})}  # fmt: skip

    # probes

    def _after_startup(self, one: Container) -> None:
        one.started, one.ready = True, "readinessProbe" not in one.spec
        for which in one.spec.keys() & {"readinessProbe", "livenessProbe"}:
            self._probe(one, which)

    def _probe(self, one: Container, which: str) -> None:
        one.probes.append(asyncio.ensure_future(self._watch(one, which, one.spec[which])))

    def _asked(self, one: Container) -> Asked:
        return Asked(self.node.http, self.engine, one.id, self.ip, one.spec)

    async def _watch(self, one: Container, which: str, probe: Object) -> None:
        good = bad = 0
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            why = await self._asked(one).ask(probe, probe["timeoutSeconds"])
            good, bad = (0, bad + 1) if why else (good + 1, 0)
            if why:
                word = which.removesuffix("Probe").capitalize()
                self.event("Warning", "Unhealthy", f"{word} probe failed: {why}", one)
            passed, failed = good >= probe["successThreshold"], bad >= probe["failureThreshold"]
            if which == "readinessProbe" and (passed or failed) and one.ready != passed:
                one.ready = passed
                self.publish()
            elif which == "startupProbe" and passed:
                self._after_startup(one)
                self.publish()
                return None
            elif which != "readinessProbe" and failed:
                return await self._unhealthy(one, which)
            await asyncio.sleep(probe["periodSeconds"])

    async def _unhealthy(self, one: Container, which: str) -> None:
        word = which.removesuffix("Probe")
        self.event("Normal", "Killing", f"Container {one.name} failed {word} probe, will be restarted", one)
        await self._stop(one, self.pod["spec"]["terminationGracePeriodSeconds"])

    # the end

    async def _stop(self, one: Container, grace: float) -> None:
        """preStop, then the stop signal, then no more patience."""
        begin = time.monotonic()
        hook = (one.spec.get("lifecycle") or {}).get("preStop") or {}
        if why := await self._asked(one).ask(hook, max(grace, 1)):
            self.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {why}", one)
        left = grace - (time.monotonic() - begin)
        try:
            await self.engine.call("stop", one.id, timeout=int(max(left, 2 if grace else 0)))
        except EngineError:
            pass  # it ended meanwhile

    def stop(self) -> None:
        """Do nothing more."""
        probes = [task for one in self.containers.values() for task in one.probes]
        for task in (self._task, *([self._ending] if self._ending else []), *probes):
            if task is not asyncio.current_task():
                task.cancel()

    def terminate(self, grace: int) -> None:
        """Begin the end of the pod, once."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._terminate(grace))

    async def _terminate(self, grace: int) -> None:
        self._task.cancel()
        running = [one for one in self.containers.values() if "running" in one.state]
        for one in running:
            self.event("Normal", "Killing", f"Stopping container {one.name}", one)
        await asyncio.gather(*(self._stop(one, grace) for one in running))
        self.node.store.remove(POD, *place(self.pod))

    async def remove(self) -> None:
        """Take everything of the pod away."""
        self.stop()
        for id_ in [id_ for one in self.containers.values() for id_ in (one.id, one.last_id) if id_]:
            await self.engine.remove(id_)
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self) -> None:
        """Write the pod's status."""
        live = self.node.store.get(POD, *place(self.pod)) or self.pod
        before = {one["type"]: one for one in live["status"].get("conditions") or []}
        ready = all(one.ready for one in self.containers.values())
        facts = {"PodScheduled": True, "PodReadyToStartContainers": bool(self.ip), "Initialized": True,
                 "ContainersReady": ready, "Ready": ready}  # fmt: skip
        status = {"phase": self._phase(), "hostIP": "127.0.0.1", "startTime": live["status"].get("startTime", stamp()),
                  "conditions": [self._condition(name, value, before.get(name)) for name, value in facts.items()],
                  "containerStatuses": [one.status() for one in self.containers.values()]}  # fmt: skip
        status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]} if self.ip else {}
        self.node.admission.status(POD, self.pod, status)

    def _condition(self, name: str, value: bool, before: Object | None) -> Object:
        if before and before["status"] == str(value):
            return before
        found = {"type": name, "status": str(value), "lastTransitionTime": stamp()}
        if not value and name in ("Ready", "ContainersReady"):
            unready = " ".join(one.name for one in self.containers.values() if not one.ready)
            found |= {"reason": "ContainersNotReady", "message": f"containers with unready status: [{unready}]"}
        return found

    def _phase(self) -> str:
        states = [one.state for one in self.containers.values()]
        codes = [state["terminated"]["exitCode"] for state in states if "terminated" in state]
        if len(codes) == len(states) and (self._policy == "Never" or (self._policy == "OnFailure" and not any(codes))):
            return "Failed" if any(codes) else "Succeeded"
        return "Running" if any(one.id or one.last_id for one in self.containers.values()) else "Pending"
