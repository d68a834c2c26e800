"""numpy's .npz: a zip of .npy files."""

from __future__ import annotations

from dataclasses import replace

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.formats.zips import Archive

NAME = "npz"


def recognise(names: set[str]) -> bool:
    """Nothing but .npy files."""
    return bool(names) and all(name.endswith(".npy") for name in names)


def inspect_archive(archive: Archive, context: Context) -> Anatomy:
    """Each array, by content: `numpy.load` unpickles members that are no .npy when it is told to."""
    found = [context.inner(member, context.inside(name)) for name, member in archive.members.items()]
    named = [
        replace(tensor, name=name.removesuffix(".npy"))
        for one, name in zip(found, archive.members, strict=True)
        for tensor in one.tensors
    ]
    return Anatomy(
        format=NAME, framework="numpy", libraries=("numpy",), parameters=sum(one.parameters or 0 for one in found) or None,
        tensors=tuple(sorted(named, key=lambda tensor: tensor.items, reverse=True)[:20]),
    )  # fmt: skip
