"""What `torch.export.save` writes: a zip of a program in JSON, with weights beside it."""

from __future__ import annotations

from dataclasses import replace

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Verdict
from ml_deploy.models.formats import zips
from ml_deploy.models.formats.zips import Archive

NAME = "torch-export"
_MARKS = {"archive_format", "serialized_exported_program.json"}


def recognise(names: set[str]) -> bool:
    """The file that says what the archive is, or the program by its older name."""
    return any(name.rpartition("/")[2] in _MARKS for name in names)


def inspect_archive(archive: Archive, context: Context) -> Anatomy:
    """Every member by its content; the program itself needs a review."""
    context.log.add(
        Verdict.REVIEW, "torchscript-code", "an exported program",
        "The file is a program of torch.export: it brings expressions that torch evaluates as Python when it is loaded.",
        "Save a state dict (better: as safetensors) and keep the code in your repository, or export the model to ONNX.",
    )  # fmt: skip
    found = zips.each_member(NAME, archive.members.values(), context)
    return replace(found, framework="torch", libraries=("torch",))
