"""What is said of a deployment that failed, and what its record says."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.releases.deployment import Progress, serving
from ml_deploy.releases.history import Release


def release(revision: int, **more: Any) -> Release:
    return Release("wine", "ml", revision, **more)


NEW, OLD = release(2), release(1)


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(release=NEW, previous=OLD), "Revision 1 serves as before."),
        (Progress(release=NEW), "Nothing was deployed before"),
        (Progress(release=NEW, previous=OLD, changed=True), "Revision 2 is in place as far as it came"),
        (Progress(release=release(2, strategy="blue-green"), changed=True), "Services lead to revision 2"),
        (Progress(release=NEW, changed=True, going_back_to=OLD, rolled_back_to=OLD), "Revision 1 serves again."),
        (Progress(release=NEW, changed=True, going_back_to=OLD), "The way back to revision 1 is not finished"),
        (Progress(release=NEW, changed=True, out_of_traffic=("wine",)), "taken out of traffic (Service wine)"),
        (Progress(release=NEW, previous=OLD, share=10), "Its canary still has 10 % of the traffic"),
    ],
)
def test_what_serves_is_said_as_it_is(progress: Progress, said: str) -> None:
    assert said in serving(progress)
