"""A static busybox from Debian's package: all that small images need, with no registry to pull from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def static_busybox(folder: Path, target: Path) -> None:
    """Put busybox and sh into `target`, by way of `folder`; skips where the package cannot be had."""
    (target.parent / "tmp").mkdir(parents=True)
    target.mkdir()
    got = subprocess.run(["apt-get", "download", "busybox-static"], cwd=folder, capture_output=True, check=False)
    package = next(folder.glob("busybox-static*.deb"), None)
    if got.returncode or package is None:
        pytest.skip("needs Debian's package busybox-static (apt-get download failed)")
    subprocess.run(["dpkg", "-x", str(package), str(folder / "unpacked")], check=True)
    for name in ("busybox", "sh"):
        shutil.copy(folder / "unpacked" / "bin" / "busybox", target / name)
