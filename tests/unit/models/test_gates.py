"""Figures against thresholds, and loaders with known holes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_deploy.errors import InputError
from ml_deploy.models import loaders, metrics
from ml_deploy.models.metrics import Threshold


def _problems(one: Threshold, value: float | None, base: float | None = None) -> list[str]:
    figures = {} if value is None else {"m": value}
    found = metrics.judge((one,), figures, {} if base is None else {"m": base}, "metrics.json")
    return [finding.message for finding in found]


@pytest.mark.parametrize(
    ("greater", "limits", "value", "base", "passes"),
    [
        (True, {"threshold": 0.9}, 0.9, None, True),
        (True, {"threshold": 0.9}, 0.89, None, False),
        (False, {"threshold": 2.0}, 2.0, None, True),
        (False, {"threshold": 2.0}, 2.1, None, False),
        (True, {"min_absolute_change": 0.5}, 1.5, 1.0, True),
        (True, {"min_absolute_change": 0.5}, 1.25, 1.0, False),
        (False, {"min_absolute_change": 0.5}, 0.5, 1.0, True),
        (False, {"min_absolute_change": 0.5}, 0.75, 1.0, False),
        (True, {"min_relative_change": 0.5}, 3.0, 2.0, True),
        (True, {"min_relative_change": 0.5}, 2.5, 2.0, False),
        (False, {"min_relative_change": 0.5}, 1.0, 2.0, True),
        (False, {"min_relative_change": 0.5}, 1.5, 2.0, False),
        (True, {"min_relative_change": 0.5}, 0.001, 0.0, True),
        (True, {"min_relative_change": 0.0}, 0.0, 0.0, False),
        (True, {"threshold": 0.9, "min_absolute_change": 0.1}, 0.95, 0.9, False),
        (True, {"threshold": 0.9}, None, None, False),
        (True, {"threshold": 0.9}, float("nan"), None, False),
        (True, {"min_absolute_change": 0.0}, 1.0, None, False),
    ],
)
def test_what_passes(
    greater: bool, limits: dict[str, float], value: float | None, base: float | None, passes: bool
) -> None:
    one = Threshold(metric="m", greater_is_better=greater, **limits)
    assert (_problems(one, value, base) == []) is passes


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "a mapping"),
        ("accuracy: 0.9\n", 1, "below it"),
        ("accuracy:\n  threshold: 0.9\n", 2, "needs `greater-is-better`"),
        ("accuracy:\n  greater-is-better: true\n", 2, "something to reach"),
        ("accuracy:\n  greater-is-better: true\n  threshold: high\n", 3, "must be a number"),
        ("accuracy:\n  greater-is-better: yes\n  threshold: 1\n", 2, "true or false"),
        ("accuracy:\n  greater-is-better: true\n  minimum: 1\n", 3, "no key `minimum`"),
        ("accuracy:\n  greater-is-better: true\n  min_relative_change: -1\n", 3, "0 or more"),
        ("a: [\n", 2, "no valid YAML"),
    ],
)
def test_thresholds_that_are_not_right(tmp_path: Path, text: str, line: int, says: str) -> None:
    (tmp_path / "thresholds.yml").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        metrics.read_thresholds(str(tmp_path / "thresholds.yml"))
    assert caught.value.line == line


def test_thresholds_in_the_spelling_of_mlflow(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"f1": {"greater_is_better": True, "threshold": 0.5}}))
    assert metrics.read_thresholds(str(tmp_path / "t.json")) == (
        Threshold(metric="f1", greater_is_better=True, threshold=0.5),
    )


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": "b"}', '{"a": true}', "{", ""])
def test_figures_that_are_not_right(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json"):
        metrics.read_figures(str(tmp_path / "metrics.json"), "metrics")


@pytest.mark.parametrize(
    ("line", "holes"),
    [
        ("torch==2.5.1", 2), ("torch==2.6.0", 1), ("torch == 2.9.1+cpu  # why", 1), ("torch==2.10.0", 0), ("torch>=2.5", 0), ("torch", 0),
        ("torch<2.6", 2), ("torch<=2.9", 1), ("torch~=2.5.0", 2), ("torch~=2.5", 0), ("Keras[extra]==3.8 ; python_version > '3.9'", 3),
        ("onnx==1.20", 1), ("onnx==1.21.0", 0), ("skops==0.12", 1), ("# torch==1.0", 0), ("-r other.txt", 0), ("torchvision==0.1", 0),
    ],
)  # fmt: skip
def test_loaders_with_known_holes(tmp_path: Path, line: str, holes: int) -> None:
    (tmp_path / "requirements.txt").write_text(f"numpy\n{line}\n")
    found = loaders.judge(str(tmp_path / "requirements.txt"))
    assert len(found) == holes
    assert all("Line 2 " in finding.message for finding in found)
