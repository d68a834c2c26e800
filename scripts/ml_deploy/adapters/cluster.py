"""A Kubernetes API server as plain dictionaries over HTTP; implements `ml_deploy.releases.cluster.Cluster`."""

from __future__ import annotations

import json
import os
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ml_deploy.adapters import kube_discovery, kube_errors, kubeconfig
from ml_deploy.adapters.kube_http import Http, Response
from ml_deploy.adapters.kube_rights import grants
from ml_deploy.adapters.kube_watch import Watcher
from ml_deploy.releases.cluster import (
    FIELD_MANAGER,
    Answer,
    ApiError,
    Applied,
    ClusterAccess,
    Event,
    Kind,
    Object,
    Ref,
    WatchOf,
)

if TYPE_CHECKING:
    from ml_deploy.adapters.azure import Azure

_STYLES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",  # JSON is YAML
}
_PAGE = 500
_TRIES = 5  # of a patch whose object changes all the time

Objects = list[Object]  # `list` itself is one of the protocol's methods
Kinds = list[Kind]


def connect(access: ClusterAccess, azure: Callable[[], Azure], mask: Callable[[str], None]) -> ApiServer:
    """The cluster that `access` names. Nothing is sent to it yet.

    azure: signs in, for an AKS cluster by name. mask: hides a secret in the log.
    Raises InputError for a kubeconfig that cannot be used, AuthFailed when its plugin gives no credential.
    """
    if access.cluster_name:
        endpoint = _aks(access, azure())
    else:
        config = kubeconfig.find(access.kubeconfig, os.environ)
        endpoint = kubeconfig.endpoint(config, context=access.context, namespace=access.namespace)
    for secret in (endpoint.credentials.key, endpoint.credentials.basic):
        mask(secret)
    return ApiServer(Http(endpoint, mask))


def _aks(access: ClusterAccess, azure: Azure) -> kubeconfig.Endpoint:
    """An AKS cluster through ARM; clusters with Entra are handed bearer tokens of ours, so no plugin is needed."""
    given = azure.aks(access.resource_group, access.cluster_name)
    endpoint = kubeconfig.endpoint(given.kubeconfig, namespace=access.namespace)
    if given.scope:
        tokens = kubeconfig.Credentials(lambda _fresh: azure.token(given.scope), renewable=True)
        endpoint = replace(endpoint, credentials=tokens)
    return replace(endpoint, hint=given.hint)


class ApiServer:
    """One API server. Temporary failures are ridden out inside, for `patience` seconds per request."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self.server = http.endpoint.server
        self.namespace = http.endpoint.namespace
        self.context = http.endpoint.context
        self._kinds: dict[str, Kinds] = {}
        self._allowed: dict[str, Objects] = {}
        self._lock = threading.Lock()

    @property
    def patience(self) -> float:
        """Seconds for which a request rides out temporary trouble."""
        return self._http.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._http.patience = seconds

    def guard_writes(self, guard: Callable[[], None]) -> None:
        """Call `guard` before each attempt to write from now on, retries included; it stops them by raising."""
        self._http.before_write = guard

    def version(self) -> str:
        """The server's version, such as v1.33.2."""
        return str(self._json("GET", "/version").get("gitVersion", ""))

    def api_versions(self) -> Sequence[str]:
        """Every `group/version` and `group/version/Kind`, by two requests; old servers tell no kinds that way."""
        answers = [self._json("GET", path, accept=kube_discovery.AGGREGATED) for path in ("/api", "/apis")]
        return [one for answer in answers for one in kube_discovery.versions(answer)]

    def kind(self, api_version: str, kind: str) -> Kind | None:
        """Discovery, cached; None when the cluster does not know the kind."""
        known = {one.kind: one for one in self._kinds.get(api_version) or ()}
        if kind not in known:  # it may have been defined since
            known = {one.kind: one for one in self._discover(api_version)}
        return known.get(kind)

    def get(self, ref: Ref) -> Object | None:
        """The object, or None when there is none."""
        try:
            return self._json("GET", self._path(ref))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(
        self, api_version: str, kind: str, namespace: str, *, selector: str = "", fields: str = "",
        keep: Callable[[Object], Object] | None = None, most: int = 0,
    ) -> Objects:  # fmt: skip
        """Objects of a kind, by label selector and field selector, with apiVersion and kind set on each.

        keep: what to keep of each, applied as they come, where there may be thousands. most: how many are enough.
        """
        return self._pages(api_version, kind, namespace, selector, fields, keep or dict, most)[0]

    def create(self, obj: Object, *, dry_run: bool = False) -> Applied:
        """POST. Raises ApiError 409 (AlreadyExists) when it is there."""
        ref = _ref(obj)
        path = self._collection(ref.api_version, ref.kind, ref.namespace or self.namespace)
        response = self._send("POST", path, obj, query=_dry(dry_run))
        if response.status == 409 and response.unsure:
            live = self.get(ref)
            if live is not None and _holds(live, obj):  # our own, from the attempt whose answer was lost
                return Applied(live, response.warnings)
        return self._applied(response, "create", ref)

    def apply(self, obj: Object, *, dry_run: bool = False, force: bool = False) -> Applied:
        """Server-side apply with field manager `ml-deploy`. Raises ApiError 409 on conflicts unless forced."""
        ref = _ref(obj)
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false", "fieldValidation": "Strict"}
        response = self._send("PATCH", self._path(ref), obj, query={**query, **_dry(dry_run)}, style="apply")
        return self._applied(response, "patch", ref)

    def replace(self, obj: Object, *, dry_run: bool = False) -> Applied:
        """PUT, guarded by metadata.resourceVersion. Raises ApiError 409 when it has changed."""
        ref = _ref(obj)
        response = self._send("PUT", self._path(ref), obj, query=_dry(dry_run))
        if response.status == 409 and response.unsure:
            live = self.get(ref)
            if live is not None and _holds(live, _unversioned(obj)):
                return Applied(live, response.warnings)
        return self._applied(response, "update", ref)

    def patch(
        self, ref: Ref, patch: Any, *, style: str = "merge", dry_run: bool = False, subresource: str = ""
    ) -> Applied:
        """PATCH; style is merge or json. One that names no version conflicts with nobody: it is tried again."""
        path = self._path(ref) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": FIELD_MANAGER, **_dry(dry_run)}
        versioned = style != "merge" or "resourceVersion" in (patch.get("metadata") or {})
        for _ in range(1 if versioned else _TRIES):
            response = self._send("PATCH", path, patch, query=query, style=style)
            if response.status != 409:
                break
        return self._applied(response, "patch", ref)

    def delete(self, ref: Ref, *, uid: str = "", propagation: str = "Background", grace: int | None = None) -> bool:
        """DELETE, guarded by uid when given; False when there was nothing to delete.

        grace: seconds, instead of the object's own. Raises ApiError 409 when another object bears the name.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        response = self._send("DELETE", self._path(ref), options)
        if response.status == 404:
            return response.unsure
        self._applied(response, "delete", ref)
        return True

    def watch(
        self, api_version: str, kind: str, namespace: str, *, name: str = "", selector: str = "", seconds: float
    ) -> Iterator[Event | None]:
        """The present objects as ADDED, then changes, for `seconds`; cut watches and 410 are healed inside.

        Yields None at least once a second, so that the caller can look at its clock.
        """
        return self.watch_all([WatchOf(api_version, kind, namespace, name, selector)], seconds=seconds)

    def watch_all(self, of: Sequence[WatchOf], *, seconds: float) -> Iterator[Event | None]:
        """Several watches as one stream, in the order the events come in."""
        watcher = Watcher(self._http, self._watch_list, seconds)
        return watcher.events([(one, self._collection(one.api_version, one.kind, one.namespace)) for one in of])

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool = False, tail: int = 20) -> str:
        """The last lines of a container's log; an empty string when there are none."""
        query = {
            "container": container,
            "tailLines": str(tail),
            "limitBytes": "65536",
            "previous": str(previous).lower(),
        }
        path = self._path(Ref("v1", "Pod", namespace, pod)) + "/log?" + urllib.parse.urlencode(query)
        response = self._http.request("GET", path, headers={"Accept": "*/*"})
        if response.status in (400, 404):  # no such pod, or its container has not started
            return ""
        self._check(response, "get", "pods/log", namespace)
        text = response.body.decode(errors="replace")
        # Between a container's end and its removal kubelet answers 200 with this sentence in place of a log.
        return "" if text.startswith("unable to retrieve container logs for ") else text

    def ask(
        self, namespace: str, target: str, method: str, path: str, *,
        body: bytes | None = None, headers: Mapping[str, str] | None = None, seconds: float = 10.0,
    ) -> Answer:  # fmt: skip
        """HTTP through the API server's proxy; target is `pods/NAME:PORT` or `services/NAME:PORT`.

        What the API server itself has to say about a target that does not answer is an Answer of 502 or 503 as well.
        """
        sent = {
            k: v for k, v in (headers or {}).items() if k.lower() not in ("authorization", "host", "content-length")
        }
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        url = f"/api/v1/namespaces/{namespace}/{target}/proxy/{path.removeprefix('/')}"
        try:
            response = self._http.request(method, url, body=body, headers={"Accept": "*/*", **sent}, seconds=seconds,
                                          give_up_on=lambda r: not _throttled(r), slow_is_final=True)  # fmt: skip
        except TimeoutError as error:
            raise ApiError(504, "Timeout", f"no answer within {seconds:g} s") from error
        if response.status in (403, 404) and _status(response):
            self._check(response, "create" if method == "POST" else "get", f"{target.split('/')[0]}/proxy", namespace)
        return Answer(response.status, response.headers, response.body)

    def allowed(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> bool:
        """Whether we may; by the rules that apply to us in the namespace, else (for they may be incomplete) by review."""
        if namespace and any(grants(rule, verb, group, resource, name) for rule in self._rules(namespace)):
            return True
        main, _, sub = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": main,
            "subresource": sub,
            "namespace": namespace,
            "name": name,
        }
        done = self._review(
            "SelfSubjectAccessReview", {"resourceAttributes": {k: v for k, v in attributes.items() if v}}
        )
        return done is None or bool((done.get("status") or {}).get("allowed"))

    def _rules(self, namespace: str) -> Objects:
        if namespace not in self._allowed:
            done = self._review("SelfSubjectRulesReview", {"namespace": namespace})
            self._allowed[namespace] = ((done or {}).get("status") or {}).get("resourceRules") or []
        return self._allowed[namespace]

    def _review(self, kind: str, spec: Object) -> Object | None:
        """The answer to a review; None from an API server that has no authorization."""
        group = "authorization.k8s.io/v1"
        try:
            return self._json(
                "POST", f"/apis/{group}/{kind.lower()}s", {"apiVersion": group, "kind": kind, "spec": spec}
            )
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    def close(self) -> None:
        """Close the kept connections."""
        self._http.close()

    # paths

    def _discover(self, api_version: str) -> Kinds:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            resources = self._json("GET", path).get("resources") or []
        except ApiError as error:
            if error.code == 404:
                return []
            raise
        found = kube_discovery.kinds(api_version, resources)
        with self._lock:
            self._kinds[api_version] = found
        return found

    def _collection(self, api_version: str, kind: str, namespace: str) -> str:
        known = self.kind(api_version, kind)
        if known is None:
            raise ApiError(404, "NotFound", f"The cluster knows no kind {kind} in {api_version}.")
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        where = f"/namespaces/{namespace}" if known.namespaced and namespace else ""
        return f"{root}{where}/{known.plural}"

    def _path(self, ref: Ref) -> str:
        namespace = ref.namespace or self.namespace
        return f"{self._collection(ref.api_version, ref.kind, namespace)}/{urllib.parse.quote(ref.name)}"

    # requests

    def _json(self, method: str, path: str, body: object = None, *, accept: str = "") -> Object:
        response = self._send(method, path, body, accept=accept)
        self._check(response, method.lower(), path, "")
        try:
            return dict(response.json())
        except ValueError as error:
            raise kube_errors.no_kubernetes(self.server, response) from error

    def _send(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None, style: str = "",
        accept: str = "",
    ) -> Response:  # fmt: skip
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": _STYLES.get(style, "application/json")}
        if accept:
            headers["Accept"] = accept
        return self._http.request(
            method, path + ("?" + urllib.parse.urlencode(query) if query else ""), body=data, headers=headers,
            give_up_on=kube_errors.lasting,
        )  # fmt: skip

    def _pages(
        self, api_version: str, kind: str, namespace: str, selector: str, fields: str,
        keep: Callable[[Object], Object] = dict, most: int = 0,
    ) -> tuple[Objects, str]:  # fmt: skip
        path = self._collection(api_version, kind, namespace)
        query = {"limit": str(min(most, _PAGE) or _PAGE), "labelSelector": selector, "fieldSelector": fields}
        query = {k: v for k, v in query.items() if v}
        items: Objects = []
        while True:
            try:
                page = self._json("GET", f"{path}?{urllib.parse.urlencode(query)}")
            except ApiError as error:
                if error.code != 410 or "continue" not in query:
                    raise
                items, query = [], {k: v for k, v in query.items() if k not in ("continue", "limit")}  # all at once
                continue
            items += [{"apiVersion": api_version, "kind": kind, **keep(item)} for item in page.get("items") or []]
            more = (page.get("metadata") or {}).get("continue")
            if not more or (most and len(items) >= most):
                return items, str((page.get("metadata") or {}).get("resourceVersion") or "")
            query["continue"] = more

    def _watch_list(self, of: WatchOf) -> tuple[Objects, str]:
        fields = f"metadata.name={of.name}" if of.name else ""
        return self._pages(of.api_version, of.kind, of.namespace, of.selector, fields)

    def _applied(self, response: Response, verb: str, ref: Ref) -> Applied:
        known = self.kind(ref.api_version, ref.kind)
        self._check(response, verb, known.plural if known else ref.kind, ref.namespace or self.namespace)
        return Applied(response.json(), response.warnings)

    def _check(self, response: Response, verb: str, resource: str, namespace: str) -> None:
        if response.status >= 300:
            raise kube_errors.error(self.server, response, verb, resource, namespace)


def _ref(obj: Object) -> Ref:
    meta = obj.get("metadata") or {}
    return Ref(
        str(obj.get("apiVersion")), str(obj.get("kind")), str(meta.get("namespace") or ""), str(meta.get("name"))
    )


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _unversioned(obj: Object) -> Object:
    meta = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "managedFields", "generation")}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": meta}


def _holds(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `live`, which may have more (defaults, a token's volume in each pod)."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(k in live and _holds(live[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and all(any(_holds(one, value) for one in live) for value in wanted)
    return bool(live == wanted)


def _status(response: Response) -> bool:
    """Whether this is the API server's own word, and not that of what is behind its proxy."""
    return kube_errors.status(response) is not None


def _throttled(response: Response) -> bool:
    return response.status == 429 and _status(response)
