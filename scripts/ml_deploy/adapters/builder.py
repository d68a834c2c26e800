"""Builds with the docker command: `docker buildx build` where the plugin is, else the classic `docker build`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import tarfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

from ml_deploy.errors import EngineUnavailable, InputError
from ml_deploy.images.engine import BuildError, BuildRequest, Built, ContextFile

_SETUP = "Add `docker/setup-buildx-action` before this step, or install the plugin (package docker-buildx-plugin)."
#: Lines of the classic builder about itself.
_NOISE = re.compile(r"^(DEPRECATED: The legacy builder|\s+BuildKit is currently disabled|\s+environment-variable|"
                    r"\s+Install the buildx component|\s+https://docs.docker.com/go/buildx|Sending build context)")  # fmt: skip
_MTIME = 0  # files that we put into a context: the same bytes make the same layer


def buildx_version() -> str:
    """The version of the buildx plugin; empty where there is none."""
    done = _docker("buildx", "version")
    if done.returncode:
        return ""
    version = re.search(r"v?(\d+\.\d+\.\S+)", done.stdout)
    return version[1] if version else "unknown"


def engine_environment() -> dict[str, str]:
    """The environment for docker-py, which knows nothing of docker contexts (rootless engines, Docker Desktop)."""
    host = os.environ.get("DOCKER_HOST") or _context_host()
    return {**os.environ, **({"DOCKER_HOST": host} if host else {})}


def _context_host() -> str:
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        chosen = os.environ.get("DOCKER_CONTEXT") or json.loads((folder / "config.json").read_text())["currentContext"]
    except (OSError, ValueError, KeyError):
        return ""
    if chosen == "default":
        return ""
    return _docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}", chosen).stdout.strip()


def build(request: BuildRequest, temp: Path, line: Callable[[str], None]) -> Built:
    """Run the builder. The image ID is empty where the builder wrote none. Raises BuildError, InputError."""
    with_buildx = bool(buildx_version())
    if not with_buildx:
        _refuse_what_needs_buildx(request)
    id_file, metadata_file = temp / "image-id", temp / "build-metadata.json"
    for file in (id_file, metadata_file):
        file.unlink(missing_ok=True)
    words = _words(request, id_file, temp, metadata_file if with_buildx else None)
    env = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"} if with_buildx else {"DOCKER_BUILDKIT": "0"}
    status, output = _stream(words, env, request.context, line)
    if status:
        raise BuildError(output)
    return Built(_text(id_file), json.loads(_text(metadata_file) or "{}"))


def _words(request: BuildRequest, id_file: Path, temp: Path, metadata_file: Path | None) -> list[str]:
    out = ["docker", *(["buildx"] if metadata_file else []), "build", "--iidfile", str(id_file)]
    if metadata_file:
        out += ["--load", "--progress", "plain", "--metadata-file", str(metadata_file)]
    else:
        out += ["--force-rm"]  # or a failed step leaves its container behind
    out += ["--file", str(request.dockerfile)]
    for tag in request.tags:
        out += ["--tag", tag]
    for option, pairs in (("--build-arg", request.build_args), ("--label", request.labels)):
        for name, value in pairs.items():
            out += [option, f"{name}={value}"]
    for option, values in (("--cache-from", request.cache_from), ("--cache-to", request.cache_to)):
        for value in values:
            out += [option, value]
    for name, value in request.secrets.items():
        out += ["--secret", f"id={name},src={_secret_file(temp, name, value)}"]
    if request.target:
        out += ["--target", request.target]
    return [*out, str(request.context) if isinstance(request.context, Path) else "-"]


def _secret_file(temp: Path, name: str, value: str) -> Path:
    file = temp / f"secret-{name}"
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(value)
    return file


def _refuse_what_needs_buildx(request: BuildRequest) -> None:
    given = [name for name, value in (("secrets", request.secrets), ("cache-from", request.cache_from),
                                      ("cache-to", request.cache_to)) if value]  # fmt: skip
    if given:
        names = " and ".join(f"`{name}`" for name in given)
        raise InputError(
            f"{names} cannot work here: they need BuildKit, and the docker buildx plugin is missing.", hint=_SETUP
        )


def _stream(
    words: list[str], env: dict[str, str], context: Path | tuple[ContextFile, ...], line: Callable[[str], None]
) -> tuple[int, str]:
    """Run the command, each line to `line` as it comes; its status and all its output."""
    output: list[str] = []
    archive = None if isinstance(context, Path) else context
    process = _open(words, env, archive is not None)
    try:
        feeder = threading.Thread(target=_feed, args=(process.stdin, archive), daemon=True)
        feeder.start()
        assert process.stdout
        for raw in io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace"):
            text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", raw).rstrip()
            if text and not _NOISE.match(text):
                output.append(text)
                line(text)
        return process.wait(), "\n".join(output)
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        process.kill()
        raise


def _open(words: list[str], env: dict[str, str], fed: bool) -> subprocess.Popen[bytes]:
    settings = {"DOCKER_CLI_HINTS": "false", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.Popen(
            words, env=os.environ | settings | env, stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError:
        raise no_command() from None


def _feed(stdin: IO[bytes] | None, files: tuple[ContextFile, ...] | None) -> None:
    """Write a context's files as a tar stream, so that no copy of a large model is made on disk."""
    if stdin is None or files is None:
        return
    with contextlib.suppress(BrokenPipeError, ValueError):  # the builder stopped; its output says why
        with tarfile.open(fileobj=stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for file in files:
                _add(archive, file)
        stdin.close()


def _add(archive: tarfile.TarFile, file: ContextFile) -> None:
    member = tarfile.TarInfo(file.name)
    member.mode, member.mtime = 0o644, _MTIME
    if isinstance(file.source, bytes):
        member.size = len(file.source)
        archive.addfile(member, io.BytesIO(file.source))
        return
    with open(file.source, "rb") as source:
        member.size = os.fstat(source.fileno()).st_size
        archive.addfile(member, source)


def no_command() -> EngineUnavailable:
    """The docker command is missing."""
    return EngineUnavailable(
        "The `docker` command is not installed.",
        hint="On GitHub use an `ubuntu-*` runner; in a container job install the docker CLI in the job's image.",
    )


@cache
def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise no_command() from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
