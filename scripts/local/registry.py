"""A real distribution registry behind a front that has Azure Container Registry's sign-in.

The registry is Debian's `docker-registry` with token authentication; the front adds TLS,
`/oauth2/exchange`, `/oauth2/token` and faults, and passes everything else on.

    python scripts/local/registry.py --state DIR [--port N]     a plain registry, without TLS
    python scripts/local/azure.py ...                           with the front, see there
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: it has an azure.py

import jwt
import yaml
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from local import faults, serving

#: The user name of a login with a token instead of a password.
TOKEN_USER = "00000000-0000-0000-0000-000000000000"
ISSUER = "Azure Container Registry"


def binary() -> str:
    """The path of `docker-registry`; installed from Debian's packages when it is missing and we are root."""
    found = shutil.which("docker-registry")
    if found:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("local stack: installing the package docker-registry", file=sys.stderr, flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (
            ["apt-get", "-qq", "update"],
            ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "docker-registry"],
        ):
            subprocess.run(words, env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False)
        found = shutil.which("docker-registry")
    if not found:
        raise SystemExit("The local stack needs `docker-registry` (Debian, Ubuntu: apt-get install docker-registry).")
    return found


@dataclass
class Settings:
    """What a test or a person may change while the stand-in runs, at `/-/settings`."""

    denied: list[str] = field(default_factory=list)  # registry actions that nobody gets, as push
    unknown_to_registry: bool = False  # the identity has no role on the registry at all
    anonymous_pull: bool = True  # stands in for the kubelet's identity
    admin_user: str = "local"
    admin_password: str = "local-admin-password"
    abac: bool = False  # what ARM says of the registry's role assignment mode
    federated_subject: str = "repo:org/ml-deploy-example:ref:refs/heads/main"
    oidc_lifetime: float = 300.0  # seconds, of GitHub's token
    token_lifetime: float = 3600.0  # seconds, of Entra's tokens
    stopped: bool = False  # the AKS cluster
    private: bool = False
    local_accounts: bool = False

    def change(self, told: Mapping[str, Any]) -> None:
        """Set some of them. Raises ValueError on an unknown name."""
        unknown = set(told) - set(vars(self))
        if unknown:
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
        vars(self).update(told)


class Signer:
    """Signs what the registry calls a token."""

    def __init__(self, authority: serving.Authority, service: str, folder: Path) -> None:
        self.service = service
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(authority.ca.read_bytes())
        key, self._certificate = authority.signer("registry-token-signer.localhost")
        self._key: Any = load_pem_private_key(key.encode(), None)  # once: reading it takes longer than signing

    def auth(self, realm: str) -> dict[str, Any]:
        """The registry's setting for tokens of ours."""
        told = {"realm": realm, "service": self.service, "issuer": ISSUER, "rootcertbundle": str(self.roots)}
        return {"token": told}

    def sign(self, seconds: float, **claims: Any) -> str:
        """A token for this registry that lives for `seconds`."""
        now = int(time.time())
        told = {"iss": ISSUER, "aud": self.service, "iat": now, "nbf": now - 10, "exp": now + int(seconds), **claims}
        return jwt.encode(told, self._key, algorithm="RS256", headers={"x5c": [self._certificate]})

    def read(self, token: str) -> dict[str, Any]:
        """The claims of one of our tokens. Raises jwt.InvalidTokenError."""
        public = self._key.public_key()
        return dict(jwt.decode(token, public, algorithms=["RS256"], audience=self.service))


@asynccontextmanager
async def distribution(state: Path, port: int, auth: Mapping[str, Any]) -> AsyncIterator[str]:
    """Run the registry on a loopback port; yields its address. Images stay in the state folder.

    auth: the registry's own setting, empty for no sign-in.
    """
    folder = state / "registry"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"127.0.0.1:{port}", "relativeurls": True, "secret": "local"},
    }
    if auth:
        config["auth"] = dict(auth)
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    # dies with us, even when we are killed
    together = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    with open(folder / "log", "ab") as log:
        process = await asyncio.create_subprocess_exec(
            *together, binary(), "serve", str(folder / "config.yml"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            await _answers(port, process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    for _ in range(200):
        if process.returncode is not None:
            raise SystemExit(f"docker-registry ended at once:\n{log.read_text()[-1000:]}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit("docker-registry does not listen")


class Front:
    """Azure Container Registry's sign-in. Who may do what is a set of settings, not a directory of roles."""

    def __init__(self, signer: Signer, entra: Callable[[str], dict[str, Any]], settings: Settings) -> None:
        """entra: the claims of a token for the registry's audience; raises jwt.InvalidTokenError."""
        self._signer = signer
        self._entra = entra
        self._settings = settings

    def application(self, backend: faults.Backend) -> web.Application:
        """The sign-in's routes, the rest forwarded to the registry, faults in front of both."""
        app = web.Application()
        faults.Faults().install(app)
        app.router.add_post("/oauth2/exchange", self._exchange)
        app.router.add_post("/oauth2/token", self._token)
        app.router.add_get("/oauth2/token", self._basic_token)
        app.router.add_route("*", "/v2{path:.*}", backend.forward)
        return app

    async def _exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "access_token" or form.get("service") != self._signer.service:
            return _refuse(400, "UNSUPPORTED", "grant_type must be access_token and service this registry")
        try:
            entra = self._entra(str(form.get("access_token", "")))
        except jwt.InvalidTokenError as error:
            return _refuse(401, "UNAUTHORIZED", f"authentication required: {error}")
        if self._settings.unknown_to_registry:
            return _refuse(401, "UNAUTHORIZED", "authentication required, the identity has no access to this registry")
        refresh = self._signer.sign(3 * 3600, sub=entra["oid"], tenant=entra["tid"], grant_type="refresh_token")
        return web.json_response({"refresh_token": refresh})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        grant, scopes = form.get("grant_type"), [str(s) for s in form.getall("scope", [])]
        if grant == "refresh_token" and self._is_refresh(str(form.get("refresh_token", ""))):
            return self._grant(scopes, self._may())
        if grant == "password" and self._is_admin(str(form.get("username", "")), str(form.get("password", ""))):
            return self._grant(scopes, self._may())
        return _refuse(401, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization")

    async def _basic_token(self, request: web.Request) -> web.Response:
        scopes = [str(s) for s in request.query.getall("scope", [])]
        user, password = _basic(request.headers.get("Authorization", ""))
        if (user == TOKEN_USER and self._is_refresh(password)) or (user and self._is_admin(user, password)):
            return self._grant(scopes, self._may())
        if not user and self._settings.anonymous_pull:
            return self._grant(scopes, {"pull"})
        return _refuse(401, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization")

    def _is_refresh(self, token: str) -> bool:
        try:
            return bool(self._signer.read(token).get("grant_type") == "refresh_token")
        except jwt.InvalidTokenError:
            return False

    def _is_admin(self, user: str, password: str) -> bool:
        return (user, password) == (self._settings.admin_user, self._settings.admin_password)

    def _may(self) -> set[str]:
        return {"pull", "push", "delete", "metadata_read", "metadata_write", "*"} - set(self._settings.denied)

    def _grant(self, scopes: list[str], may: set[str]) -> web.Response:
        access = [_granted(scope, may) for several in scopes for scope in several.split() if scope.count(":") >= 2]
        token = self._signer.sign(
            75 * 60, sub="local", grant_type="access_token", access=access, jti=os.urandom(8).hex()
        )
        return web.json_response({"access_token": token, "token": token, "expires_in": 75 * 60})


def _granted(scope: str, may: set[str]) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": [a for a in actions.split(",") if a in may]}


def _basic(header: str) -> tuple[str, str]:
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _refuse(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)


async def main(args: argparse.Namespace) -> None:
    """A plain registry until SIGINT or SIGTERM."""
    state = Path(args.state).resolve()
    state.mkdir(parents=True, exist_ok=True)
    (state / "registry.json").unlink(missing_ok=True)  # of a start that was killed
    port = args.port or serving.free_port()
    auth = {"htpasswd": {"realm": "local", "path": args.htpasswd}} if args.htpasswd else {}
    async with distribution(state, port, auth):
        await serving.ready(state / "registry.json", {"registry": f"localhost:{port}"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", required=True, help="folder for images and registry.json")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--htpasswd", default="", help="a file with users; default: no sign-in")
    asyncio.run(main(parser.parse_args()))
