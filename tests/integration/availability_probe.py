"""Asks whether images exist as deploy-aks does, in a process of its own (azure-cli-core reads its environment on import).

usage: availability_probe.py CLIENT-ID TENANT-ID IMAGE...      prints JSON: image to [held, platforms, why]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import cast

sys.path[0] = str(Path(__file__).resolve().parents[2] / "scripts")

from ml_deploy.commands.common import ClusterInputs
from ml_deploy.commands.image_checks import ImageChecks
from ml_deploy.commands.ports import Adapters
from ml_deploy.runtime import fields
from ml_deploy.runtime.console import Console
from ml_deploy.runtime.github import Job
from ml_deploy.wiring import Wiring

client, tenant, *images = sys.argv[1:]
given = {"client-id": client, "tenant-id": tenant} if client else {}
job = Job(os.environ)
inputs = fields.read(ClusterInputs, given)
found = ImageChecks(inputs, cast(Adapters, Wiring(Console(sys.stderr), job)), images).result(20)
print(json.dumps({image: [one.held, sorted(one.platforms), one.why] for image, one in found.items()}))
job.clean()
