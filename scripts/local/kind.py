"""What a cluster made with kind lacks for trying things out: a way to this machine's registry, and addresses.

usage: kind.py KUBECONFIG GATEWAY PORT     runs until SIGTERM, beside the cluster

- kind's nodes are containers; `localhost:PORT` means themselves there. `connect` leads that address to GATEWAY,
  this machine's address in the nodes' network, where a relay passes everything on to the registry.
- kind has no load balancer: Services of that type get the node's address, which kube-proxy then serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

NAME = "ml-deploy-try"
CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""
_CONNECT = """\
set -e
mkdir -p /etc/containerd/certs.d/localhost:{port}
printf '[host."https://localhost:{port}"]\\n  skip_verify = true\\n' > /etc/containerd/certs.d/localhost:{port}/hosts.toml
sysctl -qw net.ipv4.conf.all.route_localnet=1
rule="OUTPUT -p tcp -d 127.0.0.1 --dport {port} -j DNAT --to-destination {gateway}:{port}"
iptables -t nat -C $rule 2>/dev/null || iptables -t nat -A $rule
rule="POSTROUTING -p tcp -d {gateway} --dport {port} -j MASQUERADE"
iptables -t nat -C $rule 2>/dev/null || iptables -t nat -A $rule
"""


def exists() -> bool:
    """Whether our cluster is there."""
    return NAME in _output("kind", "get", "clusters").split()


def create(kubeconfig: Path) -> None:
    """Make the cluster. Raises subprocess.CalledProcessError."""
    subprocess.run(["kind", "create", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig), "--wait", "120s",
                    "--config", "-"], input=CONFIG, text=True, check=True)  # fmt: skip


def connect(port: int) -> str:
    """Lead the nodes' `localhost:PORT` to this machine; its address in their network. Raises CalledProcessError."""
    networks = json.loads(_output("docker", "network", "inspect", "kind"))
    gateway = next(one["Gateway"] for one in networks[0]["IPAM"]["Config"] if "." in one.get("Gateway", ""))
    for node in _output("kind", "get", "nodes", "--name", NAME).split():
        script = _CONNECT.format(port=port, gateway=gateway)
        subprocess.run(["docker", "exec", "--interactive", node, "sh"], input=script, text=True, check=True)
    return str(gateway)


def delete() -> None:
    """Remove the cluster."""
    subprocess.run(["kind", "delete", "cluster", "--name", NAME], check=True)


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


async def relay(address: str, port: int) -> None:
    """Pass connections to ADDRESS:PORT on to 127.0.0.1:PORT."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    server = await asyncio.start_server(passed, address, port)
    async with server:
        await server.serve_forever()


def give_addresses(cluster: Any) -> None:
    """Give every load balancer without an address that of the first node."""
    from ml_deploy.releases.cluster import Ref

    node = cluster.list("v1", "Node", "")[0]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    for service in cluster.list("v1", "Service", ""):
        if service["spec"].get("type") == "LoadBalancer" and not service["status"].get("loadBalancer", {}).get(
            "ingress"
        ):
            ref = Ref("v1", "Service", service["metadata"]["namespace"], service["metadata"]["name"])
            cluster.patch(ref, {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}, subresource="status")


async def main(kubeconfig: str, gateway: str, port: str) -> None:
    """The helper beside the cluster."""
    from ml_deploy.adapters.cluster import connect as connect_cluster
    from ml_deploy.errors import MlDeployError
    from ml_deploy.releases.cluster import ApiError, ClusterAccess

    def no_azure() -> Any:
        raise RuntimeError("a kind cluster needs no Azure")

    cluster = connect_cluster(ClusterAccess(kubeconfig=kubeconfig), no_azure, lambda _secret: None)
    relayed = asyncio.create_task(relay(gateway, int(port)))
    while not relayed.done():
        with contextlib.suppress(MlDeployError, ApiError):
            await asyncio.to_thread(give_addresses, cluster)
        await asyncio.sleep(0.5)
    await relayed


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
