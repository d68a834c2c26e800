"""What counts as a crash of a canary while it has users."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.strategies.canary_trial import restarts

RUNNING: dict[str, Any] = {"restartCount": 1, "state": {"running": {}}}
ENDED: dict[str, Any] = {"restartCount": 1, "state": {"terminated": {"exitCode": 3}}}


@pytest.mark.parametrize(
    ("containers", "count"), [([], 0), ([RUNNING], 1), ([ENDED], 2), ([RUNNING, ENDED], 3)]
)  # fmt: skip
def test_a_container_that_has_ended_counts_before_it_is_started_again(
    containers: list[dict[str, Any]], count: int
) -> None:
    pod = {"metadata": {"uid": "u"}, "status": {"containerStatuses": containers}}
    assert restarts([pod]) == {"u": count}
