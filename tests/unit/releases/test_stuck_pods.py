"""Which pods of a StatefulSet keep it from its present template."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.cluster import Object
from ml_deploy.releases.stuck_pods import is_stuck

WANTED = {"name": "web", "image": "r/web:2", "env": [{"name": "A", "value": "1"}]}
PROXY = {"name": "proxy", "image": "r/proxy:1"}
TOKEN = {"name": "TOKEN", "value": "x"}


def pod(container: Object, *, ready: str = "False", **meta: Any) -> Object:
    return {
        "metadata": {"ownerReferences": [{"uid": "set"}], **meta},
        "spec": {"containers": [container, PROXY]}, "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "stuck"),
    [
        (pod({**WANTED, "image": "r/web:1"}), True),
        (pod({**WANTED, "env": [{"name": "A", "value": "0"}]}), True),
        (pod({**WANTED, "command": ["x"]}), True),
        (pod({**WANTED, "env": [TOKEN, *WANTED["env"]]}), False),
        (pod({**WANTED, "image": "r/web:1"}, ready="True"), False),
        (pod({**WANTED, "image": "r/web:1"}, deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (pod({**WANTED, "image": "r/web:1"}, ownerReferences=[{"uid": "other"}]), False),
    ],
    ids=["image", "variable", "command", "admission added to it", "ready", "leaving", "of another"],
)
def test_one_that_is_not_ready_and_not_of_the_template(given: Object, stuck: bool) -> None:
    assert is_stuck(given, "set", {"containers": [WANTED]}) is stuck
