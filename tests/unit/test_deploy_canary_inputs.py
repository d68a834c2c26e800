"""deploy-aks: which inputs of canaries go together."""

from __future__ import annotations

import pytest

from ml_deploy.commands import deploy_aks
from ml_deploy.errors import InputError
from ml_deploy.runtime import fields

IMAGE = "r.azurecr.io/churn@sha256:" + "1" * 64


def read(**given: str) -> deploy_aks.Inputs:
    return fields.read(deploy_aks.Inputs, {"app": "churn", **given})


@pytest.mark.parametrize(
    "given, told",
    [
        ({"image": IMAGE, "steps": "10, 100"}, "`steps` is for `strategy: canary`"),
        ({"image": IMAGE, "pause": "1m"}, "`pause` is for `strategy: canary`"),
        ({"image": IMAGE, "strategy": "canary", "steps": "50, 10"}, "`steps` must grow from step to step"),
        ({"image": IMAGE, "strategy": "canary", "steps": "5, 20, 50", "pause": "4m"}, "`pause` and `steps` take 720 s"),
        ({"image": IMAGE, "strategy": "canary", "traffic": "smi"}, "`traffic` must be one of auto, replicas, gateway"),
        ({"image": IMAGE, "revision": "7"}, "`revision` is for `action: promote`"),
        ({"image": IMAGE, "action": "promote"}, "`image` and `action: promote` contradict each other"),
        (
            {"action": "reject", "strategy": "canary", "steps": "5"},
            "`strategy`, `steps` and `action: reject` contradict",
        ),
    ],
)
def test_inputs_that_do_not_go_together(given: dict[str, str], told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**{name.replace("_", "-"): value for name, value in given.items()})
    assert told in caught.value.message


def test_a_decision_needs_nothing_but_the_app() -> None:
    found = read(action="promote", revision="7")
    assert (found.action, found.revision, found.steps) == ("promote", 7, (10, 50, 100))
