"""The Role that ships is enough to deploy, to ask and to roll back, and no more is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.apps import PREDICT, config, job, service, web
from tests.cluster.releasing import names, release, serves
from tests.cluster.test_deploy import given
from tests.steps import Step, step

from ml_deploy.adapters.cluster import ApiServer, connect
from ml_deploy.checks.cases import parse
from ml_deploy.checks.through import through_cluster
from ml_deploy.errors import Forbidden
from ml_deploy.releases import restore
from ml_deploy.releases.capacity.survey import Surveyor
from ml_deploy.releases.cluster import ClusterAccess, Object
from ml_deploy.releases.deployment import Deployment, Plan
from ml_deploy.releases.history import ref_of
from ml_deploy.releases.lease import Lock, identity
from ml_deploy.releases.records import Records
from ml_deploy.releases.wait import Until

pytestmark = pytest.mark.real_kubernetes
RBAC = Path(__file__).resolve().parents[2] / "actions" / "deploy-aks" / "rbac.yaml"


@pytest.fixture
def account(cluster: ApiServer, kubeconfig: str, namespace: str) -> str:
    """A kubeconfig with the rights of the Role and nothing else."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci", "namespace": namespace}}
    cluster.create(account)
    for obj in yaml.safe_load_all(RBAC.read_text()):
        obj["metadata"]["namespace"] = namespace
        if obj["kind"] == "RoleBinding":
            obj["subjects"] = [{"kind": "ServiceAccount", "name": "ci", "namespace": namespace}]
        cluster.create(obj)
    token = cluster._json("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/ci/token", {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
    })["status"]["token"]  # fmt: skip
    admin = yaml.safe_load(Path(kubeconfig).read_text())
    admin["users"] = [{"name": user["name"], "user": {"token": token}} for user in admin["users"]]
    return str(yaml.safe_dump(admin))


@pytest.fixture
def limited(account: str, namespace: str) -> Iterator[ApiServer]:
    """A connection with these rights."""
    access = ClusterAccess(kubeconfig=account, namespace=namespace)
    server = connect(access, lambda: pytest.fail("no Azure here"), lambda _: None)
    yield server
    server.close()


def test_the_role_is_enough(limited: ApiServer, busybox: str) -> None:
    case = parse(f'{{"path": "{PREDICT}", "method": "GET", "expect": {{"prediction": "v1"}}}}', 1)
    namespace = limited.namespace
    for number, objects in enumerate(([config("a", x="1"), service(), web(busybox, answer="v1")],
                                      [config("b", x="1"), service(), web(busybox, answer="v1", replicas=2)]), 1):  # fmt: skip
        with Lock(limited, namespace, "web", holder=identity(), clock=time).held(wait=0):
            plan = Plan(app="web", objects=objects, cases=[case], history_limit=2)
            until = time.monotonic() + 60
            done = Deployment(limited, plan, clock=time, until=until, tell=print).run()
        assert done.release and done.release.revision == number and done.release.state == "good"
    assert through_cluster(limited, namespace, "services/web:80")(case.request).status == 200

    records = Records(limited, namespace, "web", clock=time)
    first, second = records.find(1), records.current()
    assert first and second

    ready = Until(limited, time.monotonic() + 60, clock=time, tell=print)
    restored = restore.restore(limited, records, first, second, wait=ready, tell=print)
    assert restored.removed == (f"ConfigMap b in namespace {namespace}",)
    records.trim(1)


def test_the_role_is_enough_for_blue_green(limited: ApiServer, busybox: str) -> None:
    for version in ("v1", "v2"):
        release(limited, config("a", x=version), service(), web(busybox, answer=version), answer=version, keep_old=0.0)
        assert serves(limited) == version and len(names(limited)) == 1


def test_a_missing_right_is_named(limited: ApiServer) -> None:
    with pytest.raises(Forbidden, match="namespace kube-system"):
        Records(limited, "kube-system", "web", clock=time).all()


def test_the_role_is_enough_to_replace_a_job_to_prune_and_to_tear_down(
    account: str, namespace: str, busybox: str, tmp_path: Path
) -> None:
    def deploy(*objects: Object, **inputs: Any) -> Step:
        values = given(tmp_path, account, namespace, objects, "web") | inputs
        done = step(tmp_path, "deploy-aks", **values)
        assert done.code == 0, done.log
        return done

    deploy(job(busybox, "exit 0"), web(busybox), service(), config("a", x="1"))
    assert "removed ConfigMap a" in deploy(job(busybox, "exit 0"), web(busybox), service(), prune="true").log
    assert "removing Job migrate" in deploy(action="teardown").log
    assert "was torn down at" in deploy(action="teardown").log


def test_room_on_the_nodes_is_seen_with_the_other_role_only(limited: ApiServer, api: ApiServer) -> None:
    without = Surveyor(limited).result(10)
    assert without.seen is None and "may not list nodes" in without.why
    made = []
    try:
        for obj in yaml.safe_load_all(RBAC.with_name("rbac-room.yaml").read_text()):
            obj["metadata"]["name"] = limited.namespace
            if obj["kind"] == "ClusterRoleBinding":
                obj["roleRef"]["name"] = limited.namespace
                obj["subjects"] = [{"kind": "ServiceAccount", "name": "ci", "namespace": limited.namespace}]
            made.append(ref_of(api.create(obj).object))
        until = time.monotonic() + 10
        while (found := Surveyor(limited).result(10)).why and time.monotonic() < until:
            time.sleep(0.2)  # the API server reads its roles now and then
        assert found.seen and found.seen.nodes and found.seen.pods is not None and found.seen.sure, found.why
    finally:
        for ref in made:
            api.delete(ref)
