"""Every strategy that users may name is there, and can do all that the frame asks of it."""

from __future__ import annotations

import inspect

import pytest

from ml_deploy.commands.deploy_inputs import Inputs
from ml_deploy.releases import strategies
from ml_deploy.releases.strategies import Strategy
from ml_deploy.runtime.fields import inputs_of

MOVES = [name for name, _ in inspect.getmembers(Strategy, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", inputs_of(Inputs)["strategy"].choices)
def test_a_strategy_has_all_moves(name: str) -> None:
    found = strategies.named(name)
    assert len(MOVES) == 6
    for move in MOVES:
        wanted, has = (inspect.signature(getattr(cls, move)) for cls in (Strategy, type(found)))
        assert has == wanted, move


def test_each_run_has_a_strategy_of_its_own() -> None:
    assert strategies.named("blue-green") is not strategies.named("blue-green")
