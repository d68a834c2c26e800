"""What tests against a Kubernetes share: the connection, namespaces of their own, and a small server to deploy."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.busybox import static_busybox
from tests.cluster.apps import PREDICT
from tests.cluster.canaries import GATEWAY_API, wait_for
from tests.cluster.proxy import Proxy, proxied

from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.releases.cluster import ClusterAccess, Ref

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", default="", help="run the cluster tier against this Kubernetes")
    parser.addoption("--gateway", default="traefik:8081", help="CLASS:PORT of the Gateway API in that Kubernetes")
    parser.addoption("--every-fault", action="store_true", help="meet each fault of the API with each command")
    parser.addoption("--every-write", action="store_true", help="kill runs at each of their writes, not at a few")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs more than the stand-in has is skipped without a real Kubernetes."""
    if not config.getoption("--kubeconfig"):
        for item in items:
            if item.get_closest_marker("real_kubernetes"):
                item.add_marker(pytest.mark.skip(reason="needs more than the stand-in has: --kubeconfig FILE"))


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of the kubeconfig of the Kubernetes to test against: the given one, or a stand-in of our own."""
    path = request.config.getoption("--kubeconfig")
    if path:
        yield str(Path(path).resolve())
        return
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("needs Docker Engine for the stand-in, or --kubeconfig FILE of a Kubernetes")
    state = tmp_path_factory.mktemp("kube")
    command = [sys.executable, "-E", "-s", str(ROOT / "scripts/local/kube/main.py"), "--state", str(state)]
    with (state / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 20
        while not (state / "kubeconfig").exists():
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the stand-in does not start:\n{(state / 'log').read_text()}")
            time.sleep(0.05)
        yield str(state / "kubeconfig")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def kubectl_path(kubeconfig: str) -> str:
    """kubectl: on the PATH, or in `bin/` beside the kubeconfig."""
    beside = Path(kubeconfig).parent / "bin" / "kubectl"
    found = shutil.which("kubectl") or (str(beside) if beside.exists() else "")
    if not found:
        pytest.skip("needs kubectl on the PATH")
    return found


@pytest.fixture(scope="session")
def api(kubeconfig: str) -> Iterator[ApiServer]:
    """A connection to the cluster, outside any namespace of a test."""
    server = connected(kubeconfig, "default")
    yield server
    server.close()


@pytest.fixture
def namespace(api: ApiServer) -> Iterator[str]:
    """A namespace for one test."""
    with namespaced(api) as name:
        yield name


@contextmanager
def namespaced(api: ApiServer) -> Iterator[str]:
    """A namespace that is removed afterwards."""
    name = f"ml-deploy-test-{uuid.uuid4().hex[:8]}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    until = time.monotonic() + 30
    while not api.get(Ref("v1", "ServiceAccount", name, "default")) and time.monotonic() < until:
        time.sleep(0.05)
    try:
        yield name
    finally:
        api.delete(Ref("v1", "Namespace", "", name))


@pytest.fixture
def cluster(kubeconfig: str, namespace: str) -> Iterator[ApiServer]:
    """A connection whose namespace is the test's own."""
    server = connected(kubeconfig, namespace)
    yield server
    server.close()


def connected(kubeconfig: str, namespace: str) -> ApiServer:
    access = ClusterAccess(kubeconfig=kubeconfig, namespace=namespace)
    return connect(access, lambda: pytest.fail("no Azure here"), lambda _secret: None)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a static busybox and nothing else (1 MB), in a registry on this machine that nodes pull from."""
    folder = tmp_path_factory.mktemp("busybox")
    for tool in ("docker", "docker-registry", "dpkg"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool} to make a small image for the cluster's pods")
    root = folder / "root"
    static_busybox(folder, root / "bin")
    port = _free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    image = f"localhost:{port}/busybox:1"
    registry = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        tar = subprocess.run(["tar", "-C", str(root), "-c", "."], check=True, capture_output=True).stdout
        subprocess.run(["docker", "import", "-", image], input=tar, check=True, capture_output=True)
        _wait_for(port)
        subprocess.run(["docker", "push", image], check=True, capture_output=True)
        yield image
    finally:
        subprocess.run(["docker", "rmi", "-f", image], check=False, capture_output=True)
        registry.terminate()
        registry.wait(10)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the registry on this machine does not start")


@pytest.fixture
def cases(tmp_path: Path) -> Callable[[str], str]:
    """A file of golden predictions that expects one answer."""

    def write(answer: str) -> str:
        path = tmp_path / "cases.jsonl"
        path.write_text(json.dumps({"path": PREDICT, "method": "GET", "expect": {"prediction": answer}}) + "\n")
        return str(path)

    return write


@pytest.fixture
def proxy(kubeconfig: str, tmp_path: Path) -> Iterator[Proxy]:
    """A fault proxy before the cluster."""
    with proxied(kubeconfig, tmp_path) as found:
        yield found


@pytest.fixture(scope="session")
def gateway(request: pytest.FixtureRequest, api: ApiServer) -> Iterator[str]:
    """One Gateway for the routes of all tests; the URL that it is asked at."""
    name, _, port = request.config.getoption("--gateway").partition(":")
    if not api.kind(GATEWAY_API, "Gateway") or not api.get(Ref(GATEWAY_API, "GatewayClass", "", name)):
        pytest.skip(f"NO GATEWAY: this cluster has no Gateway API with a class {name} (--gateway CLASS:PORT)")
    ref = Ref(GATEWAY_API, "Gateway", "default", f"ml-deploy-test-{uuid.uuid4().hex[:8]}")
    routes_of_all = {"namespaces": {"from": "All"}}
    listener = {"name": "http", "port": int(port), "protocol": "HTTP", "allowedRoutes": routes_of_all}
    api.create({"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": ref.name, "namespace": ref.namespace},
                "spec": {"gatewayClassName": name, "listeners": [listener]}})  # fmt: skip
    try:
        wait_for(lambda: ((api.get(ref) or {}).get("status") or {}).get("addresses"))
        found = api.get(ref)
        assert found
        yield f"http://{found['status']['addresses'][0]['value']}:{port}{PREDICT}#{ref.name}"
    finally:
        api.delete(ref)
