"""Where the API server is and who we are there, read from a kubeconfig (or from a pod's own account).

Everything here is read from text; only exec plugins start a process, and only when a token is needed.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_deploy.errors import AuthFailed, InputError

Config = dict[str, Any]
#: Gives a bearer token; True asks for a fresh one.
TokenSource = Callable[[bool], str]

_AS_PRINTED = "`kubeconfig` takes a path or the kubeconfig's text, as `kubectl config view --raw` prints it."
_LONGEST_PATH = 500
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Credentials:
    """What proves who we are: a token, a client certificate with its key, or a user with a password."""

    token: TokenSource | None = field(default=None, repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    basic: str = field(default="", repr=False)
    #: Whether asking `token` again can give another one.
    renewable: bool = False


@dataclass(frozen=True)
class Endpoint:
    """One API server and our credentials there.

    ca: PEM text, empty for the system's store. hint: what may be wrong when it does not answer.
    """

    server: str
    namespace: str = "default"
    context: str = ""
    ca: str = ""
    insecure: bool = False
    tls_name: str = ""
    proxy: str = ""
    hint: str = ""
    credentials: Credentials = field(default_factory=Credentials, repr=False)


def find(kubeconfig: str, env: Mapping[str, str]) -> Config:
    """The kubeconfig (path or text; else KUBECONFIG, else ~/.kube/config), with absolute paths.

    A path is relative to the folder of the file that it is written in, in a text to the working directory. Raises InputError when it cannot be read.
    """
    if "clusters:" in kubeconfig or "\n" in kubeconfig.strip() or kubeconfig.lstrip().startswith("{"):
        return _anchored(_parse(kubeconfig, "the input `kubeconfig`"), Path())
    if len(kubeconfig) > _LONGEST_PATH:
        raise InputError(
            "The input `kubeconfig` is neither a path nor the text of a kubeconfig.",
            hint="If it is a kubeconfig in base64, decode it first, or store it as plain text.",
        )
    if kubeconfig:
        return _read(Path(kubeconfig).expanduser())
    paths = [Path(p) for p in env.get("KUBECONFIG", "").split(os.pathsep) if p and Path(p).is_file()]
    home = Path(env.get("HOME") or "~").expanduser() / ".kube" / "config"
    paths = paths or ([home] if home.is_file() else [])
    if paths:
        return _merged([_read(path) for path in paths])
    if env.get("KUBERNETES_SERVICE_HOST") and (_ACCOUNT / "token").is_file():
        return _anchored(_own_account(env), _ACCOUNT)
    raise InputError(
        "No cluster is named: neither `kubeconfig` nor `resource-group` and `cluster-name` is set, "
        "and there is no KUBECONFIG in the environment.",
        hint="Set `resource-group` and `cluster-name` for AKS, or `kubeconfig` for any other cluster.",
    )


def endpoint(config: Config, *, context: str = "", namespace: str = "") -> Endpoint:
    """The endpoint of one context (the current one by default). Raises InputError for what is not there."""
    name = context or config.get("current-context") or ""
    contexts = {c.get("name"): c.get("context") or {} for c in config.get("contexts") or []}
    if not name and len(contexts) == 1:
        name = next(iter(contexts))
    if name not in contexts:
        raise InputError(
            f"The kubeconfig has no context {name!r}." if name else "The kubeconfig has no current context.",
            hint=f"Set `kube-context` to one of: {', '.join(sorted(map(str, contexts))) or 'none is there'}.",
        )
    chosen = contexts[name]
    cluster = _named(config, "clusters", "cluster", chosen.get("cluster"))
    user = _named(config, "users", "user", chosen.get("user")) if chosen.get("user") else {}
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise InputError(f"The kubeconfig's cluster {chosen.get('cluster')!r} has no server address.")
    return Endpoint(
        server=server, namespace=namespace or chosen.get("namespace") or "default", context=name,
        ca=_material(cluster, "certificate-authority"), insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_name=str(cluster.get("tls-server-name") or ""), proxy=str(cluster.get("proxy-url") or ""),
        credentials=_credentials(user, cluster),
    )  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The kubeconfig {path} cannot be read: {error.strerror or error}.",
            hint="`kubeconfig` takes a path or the kubeconfig's text.",
        ) from error


def _parse(text: str, source: str) -> Config:
    import yaml

    try:
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (safe loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"The kubeconfig in {source} is not YAML{where}.") from error
    if not isinstance(config, dict) or "clusters" not in config:
        raise InputError(
            f"There is no kubeconfig in {source}: it has no `clusters`.",
            hint=_AS_PRINTED,
        )
    _check_shape(config, source)
    return config


def _check_shape(config: Config, source: str) -> None:
    """Raises InputError unless each section is a list of entries that have what they name."""
    for section, key in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
        entries = config.get(section) or []
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
            if not isinstance(entries, list) or not _is_entry(entry, key):
                raise InputError(
                    f"The kubeconfig in {source} is malformed: `{section}` must be a list of `name` and `{key}`, "
                    f"and entry {number + 1} is not.",
                    hint=_AS_PRINTED,
                )


def _is_entry(entry: Any, key: str) -> bool:
    inner = (entry.get(key) or {}) if isinstance(entry, dict) else None
    if not isinstance(inner, dict):
        return False
    return all(isinstance(inner.get(part) or {}, dict) for part in ("exec", "auth-provider"))


def _read(path: Path) -> Config:
    return _anchored(_parse(_text(path), str(path)), path.parent)


def _anchored(config: Config, folder: Path) -> Config:
    """The kubeconfig with absolute paths; a plugin's name without a slash stays, for it is found on the PATH."""
    for entry in config.get("clusters") or []:
        _anchor(entry.get("cluster"), folder, "certificate-authority")
    for entry in config.get("users") or []:
        user = entry.get("user") or {}
        _anchor(user, folder, "client-certificate", "client-key", "tokenFile")
        if "/" in str((user.get("exec") or {}).get("command")):
            _anchor(user["exec"], folder, "command")
    return config


def _anchor(holder: Config | None, folder: Path, *keys: str) -> None:
    for key in keys:
        if holder and holder.get(key):
            holder[key] = str(folder.absolute() / str(holder[key]))


def _merged(configs: list[Config]) -> Config:
    """Several files as one, the first to name a thing wins (as kubectl does it)."""
    merged: Config = {"current-context": next((c["current-context"] for c in configs if c.get("current-context")), "")}
    for section in ("clusters", "users", "contexts"):
        byname: dict[str, Any] = {}
        for config in configs:
            for entry in config.get(section) or []:
                byname.setdefault(str(entry.get("name")), entry)
        merged[section] = list(byname.values())
    return merged


def _own_account(env: Mapping[str, str]) -> Config:
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    return {
        "current-context": "pod",
        "clusters": [
            {"name": "pod", "cluster": {"server": f"https://{host}:{port}", "certificate-authority": "ca.crt"}}
        ],
        "users": [{"name": "pod", "user": {"tokenFile": "token"}}],
        "contexts": [
            {"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": _text(_ACCOUNT / "namespace")}}
        ],
    }


def _named(config: Config, section: str, key: str, name: object) -> Config:
    for entry in config.get(section) or []:
        if entry.get("name") == name:
            return dict(entry.get(key) or {})
    raise InputError(f"The kubeconfig's context names {key} {name!r}, which is not in it.")


def _material(holder: Config, key: str) -> str:
    """PEM text from `KEY-data` (base64) or from the file `KEY`."""
    if holder.get(f"{key}-data"):
        try:
            return base64.b64decode("".join(str(holder[f"{key}-data"]).split()), validate=True).decode()
        except ValueError as error:
            raise InputError(f"The kubeconfig's {key}-data is not base64.") from error
    return _text(Path(holder[key])) if holder.get(key) else ""


def _credentials(user: Config, cluster: Config) -> Credentials:
    certificate, key = _material(user, "client-certificate"), _material(user, "client-key")
    if user.get("tokenFile"):  # kubelet and CI systems rotate it
        return Credentials(lambda _fresh: _text(Path(user["tokenFile"])).strip(), certificate, key, renewable=True)
    if user.get("token"):
        return Credentials(lambda _fresh: str(user["token"]), certificate, key)
    if user.get("exec"):
        return _Plugin(user["exec"], cluster).credentials()
    if user.get("auth-provider"):
        return Credentials(_provider(user["auth-provider"]))
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}"
        return Credentials(basic=base64.b64encode(pair.encode()).decode())
    return Credentials(certificate=certificate, key=key)


def _provider(spec: Config) -> TokenSource:
    """The legacy `auth-provider` (oidc, gcp): the token that kubectl left in the kubeconfig, which is not renewed here."""
    if spec.get("name") == "azure":
        raise AuthFailed(
            "The kubeconfig signs in by the auth-provider `azure`, which Kubernetes removed in 1.26.",
            hint="Set `resource-group` and `cluster-name` instead of `kubeconfig`; no plugin is needed then.",
        )

    config = spec.get("config") or {}
    given = str(config.get("id-token") or config.get("access-token") or "")
    if not given:
        raise AuthFailed(
            f"The kubeconfig signs in by the auth-provider {spec.get('name')!r} and holds no token of it.",
            hint="Use a kubeconfig with a token or a credential plugin (`exec`).",
        )
    return lambda _fresh: given


class _Plugin:
    """A client-go credential plugin: a command that prints an ExecCredential."""

    def __init__(self, spec: Config, cluster: Config) -> None:
        self._spec, self._cluster = spec, cluster
        self._status: Config = {}

    def credentials(self) -> Credentials:
        """Runs the plugin once: only its answer tells whether it gives a token or a certificate."""
        status = self._current(False)
        certificate, key = status.get("clientCertificateData", ""), status.get("clientKeyData", "")
        if status.get("token"):
            return Credentials(
                lambda fresh: str(self._current(fresh).get("token", "")), certificate, key, renewable=True
            )
        return Credentials(certificate=certificate, key=key)

    def _current(self, fresh: bool) -> Config:
        if fresh or not self._status or _expired(self._status.get("expirationTimestamp")):
            self._status = self._run()
        return self._status

    def _run(self) -> Config:
        command = str(self._spec.get("command") or "")
        argv = [command, *map(str, self._spec.get("args") or [])]
        extra = {str(e["name"]): str(e["value"]) for e in self._spec.get("env") or []}
        try:
            done = subprocess.run(
                argv, env={**os.environ, **extra, "KUBERNETES_EXEC_INFO": self._info()},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise AuthFailed(
                f"The kubeconfig signs in with the plugin `{command}`, which is not installed here.",
                hint=str(self._spec.get("installHint") or "").strip()
                or f"Install {command}, or for AKS set `resource-group` and `cluster-name`: then none is needed.",
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AuthFailed(f"The kubeconfig's plugin `{command}` gave no credential: {error}.") from error
        return self._answer(command, done)

    def _answer(self, command: str, done: subprocess.CompletedProcess[str]) -> Config:
        try:
            status = json.loads(done.stdout)["status"] if done.returncode == 0 else {}
        except (ValueError, KeyError, TypeError):
            status = {}
        if not status.get("token") and not status.get("clientCertificateData"):
            said = (done.stderr.strip() or "nothing on stderr")[-500:]
            raise AuthFailed(
                f"The kubeconfig's plugin `{command}` gave no credential (exit code {done.returncode}): {said}",
                hint="Run the plugin by hand with the same environment; most want a sign-in first.",
            )
        return dict(status)

    def _info(self) -> str:
        spec: Config = {"interactive": False}
        if self._spec.get("provideClusterInfo"):
            spec["cluster"] = {"server": self._cluster.get("server"),
                               "certificate-authority-data": self._cluster.get("certificate-authority-data")}  # fmt: skip
        return json.dumps({"apiVersion": self._spec.get("apiVersion"), "kind": "ExecCredential", "spec": spec})


def _expired(stamp: object) -> bool:
    """Whether an RFC 3339 moment is past, or less than 30 seconds away."""
    if not stamp:
        return False
    from datetime import datetime

    return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp() < time.time() + 30
