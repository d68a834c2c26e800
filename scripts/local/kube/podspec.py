"""From a pod's spec to what the engine is asked for: environment, volumes, users, limits."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .kinds import CONFIG_MAP, SECRET, Kind, Object

Lookup = Callable[[Kind, str], "Object | None"]

_UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class ConfigError(Exception):
    """A container cannot be made from its spec; `reason` is the kubelet's word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def quantity(value: str | int | float) -> float:
    """`250m`, `1Gi`, `2` as a number."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(value))
    return float(found[1]) * _UNITS.get(found[2], 1) if found else 0.0


def unschedulable(spec: Object) -> str:
    """Why one pod alone does not fit on this machine; empty when it does."""
    have = {"cpu": os.cpu_count() or 1, "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    wanted: dict[str, float] = {}
    for container in spec["containers"]:
        for name, value in (container["resources"].get("requests") or {}).items():
            wanted[name] = wanted.get(name, 0) + quantity(value)
    short = [name for name, value in wanted.items() if name != "ephemeral-storage" and value > have.get(name, 0)]
    why = [f"1 Insufficient {name}" for name in short]
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "stand-in"}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        why.append("1 node(s) didn't match Pod's node affinity/selector")
    return (
        f"0/1 nodes are available: {', '.join(why)}. no new claims to deallocate, preemption: 0/1 nodes are available."
        if why
        else ""
    )


def _data(lookup: Lookup, kind: Kind, source: Object, name: str) -> dict[str, bytes] | None:
    """All keys of a config map or secret; None when it is missing and optional."""
    found = lookup(kind, name)
    if found is None:
        if source.get("optional"):
            return None
        raise ConfigError("CreateContainerConfigError", f'{kind.name.lower()} "{name}" not found')
    coded = found.get("data") or {} if kind is SECRET else found.get("binaryData") or {}
    plain = {} if kind is SECRET else found.get("data") or {}
    return {key: base64.b64decode(value) for key, value in coded.items()} | {k: v.encode() for k, v in plain.items()}


def environment(pod: Object, container: Object, lookup: Lookup) -> dict[str, str]:
    """A container's variables. Raises ConfigError for what is missing."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
            if field in source:
                data = _data(lookup, kind, source[field], source[field]["name"]) or {}
                found |= {source.get("prefix", "") + key: value.decode(errors="replace") for key, value in data.items()}
    for variable in container.get("env") or []:
        value = _value(pod, variable, lookup)
        if value is not None:
            found[variable["name"]] = expand(value, found)
    return found


def _value(pod: Object, variable: Object, lookup: Lookup) -> str | None:
    source = variable.get("valueFrom") or {}
    for field, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
        if field in source:
            ref = source[field]
            data = _data(lookup, kind, ref, ref["name"])
            if data is not None and ref["key"] in data:
                return data[ref["key"]].decode(errors="replace")
            if ref.get("optional"):
                return None
            where = f"{pod['metadata']['namespace']}/{ref['name']}"
            raise ConfigError("CreateContainerConfigError", f"couldn't find key {ref['key']} in {kind.name} {where}")
    if "fieldRef" in source:
        return pod_field(pod, source["fieldRef"]["fieldPath"])
    return str(variable.get("value") or "")


def pod_field(pod: Object, path: str) -> str:
    """The downward API: `metadata.name`, `status.podIP`, `metadata.labels['app']`."""
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: Any = pod
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return value if isinstance(value, str) else json.dumps(value)


def expand(text: str, values: dict[str, str]) -> str:
    """`$(NAME)` by its value; unknown names stay, `$$(NAME)` is literal."""
    pattern = r"\$(\$\([^)]*\))|\$\(([^)]+)\)"
    return re.sub(pattern, lambda m: m[1] or values.get(m[2], m[0]), text)


def write_volumes(pod: Object, folder: Path, lookup: Lookup) -> dict[str, Path]:
    """Each volume as a folder of this machine. Raises ConfigError (FailedMount) for what is missing or unsupported."""
    made: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or []:
        place = made[volume["name"]] = folder / volume["name"]
        try:
            made[volume["name"]] = _volume(pod, volume, place, lookup)
        except ConfigError as error:
            message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
            raise ConfigError("FailedMount", message) from None
    return made


def _volume(pod: Object, volume: Object, place: Path, lookup: Lookup) -> Path:
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)
    for field, kind, named in (("configMap", CONFIG_MAP, "name"), ("secret", SECRET, "secretName")):
        if source := volume.get(field):
            data = _data(lookup, kind, source, source[named]) or {}
            for item in source.get("items") or [{"key": key, "path": key} for key in data]:
                target = place / item["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data[item["key"]])
            return place
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        (place / item["path"]).write_text(pod_field(pod, (item.get("fieldRef") or {}).get("fieldPath", "")))
    if not {"emptyDir", "downwardAPI"} & set(volume):
        kind_of = ", ".join(key for key in volume if key != "name")
        raise ConfigError("FailedMount", f"the stand-in has no {kind_of} volumes")
    return place


def container_config(
    pod: Object, container: Object, image: Object, volumes: dict[str, Path], env: dict[str, str], message: Path
) -> Object:
    """The engine's configuration of one container, without network and labels. Raises ConfigError."""
    security = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    user = _user(security, (image.get("Config") or {}).get("User") or "")
    limits = container["resources"].get("limits") or {}
    binds = [f"{message}:{container['terminationMessagePath']}"]
    for mount in container.get("volumeMounts") or []:
        source = volumes[mount["name"]] / mount.get("subPath", "")
        binds.append(f"{source}:{mount['mountPath']}" + (":ro" if mount.get("readOnly") else ""))
    capabilities = security.get("capabilities") or {}
    memory = int(quantity(limits.get("memory", 0)))
    host = {
        "Binds": binds, "Memory": memory, "MemorySwap": memory, "NanoCpus": int(quantity(limits.get("cpu", 0)) * 1e9),
        "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem")), "Privileged": bool(security.get("privileged")),
        "CapAdd": capabilities.get("add"), "CapDrop": capabilities.get("drop"),
        "SecurityOpt": ["no-new-privileges"] if security.get("allowPrivilegeEscalation") is False else [],
        "OomScoreAdj": 500,
    }  # fmt: skip
    words = {key: [expand(word, env) for word in container[key]] for key in ("command", "args") if container.get(key)}
    return {"Image": image["Id"], "Entrypoint": words.get("command"), "Cmd": words.get("args"), "User": user,
            "Env": [f"{key}={value}" for key, value in env.items()], "WorkingDir": container.get("workingDir", ""),
            "Healthcheck": {"Test": ["NONE"]}, "HostConfig": host}  # fmt: skip


def _user(security: Object, of_image: str) -> str:
    user = str(security.get("runAsUser", of_image))
    if security.get("runAsNonRoot") and user.partition(":")[0] in ("", "0", "root"):
        raise ConfigError("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
    group = security.get("runAsGroup")
    return user if group is None else f"{user.partition(':')[0] or 0}:{group}"


def pull_auth(registry: str, configs: list[Object]) -> dict[str, str] | None:
    """The credentials for a registry out of docker configurations."""
    for config in configs:
        for server, entry in (config.get("auths") or {}).items():
            if server.removeprefix("https://").partition("/")[0] != registry:
                continue
            if entry.get("identitytoken"):
                return {"identitytoken": entry["identitytoken"], "serveraddress": registry}
            user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
            return {"username": entry.get("username", user), "password": entry.get("password", password),
                    "serveraddress": registry}  # fmt: skip
    return None
