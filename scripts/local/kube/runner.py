"""One pod: its containers on the engine, started, probed, restarted, and ended in good order."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import podspec
from .admission import stamp
from .engine import PAUSE_IMAGE, EngineError
from .kinds import POD, Object
from .podspec import ConfigError
from .probes import act, check

if TYPE_CHECKING:
    from .node import Node

PULL_BACKOFF = (10, 300)
CRASH_BACKOFF = (10, 300)
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

    def status(self) -> Object:
        """As in `status.containerStatuses`."""
        digest = (self.image.get("RepoDigests") or [self.image.get("Id", "")])[0]
        return {"name": self.spec["name"], "state": self.state, "lastState": self.last, "ready": self.ready,
                "restartCount": self.restarts, "image": self.spec["image"], "imageID": digest, "started": self.started,
                **({"containerID": f"docker://{self.id or self.last_id}"} if self.id or self.last_id else {})}  # fmt: skip


class Runner:
    """Runs one pod from its assignment to its removal."""

    def __init__(self, node: Node, pod: Object) -> None:
        self.node, self.pod, self.engine = node, pod, node.engine
        self.ip = ""
        self.sandbox = ""
        self.folder = node.state / "pods" / pod["metadata"]["uid"]
        self.volumes: dict[str, Path] = {}
        self.init = {one["name"]: Container(one) for one in pod["spec"].get("initContainers") or []}
        self.main = {one["name"]: Container(one) for one in pod["spec"]["containers"]}
        self.initialized = not self.init
        self._probes: dict[str, list[asyncio.Task[None]]] = {}
        self._ending: asyncio.Task[None] | None = None
        self._task = asyncio.ensure_future(self._run())

    @property
    def containers(self) -> dict[str, Container]:
        return {**self.init, **self.main}

    def event(self, type_: str, reason: str, message: str, container: Container | None = None) -> None:
        where = f"spec.containers{{{container.spec['name']}}}" if container else ""
        self.node.recorder.event(self.pod, type_, reason, message, where)

    async def _run(self) -> None:
        try:
            self.publish()
            await self._mount()
            await self._network()
            for one in self.init.values():
                if await self._live(one, init=True):
                    return
            self.initialized = True
            await asyncio.gather(*(self._live(one) for one in self.main.values()))
        except EngineError as error:
            self.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")

    async def _mount(self) -> None:
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lookup = self.node.lookup(self.pod["metadata"]["namespace"])
                self.volumes = podspec.write_volumes(self.pod, self.folder, lookup)
                return
            except ConfigError as error:
                self.event("Warning", error.reason, str(error))
                await asyncio.sleep(2)

    async def _network(self) -> None:
        """The container that holds the pod's address while its other containers come and go."""
        name = self.pod["metadata"]["name"]
        config = {"Image": PAUSE_IMAGE, "Cmd": ["/pause"], "Hostname": name[:63], "Labels": self._labels("POD")}
        self.sandbox = await self.engine.run(self._name("POD", 0), config)
        found = (await self.engine.call("GET", f"/containers/{self.sandbox}/json"))["NetworkSettings"]
        self.ip = found["IPAddress"] or next(iter(found["Networks"].values()))["IPAddress"]
        self.publish()

    def _labels(self, container: str) -> dict[str, str]:
        key, _, value = self.node.label.partition("=")
        metadata = self.pod["metadata"]
        return {key: value, "io.kubernetes.pod.name": metadata["name"], "io.kubernetes.container.name": container,
                "io.kubernetes.pod.namespace": metadata["namespace"]}  # fmt: skip

    def _name(self, container: str, attempt: int) -> str:
        metadata = self.pod["metadata"]
        return f"k8s_{container}_{metadata['name']}_{metadata['namespace']}_{metadata['uid']}_{attempt}"

    async def _live(self, one: Container, init: bool = False) -> int:
        """Start a container again and again as the restart policy says; its last exit code."""
        delay, policy = 0, self.pod["spec"]["restartPolicy"]
        while True:
            await self._image(one)
            begin = asyncio.get_running_loop().time()
            ended = await self._attempt(one, await self._config(one))
            one.ready = one.started = False
            one.state = {"terminated": ended}
            code = int(ended["exitCode"])
            one.ready = init and code == 0
            self.publish()
            if policy == "Never" or (code == 0 and (init or policy == "OnFailure")):
                return code
            one.last = one.state
            delay = 0 if asyncio.get_running_loop().time() - begin > CALM_SECONDS else delay
            if delay:
                await self._back_off(one, delay)
            delay = min(max(delay * 2, CRASH_BACKOFF[0]), CRASH_BACKOFF[1])
            one.restarts += 1

    async def _back_off(self, one: Container, delay: int) -> None:
        where = f"{self.pod['metadata']['name']}_{self.pod['metadata']['namespace']}({self.pod['metadata']['uid']})"
        message = f"back-off {_duration(delay)} restarting failed container={one.spec['name']} pod={where}"
        self.wait(one, "CrashLoopBackOff", message)
        self.event("Warning", "BackOff", f"Back-off restarting failed container {one.spec['name']} in pod {where}", one)
        await asyncio.sleep(delay)

    def wait(self, one: Container, reason: str, message: str) -> None:
        one.state = {"waiting": {"reason": reason, "message": message}}
        self.publish()

    async def _image(self, one: Container) -> None:
        """Have the image, pulling it with back-off."""
        image, delay = one.spec["image"], PULL_BACKOFF[0]
        while True:
            try:
                found = await self.engine.image(image)
                if not found and one.spec["imagePullPolicy"] != "Never":
                    await self._pull(one, image)
                    found = await self.engine.image(image)
                if found:
                    one.image = found
                    return
                self._pull_failed(
                    one, "ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never'
                )
            except EngineError as error:
                invalid = error.code == 400
                self._pull_failed(
                    one, "InvalidImageName" if invalid else "ErrImagePull", f'Failed to pull image "{image}": {error}'
                )
            await asyncio.sleep(1)
            if one.state["waiting"]["reason"] == "ErrImagePull":
                why = one.state["waiting"]["message"]
                self.wait(one, "ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {why}')
                self.event("Normal", "BackOff", f'Back-off pulling image "{image}"', one)
            await asyncio.sleep(delay)
            delay = min(delay * 2, PULL_BACKOFF[1])

    async def _pull(self, one: Container, image: str) -> None:
        self.event("Normal", "Pulling", f'Pulling image "{image}"', one)
        await self.engine.pull(image, self.node.pull_auth(self.pod, image))
        self.event("Normal", "Pulled", f'Successfully pulled image "{image}"', one)

    def _pull_failed(self, one: Container, reason: str, message: str) -> None:
        self.wait(one, reason, message)
        self.event("Warning", "Failed", message, one)
        self.event("Warning", "Failed", f"Error: {reason}", one)

    async def _config(self, one: Container) -> Object:
        """The engine's configuration, once everything that it refers to is there."""
        while True:
            try:
                pod = {**self.pod, "status": {"podIP": self.ip}}
                env = podspec.environment(pod, one.spec, self.node.lookup(pod["metadata"]["namespace"]))
                message = self.folder / f"{one.spec['name']}.{one.restarts}.message"
                message.touch()
                message.chmod(0o666)
                config = podspec.container_config(pod, one.spec, one.image, self.volumes, env, message)
                config["HostConfig"]["NetworkMode"] = f"container:{self.sandbox}"
                return {**config, "Labels": self._labels(one.spec["name"])}
            except ConfigError as error:
                self.wait(one, error.reason, str(error))
                self.event("Warning", "Failed", f"Error: {error}", one)
                await asyncio.sleep(5)

    async def _attempt(self, one: Container, config: Object) -> Object:
        """Run a container until it ends; its terminated state."""
        if one.last_id:
            await self.engine.remove(one.last_id)
        one.last_id, one.id = one.id, ""
        try:
            one.id = await self.engine.run(self._name(one.spec["name"], one.restarts), config)
        except EngineError as error:
            self.event("Warning", "Failed", f"Error: {error}", one)
            return {
                "exitCode": 128,
                "reason": "StartError",
                "message": str(error),
                "startedAt": stamp(),
                "finishedAt": stamp(),
            }
        self.event("Normal", "Started", f"Container started: {one.spec['name']}", one)
        one.state = {"running": {"startedAt": stamp()}}
        self._probes[one.spec["name"]] = []
        self._after_startup(one) if "startupProbe" not in one.spec else self._probe(one, "startupProbe")
        self.publish()
        try:
            await self.engine.call("POST", f"/containers/{one.id}/wait")
        finally:
            for task in self._probes.pop(one.spec["name"], []):
                task.cancel()
        return await self._terminated(one)

    async def _terminated(self, one: Container) -> Object:
        state = (await self.engine.call("GET", f"/containers/{one.id}/json"))["State"]
        reason = "OOMKilled" if state["OOMKilled"] else "Error" if state["ExitCode"] else "Completed"
        ended = {"exitCode": state["ExitCode"], "reason": reason, "startedAt": one.state.get("running", {}).get("startedAt"),
                 "finishedAt": stamp(), "containerID": f"docker://{one.id}"}  # fmt: skip
        message = (self.folder / f"{one.spec['name']}.{one.restarts}.message").read_text(errors="replace")[:4096]
        if not message and state["ExitCode"] and one.spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            message = b"".join([chunk async for chunk in await self.engine.logs(one.id, tail=80)])[-2048:].decode(
                errors="replace"
            )
        return ended | ({"message": message} if message else {})

    # probes

    def _after_startup(self, one: Container) -> None:
        one.started = True
        one.ready = "readinessProbe" not in one.spec
        for which in ("readinessProbe", "livenessProbe"):
            if which in one.spec:
                self._probe(one, which)

    def _probe(self, one: Container, which: str) -> None:
        self._probes[one.spec["name"]].append(asyncio.ensure_future(self._watch(one, which, one.spec[which])))

    async def _watch(self, one: Container, which: str, probe: Object) -> None:
        failures = successes = 0
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            why = await check(self.node.http, self.engine, one.id, self.ip, probe, one.spec)
            successes, failures = (successes + 1, 0) if why is None else (0, failures + 1)
            if why is not None:
                word = which.removesuffix("Probe").capitalize()
                self.event("Warning", "Unhealthy", f"{word} probe failed: {why}", one)
            if successes >= probe["successThreshold"] and self._good(one, which):
                return
            if failures >= probe["failureThreshold"] and await self._bad(one, which):
                return
            await asyncio.sleep(probe["periodSeconds"])

    def _good(self, one: Container, which: str) -> bool:
        """What a passed probe changes; True when it need not be asked again."""
        if which == "startupProbe":
            self._after_startup(one)
            self.publish()
            return True
        if which == "readinessProbe" and not one.ready:
            one.ready = True
            self.publish()
        return False

    async def _bad(self, one: Container, which: str) -> bool:
        if which == "readinessProbe":
            if one.ready:
                one.ready = False
                self.publish()
            return False
        word = which.removesuffix("Probe")
        self.event("Normal", "Killing", f"Container {one.spec['name']} failed {word} probe, will be restarted", one)
        grace = one.spec[which].get("terminationGracePeriodSeconds", self.pod["spec"]["terminationGracePeriodSeconds"])
        await self._stop(one, grace)
        return True

    # the end

    async def _stop(self, one: Container, grace: float) -> None:
        """preStop, then the stop signal, then no more patience."""
        begin = asyncio.get_running_loop().time()
        if hook := (one.spec.get("lifecycle") or {}).get("preStop"):
            try:
                await asyncio.wait_for(act(self.node.http, self.engine, one.id, self.ip, hook, one.spec), max(grace, 1))
            except (asyncio.TimeoutError, EngineError, OSError) as error:
                self.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}", one)
        left = grace - (asyncio.get_running_loop().time() - begin)
        try:
            await self.engine.call("POST", f"/containers/{one.id}/stop", t=int(max(left, 2 if grace else 0)))
        except EngineError:
            pass  # it ended meanwhile

    def stop(self) -> None:
        """Do nothing more."""
        for task in (self._task, self._ending, *(task for tasks in self._probes.values() for task in tasks)):
            if task and task is not asyncio.current_task():
                task.cancel()

    def terminate(self, grace: int) -> None:
        """Begin the end of the pod, once."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._terminate(grace))

    async def _terminate(self, grace: int) -> None:
        running = [one for one in self.main.values() if "running" in one.state]
        self._task.cancel()
        for one in running:
            self.event("Normal", "Killing", f"Stopping container {one.spec['name']}", one)
        await asyncio.gather(*(self._stop(one, grace) for one in running))
        metadata = self.pod["metadata"]
        self.node.store.remove(POD, metadata["namespace"], metadata["name"])

    async def remove(self) -> None:
        """Take everything of the pod away."""
        self.stop()
        for one in self.containers.values():
            for container in (one.id, one.last_id):
                if container:
                    await self.engine.remove(container)
        if self.sandbox:
            await self.engine.remove(self.sandbox)
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self) -> None:
        """Write the pod's status."""
        live = self.node.store.get(POD, self.pod["metadata"]["namespace"], self.pod["metadata"]["name"])
        if live is None or live["metadata"]["uid"] != self.pod["metadata"]["uid"]:
            return
        before = {one["type"]: one for one in live["status"].get("conditions") or []}
        ready = all(one.ready for one in self.main.values())
        facts = {"PodScheduled": True, "PodReadyToStartContainers": bool(self.ip), "Initialized": self.initialized,
                 "ContainersReady": ready, "Ready": ready}  # fmt: skip
        status: Object = {"phase": self._phase(), "qosClass": "Burstable", "hostIP": "127.0.0.1",
                          "startTime": live["status"].get("startTime", stamp()),
                          "conditions": [self._condition(name, value, before.get(name)) for name, value in facts.items()],
                          "containerStatuses": [one.status() for one in self.main.values()]}  # fmt: skip
        if self.init:
            status["initContainerStatuses"] = [one.status() for one in self.init.values()]
        if self.ip:
            status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        self.node.admission.status(POD, self.pod, status)

    def _condition(self, name: str, value: bool, before: Object | None) -> Object:
        if before and before["status"] == str(value):
            return before
        found = {"type": name, "status": str(value), "lastProbeTime": None, "lastTransitionTime": stamp()}
        if not value and name in ("Ready", "ContainersReady"):
            unready = [one.spec["name"] for one in self.main.values() if not one.ready]
            found |= {
                "reason": "ContainersNotReady",
                "message": f"containers with unready status: [{' '.join(unready)}]",
            }
        return found

    def _phase(self) -> str:
        states = [one.state for one in self.main.values()]
        over = [state["terminated"]["exitCode"] for state in states if "terminated" in state]
        policy = self.pod["spec"]["restartPolicy"]
        if any(
            "terminated" in one.state and one.state["terminated"]["exitCode"] and policy == "Never"
            for one in self.init.values()
        ):
            return "Failed"
        if len(over) == len(states) and (policy == "Never" or (policy == "OnFailure" and not any(over))):
            return "Failed" if any(over) else "Succeeded"
        return "Running" if any(one.id or one.last_id for one in self.main.values()) else "Pending"


def _duration(seconds: int) -> str:
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
