"""The model digest: same bytes and names, same digest; anything else, another one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ml_deploy.errors import InputError
from ml_deploy.models.digest import model_digest


def _model(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "MLmodel").write_bytes(b"flavors: {}\n")
    (folder / "inner" / "model.pkl").write_bytes(b"weights")
    return folder


def test_one_file_is_what_sha256sum_prints(tmp_path: Path) -> None:
    file = tmp_path / "model.joblib"
    file.write_bytes(b"weights")
    assert model_digest([file]) == "sha256:" + hashlib.sha256(b"weights").hexdigest()


def test_order_time_and_place_do_not_matter(tmp_path: Path) -> None:
    first = _model(tmp_path / "a")
    second = tmp_path / "elsewhere" / "b"
    shutil.copytree(first, second)
    os.utime(second / "MLmodel", (0, 0))
    files = [second / "inner" / "model.pkl", second / "MLmodel"]
    assert model_digest([first]) == model_digest([second]) == model_digest(files) == model_digest(files[::-1])


def test_it_can_be_made_again_with_coreutils(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    shell = "sha256sum MLmodel inner/model.pkl | LC_ALL=C sort -k2 | sha256sum"
    made = subprocess.run(["bash", "-c", shell], cwd=folder, capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    assert model_digest([folder]) == f"sha256:{made}"


@pytest.mark.parametrize("change", ["bytes", "name", "more"])
def test_bytes_names_and_number_matter(tmp_path: Path, change: str) -> None:
    first, second = _model(tmp_path / "a"), _model(tmp_path / "b")
    if change == "bytes":
        (second / "MLmodel").write_bytes(b"other")
    elif change == "name":
        (second / "MLmodel").rename(second / "mlmodel")
    else:
        (second / "extra").write_bytes(b"")
    assert model_digest([first]) != model_digest([second])


def test_a_path_given_twice_counts_once(tmp_path: Path) -> None:
    folder = _model(tmp_path / "model")
    assert model_digest([folder, folder / "MLmodel"]) == model_digest([folder])


def test_a_name_with_a_line_break_is_no_second_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x\ny").write_bytes(b"1")
    (tmp_path / "a" / "z").write_bytes(b"2")
    (tmp_path / "b").mkdir()
    for name in ("x", "y", "z"):
        (tmp_path / "b" / name).write_bytes(b"1")
    assert model_digest([tmp_path / "a"]) != model_digest([tmp_path / "b"])


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model at"):
        model_digest([tmp_path / "missing"])
    with pytest.raises(InputError, match="no file in"):
        model_digest([tmp_path])
