"""Why a workload does not become ready: from its pods, their events and logs to a cause and a remedy.

What can heal is told, not failed for: each finding says how long it must last before it counts as
hopeless (`grace` seconds; None: never, the deadline decides).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import filterfalse
from typing import Any

from ml_deploy.releases.cluster import Object
from ml_deploy.releases.rollout import condition

_CRASHES = 3  # after so many, a crash loop is no accident
_LONGEST = 600  # characters of a message


@dataclass(frozen=True)
class Finding:
    """One trouble.

    kind:   one word, the same for the same trouble of several pods.
    where:  the object, `Pod wine-abc` or `Deployment wine`.
    container: the one whose log helps, `previous` when it is the log before the restart.
    grace:  seconds that it may last before it is hopeless; 0 at once, None never.
    """

    kind: str
    where: str
    cause: str
    remedy: str
    grace: float | None = None
    container: str = ""
    previous: bool = False
    pod: str = ""
    namespace: str = ""

    @property
    def line(self) -> str:
        """Cause and remedy in one line each."""
        return f"{self.where}: {self.cause}\n  → {self.remedy}"


def of_pods(pods: Sequence[Object], events: Sequence[Object]) -> list[Finding]:
    """The troubles of some pods, the worst first, one of each kind. `events` are those of the namespace."""
    found: dict[str, Finding] = {}
    for pod in pods:
        for finding in of_pod(pod, [e for e in events if _about(e, pod)]):
            known = found.get(finding.kind)
            if known is None or badness(finding) < badness(known):
                found[finding.kind] = replace(finding, namespace=str(pod["metadata"].get("namespace") or ""))
    return sorted(found.values(), key=badness)


def of_pod(pod: Object, events: Iterable[Object] = ()) -> Iterator[Finding]:
    """The troubles of one pod. A pod that is ready, or on its way out, has none."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    if pod["metadata"].get("deletionTimestamp") or condition(pod, "Ready").get("status") == "True":
        return
    where = f"Pod {name}"
    if status.get("phase") == "Failed" and status.get("reason") == "Evicted":
        yield _evicted(where, str(status.get("message") or ""), name)
        return
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield _unschedulable(where, str(scheduled.get("message") or scheduled.get("reason") or ""), list(events), name)
        return
    specs = {c["name"]: c for k in ("initContainers", "containers") for c in (pod.get("spec") or {}).get(k) or []}
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    seen = False
    for one in filterfalse(_succeeded, statuses):
        finding = _container(where, name, one, specs.get(one["name"]) or {}, pod)
        if finding is not None:
            seen = True
            yield finding
    if not seen:
        started = any({"running", "terminated"} & set(one.get("state") or {}) for one in statuses)
        yield from _by_events(where, name, list(events), specs, started=started)


def of_workload(obj: Object, events: Iterable[Object] = ()) -> Iterator[Finding]:
    """The troubles of a workload that cannot even make its pods: quota, admission, a missing service account."""
    where = f"{obj['kind']} {obj['metadata']['name']}"
    failure = condition(obj, "ReplicaFailure")
    said = str(failure.get("message") or "") if failure.get("status") == "True" else ""
    made = [e for e in events if e.get("reason") in ("FailedCreate", "FailedCreatePod", "SuccessfulCreate")]
    if not said and made and made[-1]["reason"] != "SuccessfulCreate":  # events of an hour ago are still there
        said = str(made[-1].get("message"))
    if said:
        yield _refused(where, said)


def _succeeded(status: Object) -> bool:
    """Whether an init container has done its work, however often it had to try."""
    return bool(((status.get("state") or {}).get("terminated") or {}).get("exitCode") == 0 and status.get("ready"))


def _container(where: str, pod: str, status: Object, spec: Object, whole: Object) -> Finding | None:
    name = str(status.get("name"))
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason, said = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    restarts = int(status.get("restartCount") or 0)
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"):
        return _image(where, pod, reason, said, str(status.get("image") or spec.get("image") or ""))
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return _config(where, pod, name, said)
    final = (whole.get("spec") or {}).get("restartPolicy") == "Never" and ended
    crash = last if reason == "CrashLoopBackOff" or not ended else ended
    if crash and (int(crash.get("exitCode") or 0) != 0 or crash.get("reason") == "OOMKilled" or restarts):
        return _crash(
            where, pod, name, crash, restarts, spec, grace=0.0 if final else None, running=bool(state.get("running"))
        )
    return None


def _image(where: str, pod: str, reason: str, said: str, image: str) -> Finding:
    low = said.lower()
    if reason == "InvalidImageName":
        return Finding("image", where, f"{image!r} is no valid image name.", "Correct the image's name.", 0.0, pod=pod)
    if reason == "ErrImageNeverPull":
        return Finding("image", where, f"the image {image} is not on the node, and imagePullPolicy is Never.",
                       "Load it onto the nodes, or set imagePullPolicy to IfNotPresent.", 0.0, pod=pod)  # fmt: skip
    if any(word in low for word in ("unauthorized", "401", "403", "denied", "forbidden", "authorization failed")):
        registry = image.partition("/")[0]
        return Finding("image", where, f"the registry refuses the nodes the image {image}: {_pull(said)}",
                       f"Give the cluster the right to pull: az aks update --attach-acr {registry.partition('.')[0]} (or "
                       "imagePullSecrets for a registry outside Azure). A fresh grant takes some minutes.", pod=pod)  # fmt: skip
    if "no match for platform" in low or "exec format" in low:
        return Finding("image", where, f"the image {image} is not for the node's architecture: {_pull(said)}",
                       "Build it for the nodes' platform (docker buildx build --platform linux/amd64).", 0.0, pod=pod)  # fmt: skip
    if any(word in low for word in ("not found", "manifest unknown", "name unknown", "does not exist")):
        return Finding("image", where, f"the image {image} does not exist: {_pull(said)}",
                       "Check repository, tag and digest: was it pushed, and to this registry?", 0.0, pod=pod)  # fmt: skip
    cause = f"the image {image} cannot be pulled" + (f": {_pull(said)}" if said else f" ({reason}).")
    return Finding(
        "image", where, cause, "Check that the nodes reach the registry (name, network, certificate).", pod=pod
    )


def _config(where: str, pod: str, container: str, said: str) -> Finding:
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', said)
    if missing:
        return _missing(where, pod, missing[1], missing[2])
    key = re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)", said)
    if key:
        return Finding("config", where, f"{key[2]} {key[3]} has no key {key[1]}.",
                       f"Add the key {key[1]} to it, or correct the name in `env`.", 20.0, container, pod=pod)  # fmt: skip
    if "runAsNonRoot" in said or "non-root" in said:
        return Finding("config", where, f"container {container} may not run as root: {_cut(said)}",
                       "Give the image a numeric non-root user (`USER 10001` in its Dockerfile), or set "
                       "securityContext.runAsUser.", 0.0, container, pod=pod)  # fmt: skip
    return Finding("config", where, f"container {container} cannot be started: {_cut(said)}",
                   "Correct the container's command, mounts or security context.", 20.0, container, pod=pod)  # fmt: skip


def _missing(where: str, pod: str, kind: str, name: str) -> Finding:
    kind = {"secret": "Secret", "configmap": "ConfigMap"}[kind.lower()]
    return Finding("missing", where, f"{kind} {name} does not exist in its namespace.",
                   f"Create the {kind} {name} first, or put it into the manifests.", 20.0, pod=pod)  # fmt: skip


def _crash(
    where: str,
    pod: str,
    container: str,
    ended: Object,
    restarts: int,
    spec: Object,
    *,
    grace: float | None,
    running: bool,
) -> Finding:
    times = f" (restarted {restarts} time{'s' if restarts != 1 else ''})" if restarts else ""
    hopeless = 0.0 if restarts >= _CRASHES else grace
    code = int(ended.get("exitCode") or 0)
    limit = ((spec.get("resources") or {}).get("limits") or {}).get("memory")
    # Where a child of the container's first process is killed, nobody calls it OOMKilled.
    certain = ended.get("reason") == "OOMKilled"
    likely = not certain and code == 137 and limit and "livenessProbe" not in spec
    if certain or likely:
        shown = f"its limit of {limit}" if limit else "the node's memory"
        return Finding("oom", where, f"container {container} was killed{', most likely' if likely else ''} for using more than {shown}{times}.",
                       "Raise the memory limit (input `memory`, or resources.limits.memory), or load a smaller model.",
                       hopeless, container, not running or restarts > 0, pod)  # fmt: skip
    said = _cut(ended.get("message"))
    cause = f"container {container} ended with exit code {code}{_exit(code)}{times}{': ' + said if said else '.'}"
    remedy = "Its last log lines say why." if not said else "Correct the container's command."
    return Finding("crash", where, cause, remedy, hopeless, container, restarts > 0, pod)


def _exit(code: int) -> str:
    known = {0: ": it ended though it should serve", 126: ": its command is not executable", 127: ": its command was not found",
             137: ": killed (SIGKILL; a failing liveness probe or no memory)", 139: ": segmentation fault",
             143: ": terminated (SIGTERM; often a failing liveness probe)"}  # fmt: skip
    return known.get(code, "")


def _evicted(where: str, message: str, name: str) -> Finding:
    """A limit of its own that a pod exceeded, or a node that ran short: then those go that use more than they requested."""
    own = re.search(r"exceed(s|ed) .*limit", message)
    remedy = (
        "Write less, or raise that limit (`sizeLimit` of a volume, `ephemeral-storage` of a container)."
        if own else "Request as much as the pod uses, so that it is placed where there is enough, or give the nodes more."
    )  # fmt: skip
    return Finding("evicted", where, f"evicted: {_cut(message)}", remedy, pod=name)


def _unschedulable(where: str, said: str, events: Sequence[Object], pod: str) -> Finding:
    no_scale = [e for e in events if e.get("reason") == "NotTriggerScaleUp"]
    scaled = [e for e in events if e.get("reason") == "TriggeredScaleUp"]
    cause = f"no node can take it: {_cut(said)}"
    if scaled:
        return Finding(
            "unschedulable", where, cause, f"The autoscaler is adding nodes: {_cut(scaled[-1].get('message'))}", pod=pod
        )
    if no_scale:
        said = _cut(no_scale[-1].get("message"))
        return Finding("unschedulable", where, f"{cause} The autoscaler will not add one: {said}",
                       "Lower its requests, or add a node pool that fits (size, taints, labels).", 30.0, pod=pod)  # fmt: skip
    return Finding("unschedulable", where, cause, _fitting(said), pod=pod)


def _fitting(said: str) -> str:
    """What may help: a node is counted by the first thing that keeps the pod off it, so that each counts."""
    low = said.lower()
    if "persistentvolumeclaim" in low:
        return "Create the claim it names, or correct the name in `volumes`."
    found = []
    if "nvidia.com/gpu" in low:
        found.append("No free GPU: add a GPU node pool or free one (GPU pools that start from zero take minutes).")
    elif "insufficient" in low:
        found.append("Lower its requests, or add nodes; with a cluster autoscaler one may be on its way.")
    if "taint" in low:
        found.append("Add a toleration for the nodes' taint, or a node pool without it.")
    if "selector" in low or "affinity" in low:
        found.append("Its node selector or affinity fits no node: correct it, or label the nodes.")
    return " ".join(found) or "Compare its requests, selectors and tolerations with the nodes (kubectl describe nodes)."


def _refused(where: str, said: str) -> Finding:
    low = said.lower()
    if "exceeded quota" in low:
        return Finding("quota", where, f"the namespace's quota does not allow its pods: {_cut(said)}",
                       "Lower its requests or replicas, or have the quota raised.", 20.0)  # fmt: skip
    if "violates podsecurity" in low:
        return Finding("admission", where, f"pod security refuses its pods: {_cut(said)}",
                       "Give the pods the security context that the message names.", 0.0)  # fmt: skip
    account = re.search(r'serviceaccount "([^"]+)" not found', said)
    if account:
        return Finding("missing", where, f"ServiceAccount {account[1]} does not exist in its namespace.",
                       f"Create the ServiceAccount {account[1]} first, or put it into the manifests.", 20.0)  # fmt: skip
    if "admission webhook" in low or "denied the request" in low or "is forbidden" in low or "is invalid" in low:
        return Finding(
            "admission", where, f"its pods are refused: {_cut(said)}", "Change what the message names.", 20.0
        )
    return Finding("admission", where, f"its pods cannot be made: {_cut(said)}", "Change what the message names.")


def _by_events(
    where: str, pod: str, events: Sequence[Object], specs: dict[str, Any], *, started: bool
) -> Iterator[Finding]:
    """What only events tell: volumes that cannot be mounted (history once any container started), probes that fail."""
    for event in reversed(events):
        said = str(event.get("message") or "")
        reason = event.get("reason")
        if reason in ("FailedMount", "FailedAttachVolume") and not started:
            missing = re.search(r'(secret|configmap) "([^"]+)" not found', said)
            yield (
                _missing(where, pod, missing[1], missing[2])
                if missing
                else Finding(
                    "volume",
                    where,
                    f"a volume cannot be mounted: {_cut(said)}",
                    "Check the volume's claim and class.",
                    pod=pod,
                )
            )
            return
        if reason == "FailedCreatePodSandBox" and not started:
            yield Finding("node", where, f"its node cannot start it: {_cut(said)}",
                          "This is trouble of the node or its network; it may pass.", pod=pod)  # fmt: skip
            return
        probe = re.match(r"(Readiness|Liveness|Startup) probe failed: (.*)", said, re.DOTALL)
        if reason == "Unhealthy" and probe:
            yield _probe(where, pod, probe[1].lower(), probe[2].strip(), specs)
            return


def _probe(where: str, pod: str, which: str, said: str, specs: dict[str, Any]) -> Finding:
    asked, container = "", ""
    for name, spec in specs.items():
        get = (spec.get(f"{which}Probe") or {}).get("httpGet")
        if get:
            asked, container = f" (GET {get.get('path', '/')} on port {get.get('port')})", name
    return Finding("probe", where, f"its {which} probe fails{asked}: {_cut(said)}",
                   "Check the probe's path and port, and the container's log; a big model may need a longer startupProbe.",
                   None, container or next(iter(specs), ""), pod=pod)  # fmt: skip


def _about(event: Object, pod: Object) -> bool:
    about = event.get("involvedObject") or event.get("regarding") or {}
    meta = pod["metadata"]
    return bool(about.get("name") == meta["name"] and about.get("uid") in (None, meta.get("uid")))


def badness(finding: Finding) -> tuple[bool, float]:
    """A key for sorting: the sooner hopeless comes first."""
    return finding.grace is None, finding.grace or 0.0


def _pull(said: str) -> str:
    """The end of a pull's error: the part that says why."""
    text = re.sub(r'^Back-off pulling image "[^"]*":?\s*', "", said)
    text = re.sub(r"^Err\w+:\s*", "", text)
    text = re.sub(
        r"(rpc error: code = \w+ desc = )?failed to pull and unpack image \S+ failed to (\w+ \w+) \S+ ?:?", r"", text
    )
    return _cut(text.strip() or said)


def _cut(text: object) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
