"""Make the hash-locked environment, once per job, and print its folder. Standard library only.

usage: bootstrap.py SET...     (a SET is requirements/SET.txt; each adds to what is there)

The folder lies under RUNNER_TEMP (a private folder under the temporary one on a terminal) and is
named by the base lock's hash and the Python version, so that all actions of a job share it.
uv makes it; uv itself is fetched as the wheel that requirements/uv.txt locks by hash, because a
machine's Python may have neither pip nor ensurepip.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # run.sh tries the next Python
    sys.exit(3)

import os
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


def main(sets: list[str]) -> int:
    """Print the environment's folder; make what is missing in it."""
    try:
        env = _folder()
        if not all(_mark(env, name).exists() for name in sets):
            _make(env, sets)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"::error title=Environment::ml-deploy cannot make its Python environment: {error}", file=sys.stderr)
        return 1
    print(env)
    return 0


def _folder() -> Path:
    return _home() / f"env-{sys.implementation.cache_tag}-{os.uname().machine}-{_digest('base')}"


def _home() -> Path:
    temp = os.environ.get("RUNNER_TEMP")
    home = Path(temp) / "ml-deploy" if temp else Path(os.environ.get("TMPDIR") or "/tmp") / f"ml-deploy-{os.getuid()}"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise ValueError(f"{home} belongs to somebody else; set RUNNER_TEMP to a folder of your own")
    return home


def _mark(env: Path, name: str) -> Path:
    return env / f".{name}-{_digest(name)}"


def _digest(name: str) -> str:
    from hashlib import sha256

    return sha256((REQUIREMENTS / f"{name}.txt").read_bytes()).hexdigest()[:16]


def _make(env: Path, sets: list[str]) -> None:
    import fcntl

    with open(env.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in sets if not _mark(env, name).exists()]
        if missing:
            print("ml-deploy: making the Python environment (once per job)", file=sys.stderr, flush=True)
            _install(env, missing)


def _install(env: Path, missing: list[str]) -> None:
    import shutil

    uv = _uv(env.parent)
    python = env / "bin" / "python"
    if not python.exists():
        shutil.rmtree(env, ignore_errors=True)
        _run(uv, "venv", "--python", sys.executable, str(env))
    files = [word for name in missing for word in ("--requirements", str(REQUIREMENTS / f"{name}.txt"))]
    _run(
        uv, "pip", "install", "--python", str(python), "--require-hashes", "--only-binary", ":all:", "--no-deps", *files
    )
    for name in missing:
        _mark(env, name).touch()


def _run(uv: Path, *words: str) -> None:
    """uv reads no configuration of the consumer's, downloads no Python and keeps its cache in our folder."""
    import subprocess

    settings = {"UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(uv.parent / "cache"), "UV_PYTHON_DOWNLOADS": "never"}
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_PYTHON", "UV_CONFIG_FILE", "PYTHONPATH")}
    done = subprocess.run([str(uv), "--no-config", "--quiet", *words], env=env | settings, stdin=subprocess.DEVNULL,
                          stdout=sys.stderr, stderr=subprocess.PIPE, text=True, cwd=uv.parent)  # fmt: skip
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise RuntimeError(f"`uv {words[0]}` failed: {' '.join(done.stderr.split())[-600:]}")


def _uv(home: Path) -> Path:
    """The locked uv, fetched once."""
    import io
    import re
    import zipfile

    lock = (REQUIREMENTS / "uv.txt").read_text()
    version = re.search(r"^uv==(\S+)", lock, re.M)[1]  # type: ignore[index]
    uv = home / f"uv-{version}" / "uv"
    if not uv.exists():
        uv.parent.mkdir(exist_ok=True)
        wheel = _wheel(version, set(re.findall(r"sha256:([0-9a-f]{64})", lock)))
        part = uv.with_suffix(".part")
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            part.write_bytes(archive.read(f"uv-{version}.data/scripts/uv"))
        part.chmod(0o755)
        part.rename(uv)
    return uv


def _wheel(version: str, hashes: set[str]) -> bytes:
    """uv's wheel for this machine from the package index, its hash checked."""
    import re
    from hashlib import sha256
    from urllib.parse import urljoin, urlparse
    from urllib.request import urlopen

    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    page_url = index.rstrip("/") + "/uv/"
    page = urlopen(page_url, timeout=60).read().decode()
    for link in re.findall(r'href="([^"]+)"', page):
        address = urljoin(page_url, link.replace("&amp;", "&"))
        name = urlparse(address).path.rsplit("/", 1)[-1]
        if name.startswith(f"uv-{version}-") and name.endswith(".whl") and _fits(name):
            data: bytes = urlopen(address.partition("#")[0], timeout=120).read()
            if sha256(data).hexdigest() not in hashes:
                raise ValueError(f"{name} from the package index has a hash that requirements/uv.txt does not list")
            return data
    raise ValueError(f"{page_url} has no uv {version} for {sys.platform} {os.uname().machine}")


def _fits(wheel: str) -> bool:
    import platform

    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    if sys.platform == "darwin":
        return "macosx" in wheel and {"aarch64": "arm64"}.get(machine, machine) in wheel
    libc = "musllinux" if _musl() else "manylinux"
    return libc in wheel and f"_{machine}" in wheel


def _musl() -> bool:
    import platform

    return not platform.libc_ver()[0] and any(Path("/lib").glob("ld-musl-*"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
