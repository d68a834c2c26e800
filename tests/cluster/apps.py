"""Small apps to deploy: a busybox web server that answers /cgi-bin/predict with what it was told to."""

from __future__ import annotations

import json
from typing import Any

from ml_deploy.releases.cluster import Object

PREDICT = "/cgi-bin/predict"


def web(image: str, name: str = "web", *, answer: object = "v1", replicas: int = 1, crash: bool = False,
        pull: str = "") -> Object:  # fmt: skip
    """A Deployment whose pods answer `{"prediction": <answer>}`, or crash, or cannot be pulled."""
    body = json.dumps({"prediction": answer})
    handler = "\"echo 'Content-Type: application/json'; echo; echo '$BODY'\""
    script = (
        "/bin/busybox mkdir -p /www/cgi-bin; "
        f"printf '%s\\n' '#!/bin/sh' {handler} > /www/cgi-bin/predict; "
        "/bin/busybox chmod +x /www/cgi-bin/predict; exec /bin/busybox httpd -f -p 8080 -h /www"
    )
    if crash:
        script = "echo 'ValueError: no such model' >&2; exit 3"
    container: dict[str, Any] = {
        "name": "web", "image": pull or image, "command": ["/bin/sh", "-c", script],
        "env": [{"name": "BODY", "value": body}], "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels}, "progressDeadlineSeconds": 60,
            "template": {"metadata": {"labels": labels},
                         "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}},
        },
    }  # fmt: skip


def service(name: str = "web") -> Object:
    """A Service that leads to the app of the same name."""
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def config(name: str, **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Object:
    """A Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
