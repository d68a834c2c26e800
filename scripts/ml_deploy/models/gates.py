"""Gates beside safety: formats that are accepted, and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection

#: What may lie beside a model and is none itself.
BESIDE = ("text", "keras-metadata", "onnx-data", "tensorflow-variables", "metrics", "requirements", "signature",
          "checksums")  # fmt: skip


def beside(kind: str, path: str, findings: Sequence[Finding]) -> Inspection:
    """The judgement of a file that is not the model's."""
    return Inspection(file=path, size=0, anatomy=Anatomy(format=kind), findings=tuple(findings))


def external_data(inspections: list[Inspection]) -> list[Inspection]:
    """Files of no format of their own that an ONNX model beside them keeps its tensors in are what they should be."""
    named = {str(Path(one.file).parent / place) for one in inspections for place in one.anatomy.external}
    return [
        replace(one, anatomy=replace(one.anatomy, format="onnx-data"), findings=())
        if str(Path(one.file)) in named and [f.rule for f in one.findings] == ["unsupported-format"] else one
        for one in inspections
    ]  # fmt: skip


def variables(inspections: list[Inspection]) -> list[Inspection]:
    """TensorFlow's variables and assets: files of no format in their folders beside a `saved_model.pb`."""
    folders = {Path(one.file).parent for one in inspections if one.anatomy.format == "savedmodel"}
    if not folders:
        return inspections
    from ml_deploy.models.formats.zips import of_graph  # here: this process needs no format otherwise

    return [
        replace(one, anatomy=replace(one.anatomy, format="tensorflow-variables"), findings=())
        if of_graph(Path(one.file), folders, one.findings) else one
        for one in inspections
    ]  # fmt: skip


def some_model(inspections: list[Inspection]) -> list[Inspection]:
    """With a finding when there are only texts."""
    if any(one.anatomy.format not in BESIDE for one in inspections):
        return inspections
    finding = Finding(
        verdict=Verdict.DENY, rule="no-model", construct="text", file=inspections[0].file,
        message="There is no model among the files, only texts.", advice="Check the input `model`.",
    )  # fmt: skip
    return [replace(inspections[0], findings=(*inspections[0].findings, finding)), *inspections[1:]]


def forbidden_format(inspection: Inspection, accepted: Sequence[str]) -> Inspection:
    """With a finding when the format, or the compression around it, is not among the accepted ones."""
    name = inspection.anatomy.format
    if not accepted or name in accepted or name in BESIDE:
        return inspection
    finding = Finding(
        verdict=Verdict.DENY, rule="format-not-accepted", construct=name, file=inspection.file,
        message=f"The file's format is {name}; accepted are {', '.join(accepted)}.",
        advice="Save the model in an accepted format, or change the input `formats`.",
    )  # fmt: skip
    return replace(inspection, findings=(*inspection.findings, finding))


def too_large(inspections: list[Inspection], limit: int | None) -> list[Inspection]:
    """With a finding at the largest file when all together have more than `limit` bytes."""
    total = sum(one.size for one in inspections)
    if limit is None or total <= limit:
        return inspections
    largest = max(inspections, key=lambda one: one.size)
    finding = Finding(
        verdict=Verdict.DENY, rule="too-large", construct=f"{total} bytes", file=largest.file,
        message=f"The model has {total:,} bytes, more than the {limit:,} that `max-model-size` allows.",
        advice="Make the model smaller (compress it, prune it, store 32-bit numbers), or raise `max-model-size`.",
    )  # fmt: skip
    return [replace(one, findings=(*one.findings, finding)) if one is largest else one for one in inspections]
