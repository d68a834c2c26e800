"""Jobs are replaced where they have to run again, waited for, and never rerun by a rollback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cluster.apps import config, job, service, web
from tests.cluster.test_deploy import Deploying
from tests.steps import step

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Ref

pytestmark = pytest.mark.real_kubernetes


class Deploy(Deploying):
    """The command, and the Job that it made."""

    def uid(self) -> str:
        found = self.cluster.get(Ref("batch/v1", "Job", self.cluster.namespace, "migrate"))
        return str(found["metadata"]["uid"]) if found else ""


@pytest.fixture
def deploy(tmp_path: Path, kubeconfig: str, cluster: ApiServer) -> Deploy:
    return Deploy(tmp_path, kubeconfig, cluster)


def test_a_finished_job_runs_again_and_a_rollback_leaves_it(deploy: Deploy, busybox: str) -> None:
    first = deploy(job(busybox, "echo 1"), web(busybox), service(), stable_for="1s")
    assert first.code == 0 and "| Job | migrate | complete |" in first.summary, first.log
    before = deploy.uid()

    checked = deploy(job(busybox, "echo 2"), web(busybox, answer="v2"), service(), dry_run="server")
    assert checked.code == 0 and deploy.uid() == before, checked.log
    assert "+        - echo 2" in checked.outputs["diff"] and "controller-uid" not in checked.outputs["diff"]

    second = deploy(job(busybox, "echo 2"), web(busybox, answer="v2"), service())
    assert second.code == 0 and "has finished: it is replaced, and runs again" in second.log, second.log
    ran = deploy.uid()
    assert ran != before
    assert (
        step(
            deploy.folder, "rollback", app="web", kubeconfig=deploy.kubeconfig, namespace=deploy.cluster.namespace
        ).code
        == 0
    )
    assert deploy.uid() == ran


def test_a_running_job_is_left_unless_it_changed(deploy: Deploy, busybox: str) -> None:
    deploy(job(busybox, "sleep 300"), timeout="3s")
    running = deploy.uid()
    same = deploy(job(busybox, "sleep 300"), config("other", a="1"), timeout="4s")
    assert same.code == 11 and "Job migrate" in same.log, same.log
    assert deploy.uid() == running
    started = time.monotonic()
    changed = deploy(job(busybox, "exit 0"))
    assert changed.code == 0 and "the one that runs is ended and replaced" in changed.log, changed.log
    assert deploy.uid() != running and time.monotonic() - started < 20


def test_a_job_that_fails_fails_the_deployment(deploy: Deploy, busybox: str) -> None:
    failed = deploy(job(busybox, "echo no such table; exit 4"))
    assert (failed.code, failed.outputs["reason"]) == (11, "rollout"), failed.log
    assert "Job migrate" in failed.log and "no such table" in failed.log, failed.log


def test_what_no_job_can_be_is_found_before(deploy: Deploy, busybox: str) -> None:
    assert deploy(job(busybox, "exit 0")).code == 0
    before = deploy.uid()
    wrong = job(busybox, "exit 1")
    wrong["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    refused = deploy(wrong)
    assert refused.code == 10 and "restartPolicy" in refused.log and deploy.uid() == before, refused.log
