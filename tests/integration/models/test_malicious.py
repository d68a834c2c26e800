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
from tests.integration.models import joblib_payloads, known_good_payloads, payloads, polyglot_payloads

from ml_deploy.models import sandbox
from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection

ALL = [*payloads.ALL, *joblib_payloads.ALL, *polyglot_payloads.ALL, *known_good_payloads.ALL]
#: Loads each file in a process of its own, forked from one that has imported the libraries already.
_RUNNER = """
import importlib, json, os, signal, sys, warnings
warnings.simplefilter("ignore")
import joblib, pandas, scipy.io, scipy.spatial, scipy.stats, sklearn.datasets, sklearn.neighbors
devnull = os.open(os.devnull, os.O_RDWR)
for code, file in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        os.dup2(devnull, 0), os.dup2(devnull, 1), os.dup2(devnull, 2)
        signal.alarm(30)
        sys.argv[1:] = [file]
        try:
            exec(code)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        open(file.replace(".bin", ".marker"), "w").close()  # it followed an address out of the file
"""


class Corpus:
    """The payloads as files, loaded once by the loaders that they are meant for, then linted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "script.py").write_text(f"open({str(folder / 'script.marker')!r}, 'w')")
        tasks = [(payloads.LOADERS[one.loader], str(self._write(one))) for one in ALL]
        subprocess.run([sys.executable, "-c", _RUNNER], input=json.dumps(tasks), text=True, check=True, timeout=300,
                       cwd=folder, env={**os.environ, "HOME": str(folder)})  # fmt: skip
        touched = self.markers()
        self.worked = {one.name: any(name.startswith(self.marker(one).name) for name in touched) for one in ALL}
        self.clean()
        results = sandbox.inspect([self.file(one) for one in ALL])
        self.found: dict[str, Inspection] = dict(zip((one.name for one in ALL), results, strict=True))

    def file(self, one: payloads.Payload) -> Path:
        return self.folder / (str(ALL.index(one)) + ".bin")

    def marker(self, one: payloads.Payload) -> Path:
        ending = "script" if "run_path" in one.name else str(ALL.index(one))
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


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_payload_that_works_is_not_allowed(corpus: Corpus, one: payloads.Payload) -> None:
    if one.module and importlib.util.find_spec(one.module) is None:
        pytest.skip(f"this Python has no {one.module}")
    assert corpus.worked[one.name], "the payload did nothing, so this proves nothing"
    found = corpus.found[one.name]
    assert found.verdict is not Verdict.ALLOW
    assert all(finding.message and finding.advice for finding in found.findings)


def test_the_linter_touches_no_marker(corpus: Corpus) -> None:
    assert corpus.markers() == []


#: By which rule, beside the name that acts in the end.
_RULES = {
    "scipy: the name of the attribute is made": "pickle-state-key", "scipy: the state is made": "pickle-state",
    "scipy: made by pandas' _new_Index": "pickle-arguments", "statsmodels: a formula": "pickle-formula", "dict calls keys": "pickle-special-attribute", "scikit-learn calls pop": "pickle-special-attribute",
    "APPEND calls append": "pickle-special-attribute", "numpy: ndarray over a buffer": "pickle-arguments",
    "numpy: recarray over a buffer": "pickle-arguments", "numpy: NEWOBJ_EX over a buffer": "pickle-arguments", "scipy: a tree out of bounds": "pickle-tree",
    "torch: in a string": "pickle-global", "torch: in a text": "pickle-global", "torch: in a long text": "pickle-global",
    "torch: in a bytearray": "pickle-arguments", "torch: a tar in a string": "pickle-arguments",
    "torch: _rebuild_from_type_v2": "pickle-global", "dill: _create_array": "pickle-global",
    "lightgbm: an address": "pickle-address", "torch legacy: in the list of storages": "pickle-global",
}  # fmt: skip


@pytest.mark.parametrize("one", known_good_payloads.ALL, ids=lambda one: one.name)
def test_the_trick_itself_is_what_is_found(corpus: Corpus, one: payloads.Payload) -> None:
    usual = "pickle-state-code" if one.name.startswith("scipy") else "pickle-dtype"
    assert _RULES.get(one.name, usual) in {finding.rule for finding in corpus.found[one.name].findings}
