"""What documents show is what the code takes: each step of ours in their examples passes the judgement of its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_deploy import commands
from ml_deploy.runtime.fields import inputs_of, problems_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("actions/*/README.md")),
    *sorted(ROOT.glob("workflows-templates/*.yml")),
]
OURS = re.compile(r"org/ml-deploy(?:/([a-z-]+))?@v1")
#: What an expression may stand for, where `1` will not do.
EXPRESSIONS = {"url": "https://churn.example", "build-args": "A=1", "model-digest": f"sha256:{'0' * 64}"}


def our_steps(part: Any) -> Iterator[dict[str, Any]]:
    """Steps that use an action of ours, wherever they are in a workflow or a piece of one."""
    if isinstance(part, dict) and OURS.fullmatch(str(part.get("uses", ""))):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from our_steps(inner)


def value(name: str, written: object) -> str:
    text = str(written).lower() if isinstance(written, bool) else str(written)
    return EXPRESSIONS.get(name, "1") if "${{" in text else text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_pass(path: Path) -> None:
    text = path.read_text()
    pieces = re.findall(r"```yaml\n(.*?)```", text, re.S) if path.suffix == ".md" else [text]
    found = [step for piece in pieces for step in our_steps(yaml.safe_load(piece))]
    assert found, "it shows no step of ours"
    for step in found:
        match = OURS.fullmatch(step["uses"])
        inputs = commands.load((match and match[1]) or "pipeline").Inputs
        given = {name: value(name, written) for name, written in step.get("with", {}).items()}
        assert set(given) <= set(inputs_of(inputs)), step
        assert problems_of(inputs, given) == [], step
