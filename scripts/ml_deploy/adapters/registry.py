"""A registry over HTTP: who we are there, manifests, digests. Pushing itself is the engine's work.

Azure Container Registry takes an Entra token at `/oauth2/exchange` for a refresh token, and that
at `/oauth2/token` for an access token per repository. Any other registry is asked as the
distribution specification says: no sign-in, Basic, or a token from the realm it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ml_deploy.adapters.azure import ACR_SCOPE, claims
from ml_deploy.adapters.rest import ATTEMPTS, Rest, decoded, retry_after
from ml_deploy.errors import AuthFailed, Forbidden, MlDeployError, RegistryError, Unreachable
from ml_deploy.images.reference import DOCKER_HUB, is_host
from ml_deploy.images.registry import Manifest, PushEvent, RegistryAccess

if TYPE_CHECKING:
    import requests

    from ml_deploy.adapters.azure import Azure

_MANIFESTS = ", ".join((
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
))  # fmt: skip
_DOCKER_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True)
class _Challenge:
    """What the registry wants to see: scheme is empty (nothing), `basic` or `bearer`."""

    scheme: str = ""
    realm: str = ""
    service: str = ""


@dataclass(frozen=True)
class _Credential:
    """A user with a password, or a refresh token; neither is the anonymous user."""

    username: str = ""
    password: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)


class HttpRegistry:
    """Satisfies `ml_deploy.images.registry.Registry`."""

    def __init__(
        self,
        access: RegistryAccess,
        azure: Callable[[], Azure],
        log: Callable[[str], None],
        rest: Rest | None = None,
    ) -> None:
        """azure: made on first use, since plain registries need none."""
        self._access = access
        self._make_azure = azure
        self._log = log
        self._rest = rest or Rest(log=log, attempts=1 if access.reading else ATTEMPTS)
        self._credential = _Credential()
        self._authorization: dict[str, str] = {}

    @cached_property
    def _azure(self) -> Azure:
        return self._make_azure()

    @cached_property
    def host(self) -> str:
        """The login server; for an Azure registry's name it is looked up, else made of name and suffix."""
        name = self._access.registry
        if is_host(name):
            return name.lower()
        try:
            found = self._azure.registry(name)
        except (AuthFailed, Unreachable):
            raise
        except MlDeployError as error:
            self._log(f"the registry {name} cannot be looked up: {error.message}")
            found = None
        if found is not None:
            return found.login_server
        guess = name.lower() + self._azure.cloud.acr_suffix
        self._log(f"no registry {name} is visible in the subscription: taking {guess} for its login server")
        return guess

    # -- signing in --------------------------------------------------------------------------------

    def sign_in(self, repository: str) -> None:
        """Get a fresh credential, and from its token read whether it may push."""
        challenge = self._challenge
        self._authorization = {}
        if challenge.scheme == "":
            return
        self._credential = self._find_credential(challenge)
        if challenge.scheme == "basic":
            self._sign_in_basic()
            return
        token = self._access_token(challenge, repository)
        self._authorization = {"Authorization": f"Bearer {token}"}
        if not self._access.reading:
            self._check_push(token, repository)

    @cached_property
    def _url(self) -> str:
        self._challenge  # noqa: B018 (finds out whether it speaks TLS)
        return self._base

    @cached_property
    def _challenge(self) -> _Challenge:
        answer = self._first_answer()
        if answer.status_code == 403:
            raise Forbidden(
                f"The registry {self.host} refuses this runner: its network rules do not let it in.",
                hint="Allow the runner's address in the registry's networking settings, or use a runner inside.",
            )
        if answer.ok:
            return _Challenge()
        header = answer.headers.get("WWW-Authenticate", "")
        if answer.status_code != 401 or not header:
            raise RegistryError(
                f"{self.host} does not answer as a registry does (HTTP {answer.status_code} for /v2/).",
                hint="Check `registry`: it must be the login server, such as myregistry.azurecr.io.",
            )
        scheme, _, rest = header.partition(" ")
        told = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        return _Challenge(scheme.lower(), told.get("realm", ""), told.get("service", ""))

    def _first_answer(self) -> requests.Response:
        """`GET /v2/` over TLS; over plain HTTP where the engine would do so too."""
        self._base = f"https://{_DOCKER_HUB_API if self.host == DOCKER_HUB else self.host}"
        try:
            return self._rest.send("GET", f"{self._base}/v2/")
        except Unreachable as error:
            why = repr(error.__cause__)
            if "CERTIFICATE_VERIFY_FAILED" in why:
                raise
            if not self._plain_http_allowed():
                raise (self._no_tls() if "WRONG_VERSION_NUMBER" in why else error) from error
        self._base = f"http://{self.host}"
        return self._rest.send("GET", f"{self._base}/v2/")

    def _no_tls(self) -> RegistryError:
        return RegistryError(
            f"The registry {self.host} speaks no TLS, and the Docker engine is not told that this is all right.",
            hint="Give the registry a certificate, or list it in the engine's `insecure-registries` (/etc/docker/daemon.json).",
        )

    def _plain_http_allowed(self) -> bool:
        from ml_deploy.adapters import pushing

        return pushing.insecure(self.host)

    def _find_credential(self, challenge: _Challenge) -> _Credential:
        access = self._access
        if access.username or access.password:
            return _Credential(access.username, access.password)
        is_acr = challenge.realm == f"{self._base}/oauth2/token"
        if is_acr and access.client_id:
            return self._exchange(challenge)
        from ml_deploy.adapters import pushing

        stored = pushing.stored_credential(self.host)
        if stored:
            self._log(f"signing in to {self.host} with what `docker login` has stored")
            return _Credential(*stored)
        if is_acr:
            return self._session(challenge)
        if challenge.scheme == "basic":
            raise AuthFailed(
                f"The registry {self.host} wants a user and a password.", hint="Set `username` and `password`."
            )
        return _Credential()

    def _session(self, challenge: _Challenge) -> _Credential:
        """The Azure CLI's session; where there is none, reading is tried as anybody."""
        try:
            return self._exchange(challenge)
        except AuthFailed:
            if self._access.reading:
                return _Credential()
            raise

    def _exchange(self, challenge: _Challenge) -> _Credential:
        """Entra's token for the registry's refresh token."""
        form = {
            "grant_type": "access_token",
            "service": challenge.service,
            "access_token": self._azure.token(ACR_SCOPE),
        } | ({"tenant": self._access.tenant_id} if self._access.tenant_id else {})
        answer = self._rest.send("POST", f"{self._base}/oauth2/exchange", form=form)
        if answer.ok:
            return _Credential(refresh_token=str(decoded(answer).get("refresh_token", "")))
        self._raise_if_down(answer)
        raise Forbidden(
            f"The registry {self.host} does not let {self._who()} in ({said(answer)}).",
            hint=f"{self._grant_hint()} If it has that role, check `tenant-id`: it must be the registry's own tenant.",
            title="Registry refused the sign-in",
        )

    def _sign_in_basic(self) -> None:
        import base64

        pair = f"{self._credential.username}:{self._credential.password}"
        self._authorization = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        answer = self._rest.send("GET", f"{self._base}/v2/", headers=self._authorization)
        if answer.status_code == 401:
            raise self._wrong_credential(answer)

    def _access_token(self, challenge: _Challenge, repository: str) -> str:
        rights = "pull" if self._access.reading else "pull,push"
        asked = {"service": challenge.service, "scope": f"repository:{repository}:{rights}"}
        credential = self._credential
        if credential.refresh_token:
            form = asked | {"grant_type": "refresh_token", "refresh_token": credential.refresh_token}
            answer = self._rest.send("POST", challenge.realm, form=form | {"client_id": "ml-deploy"})
        else:
            auth = (credential.username, credential.password) if credential.username else None
            answer = self._rest.send("GET", f"{challenge.realm}?{urlencode(asked)}", auth=auth)
        if answer.ok:
            content = decoded(answer)
            return str(content.get("access_token") or content.get("token") or "")
        self._raise_if_down(answer)
        raise self._wrong_credential(answer)

    def _check_push(self, token: str, repository: str) -> None:
        """Tokens of ACR and most registries list what they allow; an opaque one is found out by pushing."""
        listed = claims(token).get("access")
        if not isinstance(listed, list):
            return
        actions = {a for one in listed if one.get("name") == repository for a in one.get("actions", ())}
        if not actions & {"push", "*"}:
            raise self.denied(repository)

    # -- errors ------------------------------------------------------------------------------------

    def denied(self, repository: str) -> Forbidden:
        """Our error for a missing right to push (or to pull), with the role that gives it."""
        if self._access.reading:
            return Forbidden(f"{self._who(capital=True)} may not read {self.host}/{repository}.")
        return Forbidden(
            f"{self._who(capital=True)} may not push to {self.host}/{repository}.", hint=self._grant_hint(repository)
        )

    def _grant_hint(self, repository: str = "") -> str:
        if self._access.username:
            return "Give that user the right to push, or sign in as somebody who has it."
        if not self._is_azure():
            return "Set `username` and `password` of somebody who may push."
        plain, fine = ("AcrPull", "Reader") if self._access.reading else ("AcrPush", "Writer")
        fine = f"`Container Registry Repository {fine}`"
        abac = self._abac()
        if abac is None:
            roles = f"`{plain}` (or, where the registry's permissions are per repository, {fine})"
        elif abac:
            within = f", with a condition that covers {repository}" if repository else ""
            roles = f"{fine}{within}; this registry ignores {plain} (ABAC mode)"
        else:
            roles = f"`{plain}`"
        return f"Grant it the role {roles} on the registry. A new assignment takes up to five minutes to count."

    def _is_azure(self) -> bool:
        return bool(self._access.client_id) or bool(self._credential.refresh_token)

    def _abac(self) -> bool | None:
        """Whether the registry's permissions are per repository; None when ARM does not tell us."""
        name = re.split(r"[.:-]", self.host)[0] if is_host(self._access.registry) else self._access.registry
        try:
            found = self._azure.registry(name)
        except MlDeployError:
            return None
        return found.abac if found is not None else None

    def _who(self, *, capital: bool = False) -> str:
        access = self._access
        if access.username:
            who = f"the user {access.username}"
        elif access.client_id:
            who = f"the application {access.client_id}"
        else:
            who = "this identity" if self._credential != _Credential() else "an anonymous user"
        return who[0].upper() + who[1:] if capital else who

    def _wrong_credential(self, answer: requests.Response) -> AuthFailed:
        hint = (
            "Check `username` and `password`."
            if self._access.username
            else "Sign in: set `username` and `password`, or `client-id` and `tenant-id`."
        )
        return AuthFailed(f"The registry {self.host} does not accept {self._who()} ({said(answer)}).", hint=hint)

    def _raise_if_down(self, answer: requests.Response) -> None:
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Unreachable(
                f"The registry {self.host} stayed unavailable ({said(answer)}).", hint="Run the job again later."
            )

    # -- manifests ---------------------------------------------------------------------------------

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """GET a manifest."""
        answer = self._ask("GET", repository, reference)
        if not answer.ok:
            return None
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Manifest(answer.headers.get("Docker-Content-Digest", ""), media_type, answer.content)

    def blob(self, repository: str, digest: str) -> bytes:
        """GET a blob; registries lead to where it is stored."""
        url = f"{self._url}/v2/{quote(repository)}/blobs/{quote(digest, safe=':')}"
        answer = self._rest.send("GET", url, headers=self._authorization)
        return answer.content if answer.ok else b""

    def digest(self, repository: str, reference: str) -> str:
        """HEAD a manifest."""
        answer = self._ask("HEAD", repository, reference)
        return answer.headers.get("Docker-Content-Digest", "") if answer.ok else ""

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """PUT a manifest's bytes under a tag."""
        self._ask("PUT", repository, reference, body=manifest.body, headers={"Content-Type": manifest.media_type})

    def _ask(
        self, method: str, repository: str, reference: str, *, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:  # fmt: skip
        url = f"{self._url}/v2/{quote(repository)}/manifests/{quote(reference, safe=':')}"
        for fresh in (False, True):
            sent = {"Accept": _MANIFESTS, **self._authorization, **(headers or {})}
            answer = self._rest.send(method, url, headers=sent, body=body)
            if answer.status_code != 401 or fresh:
                break
            self.sign_in(repository)
        if answer.ok or answer.status_code == 404:
            return answer
        self._raise_if_down(answer)
        if answer.status_code in (401, 403):
            raise self.denied(repository)
        raise RegistryError(
            f"The registry {self.host} refuses {method} of {repository}:{reference} ({said(answer)}).",
            hint="A locked tag or repository is unlocked with `az acr repository update --write-enabled true`."
            if answer.status_code == 405 or "disallowed" in answer.text else "",
        )  # fmt: skip

    def push(self, repository: str, tag: str, seconds: float) -> Iterator[PushEvent]:
        """The engine pushes, with the credential that `sign_in` found; nothing is stored in ~/.docker."""
        from ml_deploy.adapters import pushing

        return pushing.push(f"{self.host}/{repository}", tag, self._engine_credential(), seconds)

    def login(self) -> dict[str, str]:
        """To an Azure registry with our identity; nothing anywhere else."""
        challenge = self._challenge
        if not self._access.client_id or challenge.realm != f"{self._base}/oauth2/token":
            return {}
        self._credential = self._exchange(challenge)
        return {"identitytoken": self._credential.refresh_token}

    def _engine_credential(self) -> dict[str, Any]:
        """The refresh token or the password, not an access token: the engine renews those itself in a long push."""
        credential = self._credential
        if credential.refresh_token:
            return {"identitytoken": credential.refresh_token, "serveraddress": self.host}
        if credential.username:
            return {"username": credential.username, "password": credential.password, "serveraddress": self.host}
        return {}

    def busy_for(self, repository: str) -> float | None:
        """Ask for nothing in particular: a registry that throttles says so to this request too."""
        url = f"{self._url}/v2/{quote(repository)}/manifests/ml-deploy-probe"
        try:
            answer = self._rest.send("HEAD", url, headers=self._authorization, attempts=1)
        except Unreachable:
            return None
        return retry_after(answer.headers) if answer.status_code == 429 else None


def said(answer: requests.Response) -> str:
    """An error answer in a few words: the registry's code and message, or the HTTP status."""
    content = decoded(answer)
    errors = content.get("errors") if isinstance(content, dict) else None
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return f"{errors[0].get('code', answer.status_code)}: {str(errors[0].get('message', ''))[:200]}"
    return f"HTTP {answer.status_code}"
