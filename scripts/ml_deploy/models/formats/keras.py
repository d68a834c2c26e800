"""Keras 3's .keras: a zip of a configuration, its metadata and the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ml_deploy.models import keras_config
from ml_deploy.models.anatomy import Anatomy, Tensor
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.formats.zips import Archive

NAME = "keras"
_LONGEST = 256 << 20  # bytes


def recognise(names: set[str]) -> bool:
    """The two JSON files that every .keras has."""
    return {"config.json", "metadata.json"} <= names


def inspect_archive(archive: Archive, context: Context) -> Anatomy:
    """The configuration is looked through, every other member inspected by its content."""
    config, metadata = (_json(archive, name) for name in ("config.json", "metadata.json"))
    keras_config.judge(config, context.inside("config.json"))
    found = [context.inner(member, context.inside(name)) for name, member in archive.members.items()
             if name not in ("config.json", "metadata.json")]  # fmt: skip
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    weights = next((one for one in found if one.format in ("hdf5", "keras-h5")), Anatomy(format=NAME))
    return replace(weights, format=NAME, framework="keras", versions={"keras": version} if isinstance(version, str) else {},
                   top=str(config.get("class_name") or "") if isinstance(config, dict) else "",
                   inputs=tuple(_inputs(config)))  # fmt: skip


def _inputs(config: Any) -> Iterator[Tensor]:
    """What the input layers of the outermost model say."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        about = layer.get("config") if isinstance(layer, dict) and layer.get("class_name") == "InputLayer" else None
        shape = about.get("batch_shape") if isinstance(about, dict) else None
        if (
            isinstance(about, dict)
            and isinstance(shape, list)
            and all(one is None or type(one) is int for one in shape)
        ):
            yield Tensor(name=str(about.get("name")), dtype=str(about.get("dtype")), shape=tuple(shape))


def _json(archive: Archive, name: str) -> Any:
    with archive.members[name].open() as source:
        data = source.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise Unreadable(f"{name} has more than 256 MiB", rule="budget")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name} is no valid JSON") from error
