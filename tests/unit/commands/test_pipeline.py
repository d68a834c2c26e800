"""The root action judges all parts' inputs together, before any part starts."""

from __future__ import annotations

import pytest

from ml_deploy.commands import pipeline
from ml_deploy.errors import InputError
from ml_deploy.runtime.fields import problems_of, read

GOOD = {
    "model": "model.joblib", "image": "churn", "registry": "acme", "client-id": "c", "tenant-id": "t",
    "subscription-id": "s", "resource-group": "g", "cluster-name": "k", "app": "churn",
}  # fmt: skip


def test_good_inputs_are_in_order() -> None:
    assert problems_of(pipeline.Inputs, GOOD) == []


def test_problems_of_several_parts_are_named_at_once() -> None:
    bad = {**GOOD, "app": "", "resource-group": "", "registry": "", "max-p95": "fast", "skip": "lint\nrollback"}
    with pytest.raises(InputError) as caught:
        read(pipeline.Inputs, bad)
    for words in (
        "`app` is required",
        "`resource-group` is missing",
        "`registry` is missing",
        "`max-p95` must be",
        "`skip` names no part: 'lint'",
    ):
        assert caught.value.message.count(words) == 1, words


def test_skipped_parts_are_not_judged() -> None:
    only = {"model": "model.joblib", "skip": "build-image\npush-acr\ndeploy-aks\nsmoke-test\nrollback"}
    assert problems_of(pipeline.Inputs, only) == []


def test_limits_need_an_address_outside_the_cluster() -> None:
    assert any(
        "cannot be measured" in problem for problem in problems_of(pipeline.Inputs, {**GOOD, "max-p95": "100ms"})
    )
    assert problems_of(pipeline.Inputs, {**GOOD, "max-p95": "100ms", "service-type": "LoadBalancer"}) == []
