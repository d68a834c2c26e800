"""Files that the real libraries wrote (scripts/dev/corpus.py): what they are is found, and only what brings code is stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.models.payloads import call
from tests.integration.models.payloads import file as file_of

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import inspect_file
from ml_deploy.models.policy import Policy

FOLDER = Path(__file__).with_name("real")
FILES = sorted(FOLDER.iterdir())
FORMATS = {
    ".pt": {"pytorch", "torchscript"},
    ".pth": {"pytorch"},
    ".pkl": {"pickle"},
    ".keras": {"keras"},
    ".h5": {"keras-h5", "hdf5"},
    ".gz": {"tar"},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_real_file(file: Path) -> None:
    found = inspect_file(str(file), Policy())
    expected = next((word for word in ("review", "deny") if f".{word}." in file.name), "allow")
    assert found.verdict is Verdict(expected), found.findings
    assert found.anatomy.format in FORMATS[file.suffix]


@pytest.mark.parametrize("name", ["torch-checkpoint.pt", "torch-checkpoint.pth", "torch-scripted.review.pt"])
@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "text"])
def test_a_file_of_torchs_inside_of_a_pickle_is_judged_like_the_file(tmp_path: Path, name: str, as_text: bool) -> None:
    data = (FOLDER / name).read_bytes()
    inner = call("_codecs", "encode", data.decode("latin1"), "latin1") if as_text else data
    for shown, verdict in ((inner, inspect_file(str(FOLDER / name), Policy()).verdict), (data[:-9], Verdict.DENY)):
        (tmp_path / "m.pkl").write_bytes(file_of(call("torch.storage", "_load_from_bytes", shown)))
        assert inspect_file(str(tmp_path / "m.pkl"), Policy()).verdict is verdict


def test_the_corpus_is_judged_as_a_whole() -> None:
    script = Path(__file__).resolve().parents[3] / "scripts" / "dev" / "corpus.py"
    done = subprocess.run(
        [sys.executable, str(script), "judge", str(FOLDER)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"0 of {len(FILES)} files judged otherwise than expected\n")
    assert len(FILES) >= 24
