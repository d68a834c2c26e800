"""One module per format, registered here and nowhere else.

A module has `NAME`, `sniff(head)` on the first bytes, and `inspect(member, context) -> Anatomy`.
The order matters: the first whose `sniff` says yes inspects. Pickles of protocols 0 and 1 have
nothing to recognise them by, so they are tried last, in `ml_deploy.models.inspection`.
"""

from __future__ import annotations

from typing import Protocol

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.formats import (
    compressed,
    hdf5,
    keras,
    npy,
    npz,
    onnx,
    pickles,
    refused,
    safetensors,
    savedmodel,
    skops,
    tars,
    torch,
    torch_export,
    trees,
    zips,
)
from ml_deploy.models.formats.zips import ZipFormat
from ml_deploy.models.source import Member


class Format(Protocol):
    """What a module of this package offers."""

    NAME: str

    def sniff(self, head: bytes) -> bool:
        """Whether a file that begins like this is of the format."""

    def inspect(self, member: Member, context: Context) -> Anatomy:
        """Write findings to the context's log and return what the file says of itself."""


FORMATS: tuple[Format, ...] = (
    refused,
    safetensors,
    npy,
    zips,
    tars,
    hdf5,
    compressed,
    torch,
    trees,
    pickles,
    savedmodel,
    onnx,
)
#: Formats that are zips, told from each other by the names of their members.
ZIP_FORMATS: tuple[ZipFormat, ...] = (npz, keras, skops, torch_export, torch)
