"""The base image of the example: python:3.12-slim where a registry is reachable, else one made from Debian's packages.

usage: base.py [TAG]      prints the image to build from; TAG (default ml-deploy-base:bookworm) names what is made here

What is made here is for trying things out on this machine. It has Python, pip, this machine's CA
certificates and its pip settings (so that pip works inside builds), a shell and the core tools; it has no apt.
It is made once, from packages of the machine's own release, and kept by the engine. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from configparser import RawConfigParser
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

OFFICIAL = "python:3.12-slim"
DEFAULT_TAG = "ml-deploy-base:bookworm"

_REGISTRY = "https://registry-1.docker.io/v2/"
_LABEL = "ml-deploy.base"
_RECIPE = "1"  # part of the label: another recipe makes another image
_PACKAGES = ("base-files", "base-passwd", "bash", "dash", "coreutils", "libc-bin", "sed", "grep", "findutils", "tar",
             "gzip", "hostname", "passwd", "libstdc++6", "python3", "python3-pip-whl")  # fmt: skip
_LEFT_OUT = ("./usr/share/man", "./usr/share/doc", "./usr/share/locale", "./usr/share/info", "./usr/share/debconf",
             "./usr/share/perl5", "./usr/share/lintian", "./usr/share/bug", "./usr/lib/*/gconv/*.so",
             "./usr/lib/python3*/pydoc_data", "./usr/lib/python3*/lib2to3", "./usr/lib/python3*/EXTERNALLY-MANAGED")  # fmt: skip
_CA = "etc/ssl/certs/ca-certificates.crt"
_PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES")

#: Second half: in the image itself, with its own Python. The import and the bytecode make start-up quick.
_DOCKERFILE = """\
FROM {raw}
RUN ldconfig && ln -sf python3 /usr/bin/python && ln -sf which.debianutils /usr/bin/which \\
 && wheel=$(echo /usr/share/python-wheels/pip-*.whl) \\
 && PYTHONPATH=$wheel python3 -m pip install --quiet --no-index --no-compile $wheel && pip --version \\
 && { python3 -m compileall -q -j 0 /usr/lib/python3* /usr/local/lib/python3* >/dev/null || true; }
ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin
CMD ["python3"]
"""

Say = Callable[[str], None]


class BaseError(Exception):
    """There is no base image, and none can be made; the text says why and what to do."""


def ensure(tag: str = DEFAULT_TAG, say: Say = print) -> str:
    """The image to build from, made when it has to be. Raises BaseError."""
    if _has(OFFICIAL) or registry_reachable():
        return OFFICIAL
    if _docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{_LABEL}"}}}}', tag) == _RECIPE:
        return tag
    say(f"No registry is reachable: making the base image {tag} from this machine's package archive (once)")
    started = time.monotonic()
    make(tag)
    size = int(_docker("image", "inspect", "--format", "{{.Size}}", tag) or 0)
    say(f"Made {tag}: {size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
    return tag


def registry_reachable(seconds: float = 3.0) -> bool:
    """Whether Docker Hub answers as a registry does (401 with a challenge); a proxy's page does not count."""
    try:
        with urlopen(Request(_REGISTRY, method="GET"), timeout=seconds) as answer:
            return "docker-distribution-api-version" in answer.headers
    except HTTPError as error:
        with error:
            return error.code == 401 and "docker-distribution-api-version" in error.headers
    except OSError:
        return False


def make(tag: str) -> None:
    """Download, unpack, import, finish with pip and bytecode. Raises BaseError."""
    for tool in ("apt-get", "dpkg-deb", "tar"):
        if not shutil.which(tool):
            raise BaseError(
                f"No container registry is reachable, and without {tool} no base image can be made here. "
                f"Load one (`docker load`) and tag it {OFFICIAL}, or connect to a registry."
            )
    raw = f"{tag.partition(':')[0]}:raw-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="ml-deploy-base-") as folder:
        root = Path(folder) / "root"
        _unpack(_download(Path(folder)), root)
        _settle(root)
        try:
            _import(root, raw)
            _finish(raw, tag)
        finally:
            subprocess.run(["docker", "image", "rm", raw], capture_output=True)


def _download(folder: Path) -> list[Path]:
    """The packages with all that they need, as if nothing were installed."""
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    (folder / "status").touch()
    words = ["apt-get", "-qq", "--yes", "--no-install-recommends", "--download-only",
             "-o", f"Dir::State::status={folder}/status", "-o", f"Dir::Cache::archives={archives}",
             "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3",
             "install", *_PACKAGES]  # fmt: skip
    done = _call(words)
    if done.returncode and os.geteuid() == 0:  # no package lists yet, or old ones
        _call(["apt-get", "-qq", "-o", "Acquire::Retries=3", "update"])
        done = _call(words)
    if done.returncode:
        raise BaseError(f"The packages of the base image cannot be downloaded: {_tail(done)} Run `apt-get update`.")
    return sorted(archives.glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    """Unpack as dpkg would, without maintainer scripts; /bin, /lib and /sbin are links, as in every Debian today."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")

    def one(package: Path) -> None:
        tar = ["tar", "-C", str(root), "-x", "--keep-directory-symlink", "--no-same-owner", "--wildcards",
               *(f"--exclude={pattern}" for pattern in _LEFT_OUT)]  # fmt: skip
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as source:
            done = subprocess.run(tar, stdin=source.stdout, capture_output=True, text=True)
        if done.returncode or source.returncode:
            raise BaseError(f"{package.name} cannot be unpacked: {_tail(done)}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, packages))


def _settle(root: Path) -> None:
    """What maintainer scripts would have done: users, the CA bundle; and pip's settings."""
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    bundle = next((p for p in _ca_bundles() if p.is_file()), None)
    if bundle:
        (root / _CA).parent.mkdir(parents=True, exist_ok=True)
        (root / _CA).write_bytes(bundle.read_bytes())
    (root / "etc/pip.conf").write_text(pip_settings(os.environ, Path("/etc/pip.conf"), bool(bundle)))


def _ca_bundles() -> list[Path]:
    given = [os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    return [Path(path) for path in [*given, f"/{_CA}", "/etc/pki/tls/certs/ca-bundle.crt"] if path]


def pip_settings(env: os._Environ[str] | dict[str, str], conf: Path, bundle: bool) -> str:
    """This machine's pip settings as a pip.conf: its file first, the environment over it; paths of ours left out."""
    settings = RawConfigParser()
    settings.read(conf)
    if not settings.has_section("global"):
        settings.add_section("global")
    for name in ("cert", "find-links", "cache-dir", "target", "prefix"):
        settings.remove_option("global", name)
    for name in _PIP_SETTINGS:
        if env.get(name):
            settings.set("global", name.removeprefix("PIP_").lower().replace("_", "-"), env[name])
    if bundle:
        settings.set("global", "cert", f"/{_CA}")
    settings.set("global", "disable-pip-version-check", "true")
    settings.set("global", "root-user-action", "ignore")
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items(section))
        for section in settings.sections()
    )


def _import(root: Path, raw: str) -> None:
    words = ["docker", "import", "--change", f'LABEL {_LABEL}="{_RECIPE}"', "-", raw]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as docker:
        assert docker.stdin
        try:
            with tarfile.open(fileobj=docker.stdin, mode="w|") as archive:
                archive.add(root, arcname=".", filter=_owned_by_root)
            docker.stdin.close()
        except BrokenPipeError:
            pass
        output = docker.stdout.read().decode() if docker.stdout else ""
    if docker.returncode:
        raise BaseError(f"The base image cannot be imported: {output.strip()[-400:]}")


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _finish(raw: str, tag: str) -> None:
    done = subprocess.run(["docker", "build", "--quiet", "--network", "none", "--tag", tag, "-"],
                          env=os.environ | {"BUILDX_BUILDER": "default"}, input=_DOCKERFILE.replace("{raw}", raw), capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise BaseError(f"The base image cannot be finished: {_tail(done)}")


def _has(image: str) -> bool:
    return bool(_docker("image", "inspect", "--format", "{{.Id}}", image))


def _docker(*words: str) -> str:
    """The output of a docker command; empty when it failed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _call(words: list[str]) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(words, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout or "").split())[-400:]


if __name__ == "__main__":
    try:
        wanted = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_TAG
        print(ensure(wanted, lambda line: print(line, file=sys.stderr, flush=True)))
    except BaseError as error:
        sys.exit(f"base.py: {error}")
