"""One module per action, each with `Inputs`, `Result`, `run(inputs, adapters)` and its metadata.

A module's metadata: `TITLE` and `DESCRIPTION` for action.yml, `ICON` for its branding.
"""

from __future__ import annotations

import importlib
from types import ModuleType

#: The six published actions, in the order of the pipeline.
ACTIONS = ("lint-model", "build-image", "push-acr", "deploy-aks", "smoke-test", "rollback")
#: Commands that exist on the terminal (and in the root action) only.
EXTRAS = ("pipeline", "record-cases")


def load(name: str) -> ModuleType:
    """The module of a command. Raises ModuleNotFoundError for an unknown name."""
    return importlib.import_module(f"ml_deploy.commands.{name.replace('-', '_')}")
