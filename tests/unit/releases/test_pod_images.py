"""An older release can be restored only while its images are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ml_deploy.errors import NoRelease
from ml_deploy.releases.cluster import Cluster, Object
from ml_deploy.releases.history import Release
from ml_deploy.releases.pod_images import check_retained


@dataclass
class Pods:
    """A namespace with some pods."""

    pods: list[Object] = field(default_factory=list)
    namespace: str = "ml"

    def list(self, api_version: str, kind: str, namespace: str) -> list[Object]:
        assert (kind, namespace) == ("Pod", "ml")
        return self.pods


def release(revision: int, image: str, state: str = "superseded") -> Release:
    workload = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"image": image}]}}}}
    return Release("web", "ml", revision, state, images=(image,), activated=revision, objects=(workload,))


def pod(image: str, ready: str = "True") -> Object:
    return {"spec": {"containers": [{"image": image}]}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


HISTORY = [release(4, "d"), release(3, "c", "failed"), release(2, "b"), release(1, "a")]


def check(lost: Sequence[str], *pods: Any) -> list[str]:
    """The images that were asked for."""
    asked: list[str] = []

    def missing(images: Sequence[str]) -> list[str]:
        asked.extend(images)
        return [image for image in images if image in lost]

    check_retained(cast(Cluster, Pods(list(pods))), HISTORY[2], HISTORY, missing)
    return asked


def test_nothing_is_said_while_the_images_are_there() -> None:
    assert check(["a"]) == ["b"]


def test_an_image_that_is_gone_stops_it_and_names_the_revisions_that_are_possible() -> None:
    with pytest.raises(NoRelease) as caught:
        check(["b", "a"])
    assert caught.value.message == "Revision 2 of web cannot be restored: the registry no longer has its image b."
    assert "Nothing was changed. Revisions whose images are there: 4 (`to-revision`)." in caught.value.hint


def test_where_no_other_is_there_either_it_says_so() -> None:
    with pytest.raises(NoRelease) as caught:
        check(["a", "b", "c", "d"])
    assert "No other revision's images are there, either." in caught.value.hint


def test_what_ready_pods_run_is_on_their_nodes_and_not_asked_for() -> None:
    assert check(["b"], pod("b")) == []
    with pytest.raises(NoRelease):
        check(["b"], pod("b", ready="False"))
