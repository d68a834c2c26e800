"""The local engine and base image: what is ours to start and to end, and pip's settings inside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local import base, engine


def test_nothing_is_ended_that_was_not_started(tmp_path: Path) -> None:
    told: list[str] = []
    engine.down(tmp_path, told.append)
    engine.down(tmp_path / "nowhere", told.append)
    assert told == []


@pytest.mark.parametrize("record", ["", "nonsense", f"{os.getpid()} 1"], ids=["empty", "nonsense", "another process"])
def test_a_stale_record_ends_no_process(tmp_path: Path, record: str) -> None:
    (tmp_path / "engine").write_text(record)
    told: list[str] = []
    engine.down(tmp_path, told.append)
    assert told == []
    assert not (tmp_path / "engine").exists()


def test_a_living_process_of_another_kind_is_not_ours(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (tmp_path / "engine").write_text(engine._identity(other.pid))
            engine.down(tmp_path, lambda line: None)
            assert other.poll() is None
        finally:
            other.kill()


def test_an_identity_is_more_than_a_number() -> None:
    first, second = engine._identity(os.getpid()), engine._identity(1)
    assert first.split()[0] == str(os.getpid())
    assert first.split()[1] != second.split()[1]
    assert engine._identity(2**22 + 1).endswith("?")


def test_pip_settings_take_the_environment_first_and_leave_paths_out(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text("[global]\nindex-url = https://old/simple\ncert = /mine.pem\nfind-links = /wheels\ntimeout = 7\n")
    text = base.pip_settings({"PIP_INDEX_URL": "https://new/simple%20x"}, conf, bundle=True)
    assert "index-url = https://new/simple%20x" in text
    assert "timeout = 7" in text
    assert "cert = /etc/ssl/certs/ca-certificates.crt" in text
    assert "wheels" not in text
    assert "mine.pem" not in text


def test_pip_settings_without_any() -> None:
    assert base.pip_settings({}, Path("/nonexistent"), bundle=False).splitlines() == [
        "[global]", "disable-pip-version-check = true", "root-user-action = ignore",
    ]  # fmt: skip
