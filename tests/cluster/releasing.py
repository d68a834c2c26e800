"""Whole deployments in this process, under the lock, with a strategy: for tests of what strategies do to a cluster."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.cluster.apps import PREDICT

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.checks.cases import Case, parse
from ml_deploy.errors import MlDeployError
from ml_deploy.releases.cluster import Object
from ml_deploy.releases.deployment import Deployment, Plan, Progress
from ml_deploy.releases.lease import Lock, identity


class Failed(Exception):
    """A deployment that stopped, with its error and how far it came."""

    def __init__(self, error: MlDeployError, progress: Progress) -> None:
        super().__init__(f"{error.message}\n{progress.problem}")
        self.error, self.progress = error, progress


def expects(answer: str) -> Case:
    """A golden prediction."""
    return parse(json.dumps({"path": PREDICT, "method": "GET", "expect": {"prediction": answer}}), 1)


def release(cluster: ApiServer, *objects: Object, answer: str = "", seconds: float = 60, **plan: Any) -> Progress:
    """Deploy objects as the command does; `answer` is what its golden prediction expects. Raises Failed."""
    cases = [expects(answer)] if answer else []
    settled = {"app": "web", "strategy": "blue-green", "rollback_timeout": 30.0, **plan}
    namespaced = [{**o, "metadata": {**o["metadata"], "namespace": cluster.namespace}} for o in objects]
    wanted = Plan(objects=namespaced, cases=cases, **settled)
    with Lock(cluster, cluster.namespace, wanted.app, holder=identity(), clock=time).held(wait=10):
        until = time.monotonic() + seconds
        deployment = Deployment(cluster, wanted, clock=time, until=until, tell=print)
        try:
            return deployment.run()
        except MlDeployError as error:
            raise Failed(error, deployment.progress) from error


def serves(cluster: ApiServer, service: str = "web") -> str:
    """What a user of a Service is answered now."""
    answer = cluster.ask(cluster.namespace, f"services/{service}:80", "GET", PREDICT)
    return str(json.loads(answer.body)["prediction"]) if answer.status == 200 else f"status {answer.status}"


def names(cluster: ApiServer, kind: str = "Deployment", api_version: str = "apps/v1") -> list[str]:
    """The objects of a kind that are there."""
    found = cluster.list(api_version, kind, cluster.namespace)
    return sorted(one["metadata"]["name"] for one in found if not one["metadata"].get("deletionTimestamp"))
