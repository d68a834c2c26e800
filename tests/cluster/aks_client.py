"""Reaches an AKS cluster as the actions do, in a process of its own (azure-cli-core reads its environment on import).

usage: aks_client.py CLIENT-ID TENANT-ID GROUP NAME NAMESPACE      prints JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2] / "scripts")

from ml_deploy.releases.cluster import ClusterAccess
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job
from ml_deploy.wiring import Wiring

client, tenant, group, name, namespace = sys.argv[1:]
job = Job(os.environ)
cluster = Wiring(Console(sys.stderr), job).cluster(
    ClusterAccess(client_id=client, tenant_id=tenant, resource_group=group, cluster_name=name, namespace=namespace)
)
began = time.monotonic()
events: list[str] = []
for event in cluster.watch("v1", "ConfigMap", namespace, name="seen", seconds=5):
    if not events and event is None:
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": namespace}}
        cluster.apply(config_map)
    if event is not None:
        events.append(event.type)
        break
print(json.dumps({"server": cluster.server, "events": events, "seconds": time.monotonic() - began}))
job.clean()
