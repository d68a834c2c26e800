"""The consumer's repository, and what makes its model bad."""

from __future__ import annotations

import pickletools
import subprocess
from pathlib import Path

import pytest

from local.consumer import KINDS, Consumer


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def consumer(tmp_path: Path) -> Consumer:
    made = Consumer(tmp_path / "consumer")
    made.fresh("First")
    return made


def test_it_is_a_repository_with_the_examples_files(consumer: Consumer) -> None:
    assert consumer.workflow.is_file()
    assert git(consumer.folder, "status", "--porcelain") == ""
    assert git(consumer.folder, "log", "--format=%s") == "First"


def test_the_same_content_makes_no_new_commit(consumer: Consumer) -> None:
    before = git(consumer.folder, "rev-parse", "HEAD")
    consumer.fresh("Second")
    assert git(consumer.folder, "rev-parse", "HEAD") == before


def test_a_repository_that_was_cut_off_half_way_is_made_again(consumer: Consumer) -> None:
    (consumer.folder / ".git" / "HEAD").unlink()
    (consumer.folder / "rubbish").write_text("")
    consumer.fresh("Again")
    assert git(consumer.folder, "ls-files", "rubbish") == ""
    assert git(consumer.folder, "log", "--format=%s") == "Again"


@pytest.mark.parametrize(("kind", "value"), [("wrong-there", "wrong"), ("crashing", "crash"), ("slow", "slow")])
def test_faults_are_switched_on_in_the_manifest_and_off_again(consumer: Consumer, kind: str, value: str) -> None:
    consumer.spoil(kind)
    assert f'value: "{value}"' in (consumer.folder / "k8s" / "deployment.yaml").read_text()
    assert git(consumer.folder, "diff", "--stat", "HEAD~1").count("1 file changed") == 1
    consumer.fresh("Good again")
    assert 'value: ""' in (consumer.folder / "k8s" / "deployment.yaml").read_text()


def test_the_malicious_model_would_call_a_shell(consumer: Consumer) -> None:
    consumer.spoil("malicious")
    data = (consumer.folder / "model" / "wine.joblib").read_bytes()
    assert "system" in [argument for _, argument, _ in pickletools.genops(data)]


def test_every_kind_names_a_step_of_the_workflow(consumer: Consumer) -> None:
    text = consumer.workflow.read_text()
    assert all(f"id: {step}\n" in text for step in KINDS.values())
