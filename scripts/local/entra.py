"""GitHub's token service and Entra's token endpoint, as far as an action asks them."""

from __future__ import annotations

import base64
import time
import uuid
from typing import Any

import jwt
from aiohttp import web

from local import registry

TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
PRINCIPAL = "44444444-4444-4444-8444-444444444444"
SECRET = "local-client-secret"
SUBJECT = registry.Settings.federated_subject

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Entra:
    """GitHub's token service and Entra's, with one tenant and one application."""

    def __init__(self, base: str, settings: registry.Settings) -> None:
        self._base = base
        self._settings = settings
        self._key = base64.b64encode(uuid.uuid4().bytes * 2).decode()
        self.request_token = uuid.uuid4().hex

    def install(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/github/oidc", self._github)
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery)
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)

    def read(self, token: str, *audiences: str) -> dict[str, Any]:
        """The claims of an access token for one of the audiences. Raises jwt.InvalidTokenError."""
        return dict(jwt.decode(token, self._key, algorithms=["HS256"], audience=list(audiences)))

    def _sign(self, seconds: float, **claims: Any) -> str:
        now = time.time()
        return jwt.encode({"iat": int(now), "nbf": int(now), "exp": now + seconds, **claims}, self._key, "HS256")

    async def _github(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").lower() != f"bearer {self.request_token}":
            return web.json_response({"message": "the job's request token is wrong"}, status=401)
        audience = request.query.get("audience", "https://github.com/org")
        token = self._sign(
            self._settings.oidc_lifetime, iss=GITHUB_ISSUER, aud=audience, sub=SUBJECT, jti=uuid.uuid4().hex
        )
        return web.json_response({"value": token})

    async def _discovery(self, request: web.Request) -> web.Response:
        tenant = request.match_info["tenant"]
        if tenant != TENANT:
            return _aadsts(90002, f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID "
                                  "and are signing into the correct cloud.", "invalid_tenant")  # fmt: skip
        return web.json_response({
            "issuer": f"{self._base}/{tenant}/v2.0",
            "authorization_endpoint": f"{self._base}/{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{self._base}/{tenant}/oauth2/v2.0/token",
        })  # fmt: skip

    async def _token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        if request.match_info["tenant"] != TENANT:
            return _aadsts(90002, f"Tenant '{request.match_info['tenant']}' not found.", "invalid_tenant")
        if form.get("client_id") != CLIENT:
            return _aadsts(700016, f"Application with identifier '{form.get('client_id')}' was not found in the "
                                   f"directory '{TENANT}'.", "unauthorized_client")  # fmt: skip
        if form.get("grant_type") != "client_credentials" or not form.get("scope", "").endswith("/.default"):
            return _aadsts(70011, f"The provided value for scope {form.get('scope')} is not valid.", "invalid_scope")
        refused = self._assertion(form) if form.get("client_assertion") else self._secret(form)
        if refused is not None:
            return refused
        token = self.access_token(form["scope"].removesuffix("/.default"))
        seconds = int(self._settings.token_lifetime)
        return web.json_response({"token_type": "Bearer", "expires_in": seconds, "access_token": token})

    def access_token(self, audience: str) -> str:
        """A token of the one application for an audience."""
        return self._sign(
            self._settings.token_lifetime, iss=f"{self._base}/{TENANT}/", aud=audience, tid=TENANT, oid=PRINCIPAL,
            appid=CLIENT,
        )  # fmt: skip

    def _secret(self, form: dict[str, str]) -> web.Response | None:
        if form.get("client_secret") == SECRET:
            return None
        return _aadsts(7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the "
                                "client secret value, not the client secret ID.", "invalid_client")  # fmt: skip

    def _assertion(self, form: dict[str, str]) -> web.Response | None:
        audience = "api://AzureADTokenExchange"
        try:
            claims = jwt.decode(form["client_assertion"], self._key, algorithms=["HS256"], audience=audience)
        except jwt.ExpiredSignatureError:
            return _aadsts(700024, "Client assertion is not within its valid time range.", "invalid_client")
        except jwt.InvalidAudienceError:
            return _aadsts(
                700212,
                "No matching federated identity record found for presented assertion audience.",
                "invalid_client",
            )
        except jwt.InvalidTokenError:
            return _aadsts(700027, "Client assertion failed signature validation.", "invalid_client")
        if form.get("client_assertion_type") != ASSERTION or claims.get("iss") != GITHUB_ISSUER:
            return _aadsts(
                700211, "No matching federated identity record found for presented assertion issuer.", "invalid_client"
            )
        if claims.get("sub") != self._settings.federated_subject:
            return _aadsts(700213, "No matching federated identity record found for presented assertion subject "
                                   f"'{claims.get('sub')}'.", "invalid_client")  # fmt: skip
        return None


def _aadsts(code: int, message: str, error: str) -> web.Response:
    trace = f"Trace ID: {uuid.uuid4()} Correlation ID: {uuid.uuid4()} Timestamp: {time.strftime('%Y-%m-%d %H:%M:%SZ')}"
    content = {"error": error, "error_description": f"AADSTS{code}: {message} {trace}", "error_codes": [code]}
    return web.json_response(content, status=401 if error == "invalid_client" else 400)
