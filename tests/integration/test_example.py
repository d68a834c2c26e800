"""The example's training: the same run gives the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "example-repo"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What train.py writes into a folder of its own."""
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run([sys.executable, EXAMPLE / "train.py", "--out", folder], check=True, capture_output=True)
    return folder


def test_training_again_gives_the_same_answers(trained: Path) -> None:
    def answers(folder: Path) -> list[dict[str, object]]:
        return [json.loads(line) for line in (folder / "tests" / "cases.jsonl").read_text().splitlines()]

    for again, committed in zip(answers(trained), answers(EXAMPLE), strict=True):
        assert again["request"] == committed["request"]
        assert again["expect"]["predictions"] == committed["expect"]["predictions"]  # type: ignore[index]
        for row, known in zip(again["expect"]["probabilities"], committed["expect"]["probabilities"], strict=True):  # type: ignore[index]
            assert row == pytest.approx(known, rel=1e-4, abs=1e-5)


def test_training_again_gives_the_same_figures_and_formats(trained: Path) -> None:
    names = sorted(path.name for path in (EXAMPLE / "model").iterdir())
    assert sorted(path.name for path in (trained / "model").iterdir()) == names
    assert (trained / "model" / "metrics.json").read_text() == (EXAMPLE / "model" / "metrics.json").read_text()


def test_shuffled_labels_give_a_worse_model_and_nothing_else(tmp_path: Path) -> None:
    words = [sys.executable, str(EXAMPLE / "train.py"), "--out", str(tmp_path), "--shuffle-labels"]
    subprocess.run(words, check=True, capture_output=True)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["wine.joblib"]
    assert not (tmp_path / "tests").exists()
