"""All that the server would refuse, told at once and in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from ml_deploy.errors import Conflict, Forbidden, ManifestError
from ml_deploy.releases import admission, preflight
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Kind, Object
from ml_deploy.releases.sources.manifests import Manifest

KINDS = {
    ("v1", "ConfigMap"): Kind("v1", "ConfigMap", "configmaps", True),
    ("v1", "Namespace"): Kind("v1", "Namespace", "namespaces", False),
    ("apps/v1", "Deployment"): Kind("apps/v1", "Deployment", "deployments", True),
    ("batch/v1", "Job"): Kind("batch/v1", "Job", "jobs", True),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "crds", False),
}  # fmt: skip


class Fake:
    """Knows kinds; pods are admitted or not."""

    namespace = "ml"

    def __init__(self, pods: Callable[[Object], Applied] | None = None) -> None:
        self._pods = pods

    def kind(self, api_version: str, kind: str) -> Kind | None:
        return KINDS.get((api_version, kind))

    def create(self, obj: Object, *, dry_run: bool = False) -> Applied:
        assert dry_run and obj["kind"] == "Pod" and self._pods
        return self._pods(obj)


def fake(pods: Callable[[Object], Applied] | None = None) -> Cluster:
    return cast(Cluster, Fake(pods))


def manifest(kind: str = "ConfigMap", name: str = "c", api_version: str = "v1", **rest: Any) -> Manifest:
    return Manifest({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}, "f.yaml", 3)


def definition(scope: str = "Namespaced") -> Manifest:
    spec = {"group": "ml.example.com", "scope": scope, "names": {"kind": "Model"}}
    return manifest("CustomResourceDefinition", "models.ml.example.com", "apiextensions.k8s.io/v1", spec=spec)


def refuse(code: int, message: str, reason: str = "") -> Callable[[Object], Applied]:
    def dry_run(_obj: Object) -> Applied:
        raise ApiError(code, reason, message)

    return dry_run


def test_what_has_no_namespace_gets_ours() -> None:
    own = manifest()
    own.object["metadata"]["namespace"] = "other"
    placed = preflight.place(fake(), [manifest(), own, manifest("Namespace")])
    assert [one.object["metadata"].get("namespace") for one in placed] == ["ml", "other", None]


def test_unknown_kinds_are_named_together() -> None:
    with pytest.raises(ManifestError) as caught:
        preflight.place(fake(), [manifest("Model", api_version="a/v1"), manifest("Thing", api_version="b/v1")])
    assert "Model in a/v1" in caught.value.message and "Thing in b/v1" in caught.value.message


def test_kinds_that_the_release_itself_defines() -> None:
    model = manifest("Model", "m", "ml.example.com/v1")
    placed = preflight.place(fake(), [definition(), model])
    assert placed[1].object["metadata"]["namespace"] == "ml"
    placed = preflight.place(fake(), [definition("Cluster"), model])
    assert "namespace" not in placed[1].object["metadata"]
    (found,) = preflight.check([definition(), model], refuse(404, "no matches"))[1:]
    assert found.problem is None and "unknown until" in found.note


MESSAGES = [
    (404, 'namespaces "ml" not found', "The namespace ml does not exist", "kubectl create namespace ml"),
    (422, "failed to create typed patch object (ml/c; v1, Kind=ConfigMap): .dat: field not declared in schema",
     "ConfigMap c (f.yaml:3): .dat: field not declared in schema", "misspelt"),
    (422, 'ConfigMap "c" is invalid: metadata.name: Invalid value', "c (f.yaml:3): metadata.name: Invalid value", "names"),
    (422, "spec.selector: Invalid value: field is immutable", "field is immutable", "another name"),
    (422, ".spec.replicas: expected numeric (int or float), got string", "expected numeric", "quotes"),
    (403, 'admission webhook "x" denied the request: no', "denied the request", "policy"),
    (403, "exceeded quota: q", "exceeded quota", "quota raised"),
    (422, "spec: Forbidden: pod updates may not change fields other than `image`\n@@ -1 +1 @@\n-Env: null", "than `image`",
     "make it a Deployment"),
]  # fmt: skip


@pytest.mark.parametrize("code, message, told, hint", MESSAGES)
def test_refusals_in_words(code: int, message: str, told: str, hint: str) -> None:
    (found,) = preflight.check([manifest()], refuse(code, message))
    assert found.problem and told in found.problem.message and hint in found.problem.hint
    assert "@@" not in found.problem.message


def test_what_nobody_can_know_is_no_problem() -> None:
    (webhook,) = preflight.check([manifest()], refuse(400, 'webhook "w" does not support dry run'))
    assert webhook.problem is None and "unknown" in webhook.note
    both = preflight.check([manifest("Namespace", "ml"), manifest()], refuse(404, 'namespaces "ml" not found'))
    assert both[1].problem is None and "until namespace ml exists" in both[1].note


def test_the_same_problem_is_told_once_and_several_are_listed() -> None:
    checked = preflight.check([manifest(name=n) for n in "abcdef"], refuse(404, 'namespaces "ml" not found'))
    assert len(preflight.problems(checked)) == 1
    several = preflight.together([ManifestError("One.", hint="A."), Conflict("Two.")])
    assert isinstance(several, ManifestError) and "2 things stand in the way" in several.message
    assert isinstance(preflight.together([Conflict("a"), Conflict("b")]), Conflict)


def workload(name: str = "web") -> Manifest:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return manifest("Deployment", name, "apps/v1", spec={"template": template})


ADMISSIONS = [
    (403, 'pods "web-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', "violates", ""),
    (403, 'pods "web-x" is forbidden: error looking up service account ml/sa: serviceaccount "sa" not found', "service account", ""),
    (422, 'Pod "web-x" is invalid: spec.containers[0].image: Required value', "Required value", ""),
    (403, 'pods "web-x" is forbidden: exceeded quota: q, requested: cpu=9', "", "the quota may not allow"),
    (500, "webhook away", "", "nobody knows"),
    (404, 'namespaces "ml" not found', "", ""),
]  # fmt: skip


@pytest.mark.parametrize("code, message, problem, warning", ADMISSIONS)
def test_pods_that_would_be_refused(code: int, message: str, problem: str, warning: str) -> None:
    (found,) = admission.check(fake(pods=refuse(code, message)), [manifest(), workload()])
    assert bool(found.problem) == bool(problem) and bool(found.warning) == bool(warning)
    if found.problem:
        assert problem in found.problem.message and "Deployment web (f.yaml:3)" in found.problem.message
    assert warning in found.warning


def test_a_service_account_of_the_same_release_is_no_problem() -> None:
    said = 'pods "x" is forbidden: error looking up service account ml/sa: serviceaccount "sa" not found'
    (found,) = admission.check(fake(pods=refuse(403, said)), [manifest("ServiceAccount", "sa"), workload()])
    assert found == admission.Admitted()


def test_without_the_right_to_create_pods_nothing_is_asked() -> None:
    def forbidden(_obj: Object) -> Applied:
        raise Forbidden("no")

    assert admission.check(fake(pods=forbidden), [workload()]) == []


def test_the_pod_is_the_templates() -> None:
    seen: list[Object] = []

    def admit(obj: Object) -> Applied:
        seen.append(obj)
        return Applied(obj, ("old",))

    (found,) = admission.check(fake(pods=admit), [workload()])
    assert seen[0]["metadata"] == {
        "name": "web-ml-deploy-dry-run", "labels": {"app": "web"}, "annotations": {}, "namespace": "ml",
    }  # fmt: skip
    assert found.warning == "Deployment web: old"


@pytest.mark.parametrize("changes", [True, False])
def test_what_a_definition_refuses_that_is_changed_by_this_release(changes: bool) -> None:
    spec = {"group": "example.com", "names": {"kind": "Model"}, "versions": [1]}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "m"},
        "spec": spec,
    }
    resource = {"apiVersion": "example.com/v1", "kind": "Model", "metadata": {"name": "x"}}

    def dry_run(obj: Object) -> Applied:
        if obj is resource:
            raise ApiError(422, "Invalid", "unknown field spec.size")
        return Applied(crd, live={**crd, "spec": {**spec, "versions": [0 if changes else 1]}})

    _, found = preflight.check([Manifest(crd), Manifest(resource)], dry_run)
    assert (found.problem is None) is changes
    assert ("unknown until its CustomResourceDefinition is changed" in found.note) is changes


@pytest.mark.parametrize(
    "kind, strategy, problems, warnings",
    [("ReplicaSet", "", 1, 0), ("StatefulSet", "OnDelete", 0, 1), ("DaemonSet", "OnDelete", 0, 1),
     ("StatefulSet", "RollingUpdate", 0, 0), ("Deployment", "", 0, 0)],
)  # fmt: skip
def test_workloads_that_keep_their_old_pods(kind: str, strategy: str, problems: int, warnings: int) -> None:
    def version(image: str) -> Object:
        spec = {"template": {"spec": {"containers": [{"image": image}]}}, "updateStrategy": {"type": strategy}}
        return manifest(kind, "web", "apps/v1", spec=spec).object

    for live, changes in ((version("a:1"), True), (version("a:2"), False), (None, False)):
        found, told = preflight.not_replaced([preflight.Checked(manifest(kind, "web"), version("a:2"), live)])
        assert (len(found), len(told)) == ((problems, warnings) if changes else (0, 0))
