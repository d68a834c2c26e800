"""Users of a blue-green app: no request fails, none is answered by a version that was not asked first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cluster.apps import PREDICT, keeping
from tests.cluster.canaries import Runner, app, clients, public
from tests.cluster.releasing import names

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.releases.cluster import Object


@pytest.mark.real_kubernetes
@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "kept alive"])
def test_no_request_fails(cluster: ApiServer, kubeconfig: str, busybox: str, tmp_path: Path, keep: bool) -> None:
    """Through adoption, a version that answers wrongly, the switch, a failure after it, and a rollback."""
    runner = Runner(tmp_path, kubeconfig, cluster)

    def serving(answer: str) -> Object:
        return graceful(keeping(busybox, answer=answer, replicas=2)) if keep else app(busybox, answer)

    def step(answer: str, **inputs: str) -> int:
        return runner.deploy(serving(answer), public(), **{"strategy": "blue-green", **inputs}).code

    first = runner.deploy(serving("v1"), public(), stable_for="2s")
    assert first.code == 0, first.log
    with clients(first.outputs["endpoint"] + PREDICT, 50, keep=keep) as users:
        codes = [
            step("bad", cases=runner.cases("v2")),
            step("v2", cases=runner.cases("v2"), keep_old="1s"),
        ]
        alone = names(cluster)
        codes += [
            step("v3", cases=runner.cases("v3"), stable_for="3s"),  # long enough for users to meet it
            runner.run("rollback", cases=runner.cases("v2")).code,
        ]
        back = time.monotonic()
        time.sleep(8)  # the pods of v3 go
        found = users.finish()
    assert codes == [12, 0, 0, 0] and alone == ["web-blue"]
    assert found.failed == {} and found["bad"] == 0
    assert found["v1"] > 50 and found["v2"] > 50
    assert keep or found["v3"] > 0  # a connection that is alive stays with its pod, as long as that is kept
    settled = back + (6 if keep else 1)  # nodes take a moment to learn of the switch
    assert set(users.between(settled, time.monotonic())) == {"v2"}


def graceful(obj: Object) -> Object:
    """The app whose pods go only after load balancers have noticed."""
    spec = obj["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 10
    spec["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": 3}}}
    return obj
