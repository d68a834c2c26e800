"""From a pod's spec to what the engine is asked for: environment, volumes, users, limits."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from pathlib import Path

from .kinds import CONFIG_MAP, SECRET, Kind, Object
from .matching import field

Lookup = Callable[[Kind, str], "Object | None"]


class ConfigError(Exception):
    """A container cannot be made from its spec; `reason` is the kubelet's word."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


def quantity(value: str | int | float) -> float:
    """`250m`, `1Gi`, `2` as a number."""
    from kubernetes.utils import parse_quantity

    return float(parse_quantity(value))


def capacity() -> dict[str, int]:
    """What this machine has, in processors and bytes."""
    return {"cpu": os.cpu_count() or 1, "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}


def unschedulable(spec: Object) -> str:
    """Why one pod alone does not fit on this machine; empty when it does."""
    have = capacity()
    wanted: dict[str, float] = {}
    for container in spec["containers"]:
        for name, value in (container["resources"].get("requests") or {}).items():
            wanted[name] = wanted.get(name, 0) + quantity(value)
    wanted.pop("ephemeral-storage", None)
    why = [f"1 Insufficient {name}" for name, value in wanted.items() if value > have.get(name, 0)]
    if set(spec.get("nodeSelector") or {}) - {"kubernetes.io/os"}:
        why.append("1 node(s) didn't match Pod's node affinity/selector")
    return f"0/1 nodes are available: {', '.join(why)}." if why else ""


def _data(lookup: Lookup, kind: Kind, source: Object, name: str) -> dict[str, bytes]:
    """All keys of a config map or secret. Raises ConfigError when it is missing and not optional."""
    found = lookup(kind, name)
    if found is None and not source.get("optional"):
        raise ConfigError(f'{kind.name.lower()} "{name}" not found')
    parts = found or {}
    coded = (parts.get("data") if kind is SECRET else parts.get("binaryData")) or {}
    plain = {} if kind is SECRET else parts.get("data") or {}
    return {key: base64.b64decode(value) for key, value in coded.items()} | {k: v.encode() for k, v in plain.items()}


def environment(pod: Object, container: Object, lookup: Lookup) -> dict[str, str]:
    """A container's variables. Raises ConfigError for what is missing."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for name, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
            if name in source:
                data = _data(lookup, kind, source[name], source[name]["name"])
                found |= {source.get("prefix", "") + key: value.decode(errors="replace") for key, value in data.items()}
    for variable in container.get("env") or []:
        value = _value(pod, variable, lookup)
        if value is not None:
            found[variable["name"]] = expand(value, found)
    return found


def _value(pod: Object, variable: Object, lookup: Lookup) -> str | None:
    source = variable.get("valueFrom") or {}
    for name, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
        if ref := source.get(name):
            data = _data(lookup, kind, ref, ref["name"])
            if ref["key"] not in data and not ref.get("optional"):
                where = f"{pod['metadata']['namespace']}/{ref['name']}"
                raise ConfigError(f"couldn't find key {ref['key']} in {kind.name} {where}")
            return data[ref["key"]].decode(errors="replace") if ref["key"] in data else None
    path = (source.get("fieldRef") or {}).get("fieldPath", "")
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    return field(pod, path) if path else str(variable.get("value") or "")


def expand(text: str, values: dict[str, str]) -> str:
    """`$(NAME)` by its value; unknown names stay, `$$(NAME)` is literal."""
    return re.sub(r"\$(\$\([^)]*\))|\$\(([^)]+)\)", lambda m: m[1] or values.get(m[2], m[0]), text)


def write_volumes(pod: Object, folder: Path, lookup: Lookup) -> dict[str, Path]:
    """Each volume as a folder of this machine. Raises ConfigError (FailedMount) for what is missing or unsupported."""
    made: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or []:
        place = made[volume["name"]] = folder / volume["name"]
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
        try:
            _fill(volume, place, lookup)
        except ConfigError as error:
            message = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
            raise ConfigError(message, "FailedMount") from None
    return made


def _fill(volume: Object, place: Path, lookup: Lookup) -> None:
    if not {"emptyDir", "configMap", "secret"} & set(volume):
        raise ConfigError(f"the stand-in has no {', '.join(key for key in volume if key != 'name')} volumes")
    for kind, source, name in ((CONFIG_MAP, "configMap", "name"), (SECRET, "secret", "secretName")):
        if source in volume:
            data = _data(lookup, kind, volume[source], volume[source][name])
            for item in volume[source].get("items") or [{"key": key, "path": key} for key in data]:
                (place / item["path"]).parent.mkdir(parents=True, exist_ok=True)
                (place / item["path"]).write_bytes(data[item["key"]])


def container_config(
    pod: Object, container: Object, image: Object, volumes: dict[str, Path], env: dict[str, str], message: Path
) -> Object:
    """The engine's configuration of one container, without network and labels. Raises ConfigError."""
    security = {**pod["spec"]["securityContext"], **(container.get("securityContext") or {})}
    user = str(security.get("runAsUser", (image.get("Config") or {}).get("User") or ""))
    if security.get("runAsNonRoot") and user.partition(":")[0] in ("", "0", "root"):
        raise ConfigError("container has runAsNonRoot and image will run as root")
    if "runAsGroup" in security:
        user = f"{user.partition(':')[0] or 0}:{security['runAsGroup']}"
    limits, capabilities = container["resources"].get("limits") or {}, security.get("capabilities") or {}
    binds = [f"{message}:{container['terminationMessagePath']}"]
    for mount in container.get("volumeMounts") or []:
        source = volumes[mount["name"]] / mount.get("subPath", "")
        binds.append(f"{source}:{mount['mountPath']}" + (":ro" if mount.get("readOnly") else ""))
    memory = int(quantity(limits.get("memory", 0)))
    host = {
        "Binds": binds, "Memory": memory, "MemorySwap": memory, "NanoCpus": int(quantity(limits.get("cpu", 0)) * 1e9),
        "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem")), "Privileged": bool(security.get("privileged")),
        "CapAdd": capabilities.get("add"), "CapDrop": capabilities.get("drop"),
        "SecurityOpt": ["no-new-privileges"] if security.get("allowPrivilegeEscalation") is False else [],
    }  # fmt: skip
    words = {key: [expand(word, env) for word in container[key]] for key in ("command", "args") if container.get(key)}
    return {"Image": image["Id"], "Entrypoint": words.get("command"), "Cmd": words.get("args"), "User": user,
            "Env": [f"{key}={value}" for key, value in env.items()], "WorkingDir": container.get("workingDir", ""),
            "Healthcheck": {"Test": ["NONE"]}, "HostConfig": host}  # fmt: skip
