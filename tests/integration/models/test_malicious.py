"""Every payload works when it is loaded, none is allowed, and none works when it is linted."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.models import payloads

from ml_deploy.models import sandbox
from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection

#: Loads each file in a process of its own, forked from one that has imported the libraries already.
_RUNNER = """
import importlib, json, os, sys, warnings
warnings.simplefilter("ignore")
import joblib, scipy.io, scipy.stats, sklearn.datasets
devnull = os.open(os.devnull, os.O_RDWR)
for code, file in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        os.dup2(devnull, 0), os.dup2(devnull, 1), os.dup2(devnull, 2)
        import signal
        signal.alarm(30)
        sys.argv[1:] = [file]
        try:
            exec(code)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


class Corpus:
    """The payloads as files, loaded once by the loaders that they are meant for, then linted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "script.py").write_text(f"open({str(folder / 'script.marker')!r}, 'w')")
        tasks = [(payloads.LOADERS[one.loader], str(self._write(one))) for one in payloads.ALL]
        subprocess.run([sys.executable, "-c", _RUNNER], input=json.dumps(tasks), text=True, check=True, timeout=300,
                       cwd=folder, env={**os.environ, "HOME": str(folder)})  # fmt: skip
        touched = self.markers()
        self.worked = {
            one.name: any(name.startswith(self.marker(one).name) for name in touched) for one in payloads.ALL
        }
        self.clean()
        results = sandbox.inspect([self.file(one) for one in payloads.ALL])
        self.found: dict[str, Inspection] = dict(zip((one.name for one in payloads.ALL), results, strict=True))

    def file(self, one: payloads.Payload) -> Path:
        return self.folder / (str(payloads.ALL.index(one)) + ".bin")

    def marker(self, one: payloads.Payload) -> Path:
        ending = "script" if "run_path" in one.name else str(payloads.ALL.index(one))
        return self.folder / f"{ending}.marker"

    def _write(self, one: payloads.Payload) -> Path:
        data = one.make(str(self.marker(one)))
        self.file(one).write_bytes(data.replace(b"X\x06\0\0\0SCRIPT", payloads.value(str(self.folder / "script.py"))))
        return self.file(one)

    def markers(self) -> list[str]:
        """What was touched. (Some payloads add an ending of their own to the name.)"""
        return sorted(path.name for path in self.folder.glob("*.marker*"))

    def clean(self) -> None:
        for path in self.folder.glob("*.marker*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("payloads"))


@pytest.mark.parametrize("one", payloads.ALL, ids=lambda one: one.name)
def test_a_payload_that_works_is_not_allowed(corpus: Corpus, one: payloads.Payload) -> None:
    if one.module and importlib.util.find_spec(one.module) is None:
        pytest.skip(f"this Python has no {one.module}")
    assert corpus.worked[one.name], "the payload did nothing, so this proves nothing"
    found = corpus.found[one.name]
    assert found.verdict is not Verdict.ALLOW
    assert all(finding.message and finding.advice for finding in found.findings)


def test_the_linter_touches_no_marker(corpus: Corpus) -> None:
    assert corpus.markers() == []
