"""HDF5, as Keras uses it: .h5 models and the weights inside of .keras files."""

from __future__ import annotations

import json
import re
from typing import Any

from ml_deploy.models import keras_config
from ml_deploy.models.anatomy import Anatomy, Tensor
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.formats import pickles
from ml_deploy.models.source import Member, in_memory, seekable

NAME = "hdf5"
_MAGIC = b"\x89HDF\r\n\x1a\n"
_MOST_OBJECTS = 100_000
_OPTIMIZER = ("/optimizer/", "/optimizer_weights/", "/_optimizer/")


def sniff(head: bytes) -> bool:
    """HDF5's magic bytes."""
    return head.startswith(_MAGIC)


def inspect(member: Member, context: Context) -> Anatomy:
    """Every link must stay inside of the file; a model's configuration is looked through."""
    import h5py

    try:
        with seekable(member) as whole, whole.open() as source, h5py.File(source.file, "r") as file:
            _attributes("/", file, context)
            tensors = _walk(file, h5py, context)
            config, training = (file.attrs.get(name) for name in ("model_config", "training_config"))
            version = _text(file.attrs.get("keras_version", ""))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"it is no HDF5 file that can be read ({error})") from error
    for one in (config, training):
        if one is not None:
            keras_config.judge(_json(_text(one)), context)
    tensors = [tensor for tensor in tensors if _is_weight(tensor)]
    largest = sorted(tensors, key=lambda tensor: tensor.items, reverse=True)
    return Anatomy(
        format="keras-h5" if config is not None else NAME, framework="keras" if config is not None or version else "",
        versions={"keras": version} if version else {}, parameters=sum(tensor.items for tensor in tensors) or None,
        tensors=tuple(largest[:20]),
    )  # fmt: skip


def _walk(file: Any, h5py: Any, context: Context) -> list[Tensor]:
    tensors: list[Tensor] = []
    waiting, seen = [("", file)], set()
    while waiting:
        path, group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Unreadable(f"{path}/{name} is a link that may lead out of the file", rule="hdf5-link")
            thing = group[name]
            if thing.id in seen:
                continue
            seen.add(thing.id)
            if len(seen) > _MOST_OBJECTS:
                raise Unreadable(f"it has more than {_MOST_OBJECTS:,} objects", rule="budget")
            _attributes(f"{path}/{name}", thing, context)
            if isinstance(thing, h5py.Group):
                waiting.append((f"{path}/{name}", thing))
            elif isinstance(thing, h5py.Dataset):
                tensors.append(_dataset(f"{path}/{name}", thing))
    return tensors


def _attributes(path: str, thing: Any, context: Context) -> None:
    """PyTables, by which pandas reads HDF5, unpickles attributes, and the rows of what an attribute calls objects."""
    for name, value in thing.attrs.items():
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        if not isinstance(data, bytes):
            continue
        if name == "PSEUDOATOM" and data == b"object":
            raise Unreadable(f"{path} has pickled objects in its rows, which cannot be told before they are loaded")
        if data.endswith(b"."):
            inner = in_memory(data, f"{path}, attribute {name}", 1)
            pickles.hidden(inner, data[:1], context.inside(inner.name))


def _dataset(path: str, dataset: Any) -> Tensor:
    if dataset.external or dataset.is_virtual:
        raise Unreadable(f"{path} has its data in another file", rule="hdf5-link")
    return Tensor(name=path, dtype=str(dataset.dtype), shape=tuple(int(n) for n in dataset.shape or ()))


def _is_weight(tensor: Tensor) -> bool:
    """A tensor of numbers that is the model's: an optimizer keeps copies of them all, and its own."""
    return not tensor.name.startswith(_OPTIMIZER) and bool(
        re.fullmatch(r"(bfloat|float|u?int|complex|bool)\d*", tensor.dtype)
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("its configuration is no valid JSON") from error
