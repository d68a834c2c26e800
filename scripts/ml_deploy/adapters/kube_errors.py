"""The API server's refusals as our errors."""

from __future__ import annotations

import re
from typing import Any

from ml_deploy.adapters.kube_http import Response
from ml_deploy.errors import AuthFailed, Forbidden, MlDeployError, Unreachable
from ml_deploy.releases.cluster import ApiError

_LONGEST = 2000  # characters of a server's message
_UNTYPED = ("failed to create typed patch object", "field not declared in schema", "failed to convert new object")
_RIGHT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)


def status(response: Response) -> dict[str, Any] | None:
    """The body when it is a Kubernetes Status, else None."""
    if not response.body.lstrip().startswith(b"{"):
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and body.get("kind") == "Status" else None


def lasting(response: Response) -> bool:
    """Whether a 5xx says something that asking again will not change (typed apply and admission answers do)."""
    if response.status != 500:
        return False
    return _untyped(str((status(response) or {}).get("message", "")))


def _untyped(message: str) -> bool:
    """Server-side apply answers 500 to an object that does not fit its schema."""
    return any(words in message for words in _UNTYPED)


def error(server: str, response: Response, verb: str, resource: str, namespace: str) -> ApiError | MlDeployError:
    """What to raise for an answer of 300 or more."""
    body = status(response)
    if body is None and response.status == 404 and response.body.startswith(b"404 page not found"):
        return ApiError(404, "NotFound", f"The cluster does not know {resource}.")
    if body is None:
        return no_kubernetes(server, response)
    message = _without_values(str(body.get("message") or body.get("reason") or f"HTTP {response.status}"))[:_LONGEST]
    if response.status == 403 and (right := _RIGHT.search(message)):
        return _forbidden(right, message)
    if response.status == 401:
        return AuthFailed(f"The cluster at {server} does not accept our credentials (401).")
    if response.status == 500 and _untyped(message):
        return ApiError(422, "Invalid", message)
    if response.status >= 500 or response.status == 429:
        return Unreachable(
            f"The cluster at {server} keeps answering {response.status} to `{verb} {resource}`: {message}",
            hint="This is trouble of the cluster itself (API server, admission webhook or network): try again later.",
        )
    return ApiError(response.status, str(body.get("reason") or ""), message, body.get("details") or {})


def _without_values(message: str) -> str:
    """Whole objects (a pod template is 4,000 characters) stand before what is wrong with them, and values of a wrong
    type (a Secret's number without quotes) behind it: left out.
    """
    message = re.sub(r"(?s), got &.*?(?=\n\s*\.|\Z)", ", got another type", message)
    return re.sub(r"(?s)(Invalid value: )[{\[].*?[}\]]: (?=[A-Za-z])", r"\1", message)


def no_kubernetes(server: str, response: Response) -> MlDeployError:
    """For an answer that no Kubernetes API server gives."""
    text = response.body[:200].decode(errors="replace").strip().replace("\n", " ")
    return Unreachable(
        f"What answers at {server} is no Kubernetes API server (HTTP {response.status}: {text or 'empty body'}).",
        hint="Check the server's address in the kubeconfig, and whether a proxy stands between.",
    )


def _forbidden(right: re.Match[str], message: str) -> Forbidden:
    verb, resource, group, namespace = right["verb"], right["resource"], right["group"], right["namespace"]
    where = f"in namespace {namespace}" if namespace else "in the whole cluster"
    kind = "Role" if namespace else "ClusterRole"
    rule = f'{{apiGroups: ["{group}"], resources: [{resource}], verbs: [{verb}]}}'
    return Forbidden(
        f'"{right["user"]}" may not {verb} {resource}{f" ({group})" if group else ""} {where}.',
        hint=f"Grant it by a {kind} {f'in {namespace} ' if namespace else ''}with the rule `{rule}` and a binding; on AKS "
        "with Azure RBAC assign `Azure Kubernetes Service RBAC Writer` on the cluster or the namespace "
        "(new assignments take up to five minutes).",
        details=f"```\n{message}\n```",
    )
