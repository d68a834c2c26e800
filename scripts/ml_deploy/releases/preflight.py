"""Everything that the server would refuse, found before anything changes and told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ml_deploy.errors import Conflict, Forbidden, ManifestError, MlDeployError
from ml_deploy.releases import definitions
from ml_deploy.releases.cluster import ApiError, Applied, Cluster, Object
from ml_deploy.releases.colours import base_of
from ml_deploy.releases.definitions import Defined, defined, defined_by, kind_of
from ml_deploy.releases.ownership import autoscaled
from ml_deploy.releases.sources.manifests import Manifest, refuse_twins, template_of

_AT_ONCE = 6  # requests in flight
_FEW = 4  # objects that are not worth the threads


@dataclass(frozen=True)
class Checked:
    """One object after its dry run: `after` as the server would have it, or a problem, or a note why nobody knows.

    live: as it is now; None when there is none.
    """

    manifest: Manifest
    after: Object | None = None
    live: Object | None = None
    warnings: tuple[str, ...] = ()
    problem: MlDeployError | None = None
    note: str = ""


def place(cluster: Cluster, manifests: Sequence[Manifest]) -> list[Manifest]:
    """The manifests with each namespaced object in its namespace (by default the cluster's).

    Raises ManifestError naming every kind that neither the cluster nor the release itself knows.
    """
    known = defined(one.object for one in manifests)
    placed, unknown = [], []
    for one in manifests:
        kind = cluster.kind(one.object["apiVersion"], one.object["kind"])
        definition = known.get(kind_of(one.object))
        if kind is None and definition is None:
            unknown.append(_unknown(one))
            continue
        namespaced = (
            kind.namespaced if kind else definition is not None and definition["spec"].get("scope") == "Namespaced"
        )
        placed.append(replace(one, object=_in_namespace(one.object, cluster.namespace)) if namespaced else one)
    if unknown:
        raise together(unknown)
    refuse_twins(placed)  # once more: one may have been written with its namespace, the other without
    return placed


def _unknown(one: Manifest) -> ManifestError:
    obj = one.object
    return ManifestError(
        f"{one.title} ({one.place}): the cluster knows no kind {obj['kind']} in {obj['apiVersion']}.",
        hint="Correct apiVersion or kind, or install what defines it (its CustomResourceDefinition) first.",
        file=one.file, line=one.line,
    )  # fmt: skip


def _in_namespace(obj: Object, namespace: str) -> Object:
    meta = obj["metadata"]
    return {**obj, "metadata": {**meta, "namespace": meta.get("namespace") or namespace}}


def refuse_none(found: Sequence[Manifest]) -> None:
    """A workload that asks for no pods would be a success that serves nobody."""
    ruled = autoscaled([one.object for one in found], ())
    for one in found:
        key = (one.object["kind"], one.object["metadata"]["name"])
        if (one.object.get("spec") or {}).get("replicas") == 0 and key not in ruled:
            raise ManifestError(
                f"{one.title} ({one.place}) asks for 0 replicas: nothing would serve.",
                hint="Set `replicas` to 1 or more, or leave it out when an autoscaler rules it.", file=one.file, line=one.line,
            )  # fmt: skip


def check(manifests: Sequence[Manifest], dry_run: Callable[[Object], Applied]) -> list[Checked]:
    """Ask the server what it would do with each object, several at a time when there are many."""
    created = {one.object["metadata"]["name"] for one in manifests if one.object["kind"] == "Namespace"}
    made = set(defined(one.object for one in manifests))

    def one(manifest: Manifest) -> Checked:
        return _check(manifest, dry_run, created, made)

    if len(manifests) <= _FEW:
        return _excused([one(manifest) for manifest in manifests])
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return _excused(list(pool.map(one, manifests)))


def _excused(found: list[Checked]) -> list[Checked]:
    """What a definition refuses that this very release changes is not refused yet: nobody knows."""
    changing = {
        defined_by(one.after)
        for one in found
        if one.after and one.live and one.after["kind"] == definitions.KIND
        if one.after["spec"] != one.live["spec"]
    }
    return [
        replace(one, problem=None, note=f"unknown until its CustomResourceDefinition is changed ({one.problem.message})")
        if isinstance(one.problem, ManifestError) and kind_of(one.manifest.object) in changing else one
        for one in found
    ]  # fmt: skip


def _check(one: Manifest, dry_run: Callable[[Object], Applied], created: set[str], made: set[Defined]) -> Checked:
    obj = one.object
    try:
        done = dry_run(obj)
    except ApiError as error:
        return _refused(one, error, created, made)
    except (Conflict, Forbidden) as error:
        return Checked(one, problem=error)
    return Checked(one, done.object, done.live, done.warnings)


def _refused(one: Manifest, error: ApiError, created: set[str], made: set[Defined]) -> Checked:
    obj, message = one.object, error.message
    namespace = missing_namespace(error)
    if namespace and namespace in created:
        return Checked(one, note=f"unknown until namespace {namespace} exists")
    if kind_of(obj) in made and error.code == 404:
        return Checked(one, note="unknown until its CustomResourceDefinition exists")
    if base_of(obj) and "immutable" in message:
        return Checked(one, note="the older one of this colour is removed before it is made")
    if "does not support dry run" in message:
        return Checked(one, note=f"unknown: {message}")
    if namespace:
        return Checked(one, problem=no_namespace(namespace))
    return Checked(one, problem=ManifestError(
        f"{one.title} ({one.place}): {_plain(message)}", hint=_hint(error, obj), file=one.file, line=one.line,
    ))  # fmt: skip


def missing_namespace(error: ApiError) -> str:
    """The namespace that an error says does not exist, or an empty string."""
    found = re.fullmatch(r'namespaces "([^"]+)" not found', error.message) if error.code == 404 else None
    return found[1] if found else ""


def no_namespace(name: str) -> ManifestError:
    """The error for a namespace that does not exist."""
    return ManifestError(
        f"The namespace {name} does not exist in the cluster.",
        hint=f"Create it (kubectl create namespace {name}), put a Namespace into the manifests, or correct `namespace`.",
        title="No such namespace",
    )


def _plain(message: str) -> str:
    """The part of the server's message that says something: `.spec.replica: field not declared in schema`."""
    message = re.sub(r"^failed to create typed patch object \([^)]*\): ", "", message)
    message = re.sub(r"^failed to convert new object .*?: (?=error decoding)", "", message)
    message = re.sub(r'^\S+ "[^"]*" is invalid: ', "", message)
    return message.strip().partition("\n@@")[0]  # what follows is the server's own diff, in Go


def _hint(error: ApiError, obj: Object) -> str:
    message = error.message
    if "field not declared in schema" in message:
        return "The field's name is misspelt, or it stands in the wrong place."
    if "field is immutable" in message or "updates to statefulset spec" in message:
        return (
            f"Kubernetes does not change this field of a living {obj['kind']}: put it back as it was, give the object "
            "another name, or delete the old one first."
        )
    if "illegal base64" in message:
        return "`data` takes base64; plain text stands in `stringData`."
    if "pod updates may not change" in message:
        return "Kubernetes does not change a Pod that is there: make it a Deployment or a Job, or delete it first."
    if "expected" in message and "got" in message:
        return "The value is of the wrong type: check quotes and indentation."
    if "violates PodSecurity" in message or "admission webhook" in message or "denied the request" in message:
        return "A policy of the cluster refuses it: change what the message names, or ask the policy's owner."
    if "exceeded quota" in message:
        return "Lower what it asks for, or have the namespace's quota raised."
    return "Change what the message names."


def not_replaced(checked: Iterable[Checked]) -> tuple[list[MlDeployError], list[str]]:
    """Workloads that get a new template and keep their old pods: by their kind, an error; by their own strategy, a warning."""
    found: list[MlDeployError] = []
    warnings = []
    for one in checked:
        if not (one.after and one.live) or template_of(one.after) == template_of(one.live):
            continue
        spec, title = one.after["spec"], one.manifest.title
        if one.after["kind"] == "ReplicaSet":
            found.append(ManifestError(
                f"{title} ({one.manifest.place}) has a new pod template, and a ReplicaSet keeps the pods that it has.",
                hint="Make it a Deployment, or give it another name.", file=one.manifest.file, line=one.manifest.line,
            ))  # fmt: skip
        elif (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
            warnings.append(
                f"{title}: its pods are of the version before until somebody deletes them (updateStrategy OnDelete)."
            )
    return found, warnings


def problems(checked: Iterable[Checked]) -> list[MlDeployError]:
    """What was found, each thing once."""
    found: dict[str, MlDeployError] = {}
    for one in checked:
        if one.problem is not None:
            found.setdefault(one.problem.message, one.problem)
    return list(found.values())


def together(found: Sequence[MlDeployError]) -> MlDeployError:
    """One error out of several: the only one as it is, else all of them listed, of the class they share."""
    if len(found) == 1:
        return found[0]
    classes = {type(one) for one in found}
    cls = classes.pop() if len(classes) == 1 else ManifestError
    listed = "\n".join(f"- {one.message.rstrip('.')}." + (f" {one.hint}" if one.hint else "") for one in found)
    return cls(f"{len(found)} things stand in the way of this deployment:\n{listed}", hint="Nothing was changed.")
