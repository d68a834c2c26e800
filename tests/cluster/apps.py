"""Small apps to deploy: a busybox web server that answers /cgi-bin/predict with what it was told to."""

from __future__ import annotations

import json
import shlex
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


def job(image: str, script: str, name: str = "migrate") -> Object:
    """A Job that runs a script, once."""
    container = {"name": "job", "image": image, "command": ["/bin/sh", "-c", script]}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def keeping(image: str, name: str = "web", *, answer: object = "v1", replicas: int = 1) -> Object:
    """The same app, by a server that keeps connections alive and closes them when it is told to end."""
    made = web(image, name, answer=answer, replicas=replicas)
    serve = (
        'while read -r line; do [ "${#line}" -gt 1 ] && continue; c=keep-alive; [ -e /closing ] && c=close; '
        "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: %s\\r\\n\\r\\n%s' "
        '"${#BODY}" "$c" "$BODY"; [ $c = close ] && exit 0; done'
    )
    script = (
        f"printf '%s\\n' '#!/bin/sh' {shlex.quote(serve)} > /serve; /bin/busybox chmod +x /serve; "
        "trap 'echo > /closing' TERM; /bin/busybox nc -ll -p 8080 -e /serve & "
        "while [ ! -e /closing ]; do /bin/busybox sleep 0.2; done; /bin/busybox sleep 2"
    )
    made["spec"]["template"]["spec"]["containers"][0]["command"][2] = script
    return made
