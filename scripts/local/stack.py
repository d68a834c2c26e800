"""Starts what a run needs and this machine lacks: engine, base image, cluster, registry, Azure's stand-in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from local import base, engine, kind, serving
from local.consumer import Consumer
from local.runner import ROOT
from local.state import State, wait_until
from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.errors import MlDeployError
from ml_deploy.releases.cluster import ApiError, ClusterAccess, Ref

LOCAL = ROOT / "scripts" / "local"
NAMESPACE = "ml-deploy-try"
_PLUGINS = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/local/lib/docker/cli-plugins")

Say = Callable[[str], None]


class Problem(Exception):
    """Something that the user can mend; the text says what and how."""


@dataclass(frozen=True)
class Options:
    """What the command line says about the parts."""

    kubeconfig: Path | None = None
    kind: bool = False
    registry: str = ""
    container: bool = False

    @property
    def cluster(self) -> str:
        """Which cluster, in a word or a path."""
        return "kind" if self.kind else str(self.kubeconfig or "stand-in")


@dataclass(frozen=True)
class Ready:
    """Where everything is: repository variables and the environment for the job."""

    variables: dict[str, str]
    env: dict[str, str]
    job_image: str
    mounts: tuple[str, ...]


class Stack:
    """The parts, each started when it does not run yet, and said so."""

    def __init__(self, state: State, say: Say) -> None:
        self._state = state
        self._say = say

    def up(self, options: Options) -> Ready:
        """Start what is missing. Raises Problem."""
        self._engine()
        image = base.ensure(say=self._say)
        kubeconfig = self._cluster(options)
        azure = self._azure(kubeconfig)
        self._namespace(kubeconfig)
        inputs = azure["inputs"]
        variables = {
            "AZURE_CLIENT_ID": inputs["client-id"],
            "AZURE_TENANT_ID": inputs["tenant-id"],
            "AZURE_SUBSCRIPTION_ID": inputs["subscription-id"],
            "ACR_NAME": options.registry or inputs["registry"],
            "AKS_RESOURCE_GROUP": inputs["resource-group"],
            "AKS_CLUSTER_NAME": inputs["cluster-name"],
            "AKS_NAMESPACE": NAMESPACE,
            "DOCKER_BUILD_ARGS": "" if image == base.OFFICIAL else f"BASE_IMAGE={image}",
        }
        job_image = self._job_image(image) if options.container else ""
        return Ready(variables, azure["env"], job_image, self._mounts())

    def down(self) -> None:
        """Stop and remove what runs before have started, and nothing else."""
        self._remove_namespace()
        for name in self._state.names():
            if self._state.stop(name):
                self._say(f"Stopped: {name}")
        if self._state.recall("kind"):
            kind.delete()
            self._say("Removed: the kind cluster")
            self._state.forget("kind")
        if engine.ping()[0]:
            self._remove_containers()
            self._remove_images()
        engine.down(self._state.folder / "engine", self._say)
        shutil.rmtree(self._state.folder)
        self._say(f"Removed: {self._state.folder}")

    # -- engine and images ---------------------------------------------------------------------------

    def _engine(self) -> None:
        engine.ensure(self._state.folder / "engine", self._say)

    def _job_image(self, image: str) -> str:
        """The base image itself: it has bash and Python; the docker client comes from this machine (see `_mounts`)."""
        if not _call("docker", "image", "inspect", "--format", "{{.Id}}", image, check=False):
            self._say(f"Fetching {image}")
            _call("docker", "pull", "--quiet", image)
        return image

    def _mounts(self) -> tuple[str, ...]:
        """What the job's container sees of this machine: our state (certificates, settings), the docker client."""
        client = shutil.which("docker") or "/usr/bin/docker"
        plugins = [f"{path}:{path}:ro" for path in map(Path, _PLUGINS) if path.is_dir()]
        return (f"{self._state.folder}:{self._state.folder}", f"{client}:/usr/bin/docker:ro", *plugins)

    def _remove_containers(self) -> None:
        """What a stand-in that was killed has left; one that was stopped has none."""
        from local.kube.node import LABEL

        label = f"label={LABEL}={(self._state.folder / 'cluster').resolve()}"
        left = _call("docker", "ps", "--all", "--quiet", "--filter", label, check=False).split()
        if left:
            _call("docker", "rm", "--force", "--volumes", *left, check=False)
            self._say(f"Removed: {len(left)} containers of a stand-in that was killed")

    def _remove_images(self) -> None:
        """The example's images, known by the commits that they are named after. The base image stays, and is named."""
        commits = set(Consumer(self._state.folder / "consumer").commits())
        names = _call("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", check=False).split()
        ours = [name for name in names if name.rpartition(":")[2] in commits]
        if ours:
            _call("docker", "image", "rm", "--force", *ours, check=False)
            self._say(f"Removed: {len(ours)} names of images of the example")
        if base.DEFAULT_TAG in names:
            self._say(f"Kept: the base image ({base.DEFAULT_TAG}); remove it with docker image rm {base.DEFAULT_TAG}")

    # -- cluster ---------------------------------------------------------------------------------------

    def _cluster(self, options: Options) -> Path:
        if options.kubeconfig:
            return options.kubeconfig
        return self._kind() if options.kind else self._stand_in()

    def _stand_in(self) -> Path:
        kubeconfig = self._state.path("cluster", "kubeconfig")
        if self._runs("cluster", ""):
            return kubeconfig
        self._say("Starting a cluster: the stand-in (scripts/local/kube), pods are containers of the Docker Engine")
        kubeconfig.unlink(missing_ok=True)
        self._start("cluster", LOCAL / "kube" / "main.py", "--state", kubeconfig.parent, ready=kubeconfig, seconds=30)
        self._keep("cluster", "")
        return kubeconfig

    def _kind(self) -> Path:
        if not shutil.which("kind"):
            raise Problem(
                "`kind` is not installed: see https://kind.sigs.k8s.io, or leave --kind out for the stand-in."
            )
        kubeconfig = self._state.path("kind", "kubeconfig")
        try:
            if not kind.exists():
                self._say("Making a cluster with kind")
                self._state.note("kind", True)
                kind.create(kubeconfig)
            port = self._ports()["registry-port"]
            gateway = kind.connect(port)
        except subprocess.CalledProcessError as error:
            raise Problem(f"`{' '.join(error.cmd[:4])}` failed: {(error.stderr or '').strip()[-600:]}") from error
        if not self._state.process("kind"):
            self._state.start("kind", [sys.executable, "-E", "-s", LOCAL / "kind.py", kubeconfig, gateway, str(port)])
        return kubeconfig

    def _namespace(self, kubeconfig: Path) -> None:
        """Our namespace, made when it is missing; only one that we made is removed again."""
        ref = Ref("v1", "Namespace", "", NAMESPACE)
        with closing(_connect(kubeconfig)) as cluster:
            if cluster.get(ref) is None:
                made = cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
                noted = {**(self._state.recall("namespaces") or {}), str(kubeconfig): made.object["metadata"]["uid"]}
                self._state.note("namespaces", noted)

    def _remove_namespace(self) -> None:
        for kubeconfig, uid in (self._state.recall("namespaces") or {}).items():
            if Path(kubeconfig).is_relative_to(self._state.folder):
                continue  # the whole cluster goes
            try:
                with closing(_connect(Path(kubeconfig))) as cluster:
                    cluster.delete(Ref("v1", "Namespace", "", NAMESPACE), uid=uid)
                self._say(f"Removed: namespace {NAMESPACE} of {kubeconfig}")
            except (MlDeployError, ApiError) as error:
                self._say(f"Namespace {NAMESPACE} of {kubeconfig} could not be removed: {error}")
        self._state.forget("namespaces")

    # -- Azure and the registry --------------------------------------------------------------------------

    def _azure(self, kubeconfig: Path) -> dict[str, Any]:
        told = self._state.path("azure", "azure.json")
        cluster = sha256(kubeconfig.read_bytes()).hexdigest()
        if not self._runs("azure", cluster):
            self._say("Starting Azure's stand-in: sign-in, resource manager, and a registry of its own")
            told.unlink(missing_ok=True)
            ports = [word for name, port in self._ports().items() for word in (f"--{name}", str(port))]
            self._start("azure", LOCAL / "azure.py", "--state", told.parent, "--cluster-kubeconfig", kubeconfig, *ports,
                        ready=told, seconds=180)  # fmt: skip
            self._keep("azure", cluster)
        return dict(json.loads(told.read_text()))

    def _ports(self) -> dict[str, int]:
        """The ports of before, so that what is deployed finds its registry again after a restart."""
        names = ("port", "registry-port", "cluster-port")
        ports: dict[str, int] = self._state.recall("ports") or {name: serving.free_port() for name in names}
        self._state.note("ports", ports)
        return ports

    def _runs(self, name: str, what: str) -> bool:
        """Whether the part runs for `what` and with today's code; stopped when it runs for something else."""
        if self._state.process(name) and self._state.recall(f"part-{name}") == [what, _code(name)]:
            return True
        if self._state.stop(name):
            self._say(f"Stopped: {name} (it was for another cluster, or of older code)")
        return False

    def _keep(self, name: str, what: str) -> None:
        self._state.note(f"part-{name}", [what, _code(name)])

    def _start(self, name: str, script: Path, *words: str | Path, ready: Path, seconds: float) -> None:
        process = self._state.start(name, [sys.executable, "-E", "-s", script, *words])
        if not wait_until(lambda: ready.exists() or not process.is_running(), seconds) or not ready.exists():
            tail = self._state.log_tail(name)
            self._state.stop(name)
            raise Problem(f"The {name} part did not start. The end of its log:\n{tail}")


_CODE = {
    "cluster": ("kube/*.py", "serving.py"),
    "azure": ("azure.py", "registry.py", "faults.py", "serving.py"),
}


def _code(part: str) -> str:
    """A digest of a part's code."""
    files = sorted(file for pattern in _CODE[part] for file in LOCAL.glob(pattern))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _connect(kubeconfig: Path) -> ApiServer:
    return connect(ClusterAccess(kubeconfig=str(kubeconfig), namespace=NAMESPACE), _no_azure, lambda _secret: None)


def _no_azure() -> Any:
    raise Problem("A kubeconfig of its own is needed here.")


def _call(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise Problem(f"`{' '.join(words[:3])}` failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout.strip() if done.returncode == 0 else ""
