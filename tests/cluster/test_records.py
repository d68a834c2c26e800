"""Release records on a real API server."""

from __future__ import annotations

import base64
import random
import time

import pytest
from tests.cluster.apps import config, secret

from ml_deploy.adapters.cluster import ApiServer
from ml_deploy.errors import NoRelease
from ml_deploy.releases import record_secrets as recorded
from ml_deploy.releases.cluster import Ref
from ml_deploy.releases.history import DEPLOYED, FAILED, JUDGED_GOOD, SUPERSEDED, last_good_of
from ml_deploy.releases.records import Records


def test_a_release_through_its_life(cluster: ApiServer, namespace: str) -> None:
    records = Records(cluster, namespace, "wine", clock=time)
    first = records.begin(
        [config("a", x="1")], strategy="rolling", images=["r/i@sha256:1"], commit="c0ffee", run_url="u"
    )
    assert records.current() is None, "a release that is not live is not current"
    first = records.activate(first)
    first = records.mark(first, DEPLOYED)
    records.judge(1, by="smoke-test", good=True, text="5 of 5")
    second = records.activate(records.begin([config("a", x="2")]))
    second = records.mark(second, DEPLOYED)

    found = records.all()
    assert [(r.revision, r.state, r.good) for r in found] == [(2, DEPLOYED, None), (1, SUPERSEDED, True)]
    assert found[1].images == ("r/i@sha256:1",) and found[1].commit == "c0ffee"
    assert records.load(found[1]).objects == (config("a", x="1"),)
    current, good = records.current(), last_good_of(records.all(), before=2)
    assert current and current.revision == 2 and good and good.revision == 1

    assert records.judge(2, by="smoke-test", good=False, text="slow").state == FAILED
    assert records.judge(2, by="smoke-test", good=True, text="fast").state == JUDGED_GOOD
    with pytest.raises(NoRelease):
        records.judge(9, by="smoke-test", good=True, text="")


def test_large_releases_are_chunked_and_come_back_whole(cluster: ApiServer, namespace: str) -> None:
    noise = base64.b64encode(random.Random(1).randbytes(700_000)).decode()
    objects = [config(f"c{i}", noise=noise[i:] + noise[:i]) for i in range(3)]
    records = Records(cluster, namespace, "wine", clock=time)
    release = records.begin(objects)
    parts = cluster.list("v1", "Secret", namespace, selector=f"{recorded.RECORD}=part")
    assert parts, "the test's objects were to need more than one Secret"
    for held in cluster.list("v1", "Secret", namespace):
        assert sum(len(base64.b64decode(v)) for v in (held.get("data") or {}).values()) <= 900 * 1024
    assert list(records.load(release).objects) == objects

    cluster.delete(Ref("v1", "Secret", namespace, parts[0]["metadata"]["name"]))
    with pytest.raises(NoRelease, match="incomplete"):
        records.load(release)


def test_a_half_written_record_is_no_release_and_is_cleaned_up(cluster: ApiServer, namespace: str) -> None:
    records = Records(cluster, namespace, "wine", clock=time)
    big = config("c", noise=base64.b64encode(random.Random(2).randbytes(2_000_000)).decode())
    records.begin([big])
    cluster.delete(Ref("v1", "Secret", namespace, "wine.r1"))  # killed between the parts and the head
    assert records.all() == []
    assert records.load(records.begin([big, config("d", x="1")])).objects[1] == config("d", x="1")
    cluster.delete(Ref("v1", "Secret", namespace, "wine.r1"))
    records.trim(10)
    assert cluster.list("v1", "Secret", namespace, selector=recorded.APP) == []


def test_history_is_bounded_and_keeps_the_current_and_the_last_good(cluster: ApiServer, namespace: str) -> None:
    records = Records(cluster, namespace, "wine", clock=time)
    for number in range(1, 6):
        release = records.activate(records.begin([config("a", n=str(number))]))
        records.mark(release, DEPLOYED if number != 5 else FAILED)
        if number == 1:
            records.judge(1, by="smoke-test", good=True, text="ok")
    records.trim(2)
    assert {release.revision for release in records.all()} == {1, 4, 5}


def test_a_release_left_deploying_becomes_failed_when_the_next_begins(cluster: ApiServer, namespace: str) -> None:
    records = Records(cluster, namespace, "wine", clock=time)
    records.activate(records.begin([config("a", x="1")]))
    records.begin([config("a", x="2")])
    left = records.find(1)
    assert left and left.state == FAILED and "interrupted" in left.verdicts[-1].text


def test_no_secret_shows(cluster: ApiServer, namespace: str) -> None:
    records = Records(cluster, namespace, "wine", clock=time)
    release = records.load(records.begin([secret("s", password="hunter2")]))
    assert release.objects[0]["stringData"]["password"] == "hunter2"
    assert "hunter2" not in repr(release) and "hunter2" not in release.row()
