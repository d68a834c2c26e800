"""The Kubernetes stand-in as a process of a test, and an app for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

ROOT = Path(__file__).resolve().parents[2]

WEB: dict[str, Any] = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2, "progressDeadlineSeconds": 30, "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 5, "volumes": [{"name": "www", "emptyDir": {}}], "containers": [{
                "name": "web", "image": "IMAGE", "command": ["/bin/sh", "-c"],
                "args": ['echo "serving $(VERSION)"; echo "$(VERSION) $POD" > /www/index.html; '
                         "exec /bin/busybox httpd -f -p 8080 -h /www"],
                "env": [{"name": "VERSION", "value": "v1"},
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
                "volumeMounts": [{"name": "www", "mountPath": "/www"}],
                "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1000},
                "resources": {"limits": {"memory": "64Mi"}},
            }]},
        },
    },
}  # fmt: skip
SERVICE: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
    "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 8099, "targetPort": "http"}]},
}  # fmt: skip


class StandIn:
    """The process, and ways to ask it."""

    def __init__(self, state: Path) -> None:
        self.state, self.kubeconfig = state, state / "kubeconfig"
        begin = time.monotonic()
        command = [sys.executable, "-E", "-s", str(ROOT / "scripts/local/kube/main.py"), "--state", str(state)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not self.kubeconfig.exists():
            if self.process.poll() is not None or time.monotonic() > begin + 20:
                self.process.kill()
                pytest.fail(f"the stand-in does not start: {self.process.communicate()[0]}")
            time.sleep(0.02)
        config = yaml.safe_load(self.kubeconfig.read_text())
        self.server = config["clusters"][0]["cluster"]["server"]
        self.http = requests.Session()
        self.http.trust_env = False  # REQUESTS_CA_BUNDLE would win over `verify`
        self.http.verify = str(state / "ca.pem")
        self.http.headers["Authorization"] = f"Bearer {config['users'][0]['user']['token']}"

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        return self.http.request(
            method, f"{self.server}/{path}", data=json.dumps(body) if body is not None else None, **more
        )

    def containers(self) -> list[str]:
        label = f"label=ml-deploy.stand-in={self.state}"
        done = subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True)
        return done.stdout.split()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=20)[0]


def web(base: str, version: str = "v1", **container: Any) -> Any:
    app = json.loads(json.dumps(WEB).replace("IMAGE", base).replace('"v1"', f'"{version}"'))
    app["apiVersion"] = "apps/v1"
    app["spec"]["template"]["spec"]["containers"][0].update(container)
    return app
