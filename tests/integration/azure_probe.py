"""Asks the Azure adapter in a process of its own, since azure-cli-core reads its environment once, on import.

usage: azure_probe.py JSON      {"azure": {constructor's words}, "do": [["token", "SCOPE"], ["sleep", 1], ...]}
Prints one JSON list: an answer, or the error, for each.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2] / "scripts")

from ml_deploy.adapters.azure import Azure
from ml_deploy.errors import MlDeployError
from ml_deploy.runtime.github import Job


def do(azure: Azure, word: str, *rest: Any) -> Any:
    """One of the adapter's methods or properties, as JSON."""
    if word == "sleep":
        return time.sleep(*rest)
    try:
        found = getattr(azure, word)
        answer = found(*rest) if callable(found) else found
    except MlDeployError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) else answer  # type: ignore[arg-type]


told = json.loads(sys.argv[1])
job = Job(os.environ)
adapter = Azure(**told["azure"], assertion=job.oidc_token, folder=lambda: job.temp)
print(json.dumps([do(adapter, *one) for one in told["do"]]))
job.clean()
