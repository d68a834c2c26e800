"""The inspecting child: limits end it, the rest of the files are still inspected, and nothing of it is left."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from ml_deploy.models import sandbox
from ml_deploy.models.findings import Verdict


def _with_a_good_one(folder: Path, hostile: bytes) -> list[Path]:
    (folder / "hostile.pkl").write_bytes(hostile)
    (folder / "good.pkl").write_bytes(pickle.dumps([1]))
    return [folder / "hostile.pkl", folder / "good.pkl"]


def test_memory_is_limited(tmp_path: Path) -> None:
    files = _with_a_good_one(tmp_path, b"\x80\x04" + b"]" * 5_000_000)
    hostile, good = sandbox.inspect(files, limits=sandbox.Limits(memory=300 << 20))
    assert [(f.verdict, f.rule) for f in hostile.findings] == [(Verdict.DENY, "budget")]
    assert good.verdict is Verdict.ALLOW


def test_time_is_limited(tmp_path: Path) -> None:
    files = _with_a_good_one(tmp_path, b"\x80\x04" + b"N0" * 20_000_000 + b"N.")
    hostile, good = sandbox.inspect(files, limits=sandbox.Limits(seconds=1.5))
    assert [(f.verdict, f.construct) for f in hostile.findings] == [(Verdict.DENY, "time")]
    assert good.verdict is Verdict.ALLOW


def test_a_file_that_vanishes_is_denied_and_not_an_end(tmp_path: Path) -> None:
    files = _with_a_good_one(tmp_path, b"")
    (tmp_path / "hostile.pkl").chmod(0)
    (tmp_path / "hostile.pkl").unlink()
    (tmp_path / "hostile.pkl").symlink_to("/proc/self/mem")
    hostile, good = sandbox.inspect(files, limits=sandbox.Limits(seconds=10))
    assert hostile.verdict is Verdict.DENY
    assert good.verdict is Verdict.ALLOW


def test_a_child_that_does_not_start_is_an_error_of_ours_and_not_the_models(tmp_path: Path) -> None:
    (tmp_path / "good.pkl").write_bytes(pickle.dumps([1]))
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 1\n")
    broken.chmod(0o755)
    code = (
        "import sys; from ml_deploy.models import sandbox; sys.executable = sys.argv[2]\n"
        "from ml_deploy.errors import MlDeployError\n"
        "try: sandbox.inspect([sys.argv[1]] * 3)\n"
        "except MlDeployError as error: print(error)\n"
    )
    scripts = Path(sandbox.__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "good.pkl"), str(broken)], cwd=scripts, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == "The process that reads models does not start: no such module"


def test_reading_a_pickle_imports_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "good.pkl").write_bytes(pickle.dumps({"a": [1]}))
    code = (
        "import sys; from ml_deploy.models import inspection, policy\n"
        "assert inspection.inspect_file(sys.argv[1], policy.Policy()).verdict.value == 'allow'\n"
        "print(*{'numpy', 'onnx', 'picklescan', 'yaml', 'lz4', 'requests'} & set(sys.modules))\n"
    )
    scripts = Path(sandbox.__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "good.pkl")], cwd=scripts, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == ""
