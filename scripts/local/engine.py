"""Makes sure that a Docker Engine runs, and ends the one that it started.

usage: engine.py up STATE        (STATE: a folder that remembers what was started)
       engine.py down STATE

An engine that answers is used as it is. Else, as root on Debian or Ubuntu, docker.io is installed
where it is missing and dockerd started in the background, by systemd where that runs. Elsewhere it
says what to do. Safe to run again after a kill at any moment. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Say = Callable[[str], None]

_SYSTEMD = "systemd"
_START_SECONDS = 60.0
_STOP_SECONDS = 45.0
_POLICY = Path("/usr/sbin/policy-rc.d")
_PID_FILES = (Path("/var/run/docker.pid"), Path("/var/run/docker/containerd/containerd.pid"))
_BY_HAND = "Install and start it (https://docs.docker.com/engine/install/), then run this again."


class EngineError(Exception):
    """No engine, and none can be started here; the text says why and what to do."""


def ensure(state: Path, say: Say = print) -> str:
    """The version of the engine that answers, started when none did. Raises EngineError."""
    version, problem = ping()
    if version:
        return version
    if os.environ.get("DOCKER_HOST"):
        raise EngineError(f"DOCKER_HOST is {os.environ['DOCKER_HOST']}, and no engine answers there: {problem}")
    _demand_means(problem)
    state.mkdir(parents=True, exist_ok=True)
    with _alone(state):
        version, _ = ping()
        return version or _start(state, say)


def down(state: Path, say: Say = print) -> None:
    """End the engine if this folder remembers starting it, with its containers; else nothing."""
    record = state / "engine"
    if not record.exists():
        return
    with _alone(state):
        started = record.read_text().strip()
        if started == _SYSTEMD:
            say("Stopping Docker Engine (systemctl stop docker)")
            subprocess.run(["systemctl", "stop", "docker.socket", "docker.service"], capture_output=True)
        elif _is_running(started):
            say(f"Stopping Docker Engine (dockerd, process {started.split()[0]})")
            _end(started)
        record.unlink(missing_ok=True)


def ping() -> tuple[str, str]:
    """The engine's version, or an empty string and why it does not answer."""
    try:
        done = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"],
                              capture_output=True, text=True, timeout=15, stdin=subprocess.DEVNULL)  # fmt: skip
    except FileNotFoundError:
        return "", "the docker command is not installed"
    except subprocess.TimeoutExpired:
        return "", "it gave no answer within 15 s"
    if done.returncode:
        return "", " ".join(done.stderr.split())[-300:]
    return done.stdout.strip(), ""


def _demand_means(problem: str) -> None:
    """Raises EngineError unless an engine can be started here."""
    if "permission denied" in problem.lower():
        raise EngineError(
            "You may not use the Docker Engine that runs here: add yourself to the group `docker`, or be root."
        )
    if sys.platform != "linux":
        raise EngineError(
            f"No Docker Engine answers ({problem}). Start Docker Desktop (or colima), then run this again."
        )
    if os.geteuid() != 0:
        start = "Start it: `sudo systemctl start docker`." if shutil.which("dockerd") else f"{_BY_HAND}"
        raise EngineError(
            f"No Docker Engine answers ({problem}). {start} As root, on Debian or Ubuntu, this is done for you."
        )
    if not (shutil.which("dockerd") and shutil.which("docker")) and not shutil.which("apt-get"):
        raise EngineError(f"No Docker Engine answers ({problem}). {_BY_HAND}")


def _start(state: Path, say: Say) -> str:
    if not (shutil.which("dockerd") and shutil.which("docker")):
        _install(say)
        version, _ = ping()
        if version:  # the package's own service came up
            (state / "engine").write_text(_SYSTEMD)
            return version
    if Path("/run/systemd/system").is_dir() and _systemctl_start(say):
        (state / "engine").write_text(_SYSTEMD)
        return _await(None, state)
    return _start_dockerd(state, say)


def _install(say: Say) -> None:
    say("Installing Docker Engine (docker.io, from this machine's package archive)")
    packages = ["docker.io", "iptables"]
    if _reads("/sys/module/apparmor/parameters/enabled") == "Y":
        packages.append("apparmor")  # without its parser the engine cannot start containers
    words = ["apt-get", "-qq", "--yes", "--no-install-recommends", "-o", "Acquire::Retries=3",
             "-o", "DPkg::Lock::Timeout=120", "install", *packages]  # fmt: skip
    with _no_services():
        _apt("dpkg", "--configure", "-a")  # a kill in the middle of an installation leaves this to do
        done = _apt(*words)
        if done.returncode:  # no package lists yet, or old ones
            _apt("apt-get", "-qq", "-o", "Acquire::Retries=3", "update")
            done = _apt(*words)
    if done.returncode or not shutil.which("dockerd"):
        raise EngineError(f"docker.io cannot be installed: {' '.join(done.stderr.split())[-400:]} {_BY_HAND}")


def _apt(*words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "a", "LC_ALL": "C"}
    return subprocess.run(words, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Without systemd the package must not start the engine: ours records its process, so that it can be ended."""
    ours = not Path("/run/systemd/system").is_dir() and not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\n# ml-deploy: no services while docker.io is installed\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)


def _systemctl_start(say: Say) -> bool:
    say("Starting Docker Engine (systemctl start docker)")
    return subprocess.run(["systemctl", "start", "docker"], capture_output=True).returncode == 0


def _start_dockerd(state: Path, say: Say) -> str:
    """Start dockerd in the background; once more with the older iptables where the newer does not work."""
    _mount_cgroups()
    _drop_stale_pid_files()
    path = os.environ.get("PATH", "")
    for attempt in (path, _legacy_iptables(state, path)):
        process = _spawn(state, attempt)
        say(f"Starting Docker Engine (dockerd, process {process.pid}, log {state / 'dockerd.log'})")
        (state / "engine").write_text(_identity(process.pid))
        try:
            return _await(process, state)
        except EngineError as error:
            (state / "engine").unlink(missing_ok=True)
            if "iptables" not in str(error) or attempt != path or not shutil.which("iptables-legacy"):
                raise
    raise AssertionError


def _spawn(state: Path, path: str) -> subprocess.Popen[bytes]:
    with open(state / "dockerd.log", "ab") as log:
        return subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                start_new_session=True, env=os.environ | {"PATH": path})  # fmt: skip


def _await(process: subprocess.Popen[bytes] | None, state: Path) -> str:
    """Wait until the engine answers. Raises EngineError with the log's last lines when it ends instead."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        version, problem = ping()
        if version:
            return version
        if process is not None and process.poll() is not None:
            raise EngineError(f"dockerd ended with status {process.returncode}: {_log_tail(state)}")
        time.sleep(0.2)
    if process is not None:
        _end(_identity(process.pid))
    raise EngineError(
        f"Docker Engine does not answer {_START_SECONDS:.0f} s after its start ({problem}). {_log_tail(state)}"
    )


def _log_tail(state: Path) -> str:
    lines = _reads(str(state / "dockerd.log")).splitlines()
    telling = [line for line in lines[-40:] if "level=fatal" in line or "failed to" in line or "error" in line.lower()]
    return " / ".join((telling or lines)[-3:])[-800:]


def _mount_cgroups() -> None:
    """A bare chroot may have an empty /sys/fs/cgroup: mount what the kernel has, the unified hierarchy first."""
    root = Path("/sys/fs/cgroup")
    if not root.is_dir() or any(root.iterdir()):
        return
    rows = [line.split() for line in _reads("/proc/cgroups").splitlines() if not line.startswith("#")]
    version1 = [name for name, hierarchy, _, enabled in rows if enabled == "1" and hierarchy != "0"]
    if not version1 and "cgroup2" in _reads("/proc/filesystems"):
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(root)], capture_output=True)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", str(root)], capture_output=True)
    for name in version1 or [row[0] for row in rows if row[3] == "1"]:
        (root / name).mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup", "-o", name, "cgroup", str(root / name)], capture_output=True)


def _drop_stale_pid_files() -> None:
    """dockerd refuses to start when its pid file names any living process, whichever that is by now."""
    for file in _PID_FILES:
        pid = _reads(str(file))
        if pid and _reads(f"/proc/{pid}/comm") != file.stem.replace("docker", "dockerd"):
            file.unlink(missing_ok=True)


def _legacy_iptables(state: Path, path: str) -> str:
    """A PATH on which `iptables` is the legacy one, for kernels without nf_tables."""
    folder = state / "iptables"
    folder.mkdir(exist_ok=True)
    for name in ("iptables", "ip6tables"):
        legacy, link = shutil.which(f"{name}-legacy"), folder / name
        link.unlink(missing_ok=True)
        if legacy:
            link.symlink_to(legacy)
    return f"{folder}:{path}"


def _identity(pid: int) -> str:
    """A process's ID and start time: an ID alone may be another process by now."""
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        start = "?"
    return f"{pid} {start}"


def _is_running(identity: str) -> bool:
    pid = identity.split()[0] if identity else ""
    return pid.isdigit() and _identity(int(pid)) == identity and _reads(f"/proc/{pid}/comm") == "dockerd"


def _end(identity: str) -> None:
    """SIGTERM (dockerd ends its containers and containerd), SIGKILL when that takes too long."""
    pid = int(identity.split()[0])
    for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while _is_running(identity) and not _is_zombie(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        if not _is_running(identity) or _is_zombie(pid):
            return


def _is_zombie(pid: int) -> bool:
    return _reads(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] == ["Z"]


def _reads(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One of us at a time; the lock goes with its holder, however that ends."""
    with open(state / "engine.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: list[str]) -> int:
    """The command line."""
    if len(argv) != 2 or argv[0] not in ("up", "down"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if argv[0] == "up":
            print(f"Docker Engine {ensure(Path(argv[1]), lambda line: print(line, flush=True))}")
        else:
            down(Path(argv[1]))
    except EngineError as error:
        print(f"engine.py: {error}", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
