"""ONNX: a protobuf. Large tensors are left out before protobuf reads it, so memory stays flat."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ml_deploy.models import policy, wire
from ml_deploy.models.anatomy import Anatomy, Tensor
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.source import Member

NAME = "onnx"
_STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
#: TensorProto.DataType by number: name and bits per item (0: not fixed).
_TYPES = {1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16), 6: ("int32", 32),
          7: ("int64", 64), 8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64), 12: ("uint32", 32),
          13: ("uint64", 64), 14: ("complex64", 64), 15: ("complex128", 128), 16: ("bfloat16", 16), 17: ("float8e4m3fn", 8),
          18: ("float8e4m3fnuz", 8), 19: ("float8e5m2", 8), 20: ("float8e5m2fnuz", 8), 21: ("uint4", 4), 22: ("int4", 4),
          23: ("float4e2m1", 4), 24: ("float8e8m0", 8), 25: ("uint2", 2), 26: ("int2", 2)}  # fmt: skip


def sniff(head: bytes) -> bool:
    """`ir_version` first, as every writer has it, then a field of ModelProto."""
    return len(head) > 3 and head[0] == 0x08 and 0 < head[1] < 0x40 and wire.plausible(head[2:])


def inspect(member: Member, context: Context) -> Anatomy:
    """Check structure, operators and external data."""
    import onnx

    with member.open() as source:
        slim = wire.slim(source, member.size)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(slim.data)
    except Exception as error:  # protobuf's DecodeError; its module moves between releases
        raise Unreadable(f"it is no valid ONNX protobuf ({error})") from error
    if not model.ir_version or not model.graph.node:
        raise Unreadable("it is no ONNX model: it has no operators")
    graphs = list(_graphs(model))
    _operators(model, graphs, context)
    tensors = [tensor for graph in graphs for tensor in _tensors(graph)]
    _external(tensors, context)
    _check(model, slim, context)
    places = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return replace(_anatomy(model, graphs, slim), external=tuple(sorted(places)))


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, its subgraphs and the functions: everything that has nodes."""
    waiting = [model.graph, *model.functions]
    waiting += [graph for info in model.training_info for graph in (info.initialization, info.algorithm)]
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in _attributes(graph):
            if attribute.HasField("g"):
                waiting.append(attribute.g)
            waiting.extend(attribute.graphs)


def _attributes(graph: Any) -> Iterator[Any]:
    """Those of nodes, and the defaults that a function gives its own."""
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())


def _tensors(graph: Any) -> Iterator[Any]:
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for attribute in _attributes(graph):
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _operators(model: Any, graphs: list[Any], context: Context) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    asked: dict[tuple[str, str], None] = {}
    for graph in graphs:
        asked.update(dict.fromkeys((node.domain, node.op_type) for node in graph.node))
    for domain, name in asked:
        exact = f"{domain}:{name}"
        if domain in _STANDARD or (domain, name) in own or exact in context.policy.allow_operators:
            continue
        context.log.add(
            Verdict.REVIEW, "onnx-operator", exact,
            f"The graph uses {exact}, an operator that is not part of ONNX; what it does depends on the library loaded for it.",
            "If the serving image has that library and you trust it, allow the operator in the policy.",
            allow=exact if policy.is_operator(exact) else "",
        )  # fmt: skip


def _external(tensors: list[Any], context: Context) -> None:
    seen = set()
    for tensor in tensors:
        if tensor.data_location != 1 and not tensor.external_data:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        location = place.get("location", "")
        twice = "" if len(place) == len(tensor.external_data) else "that is said twice"
        problem = twice or _outside(location, context.path) or _range(place, Path(context.path).parent / location)
        if problem and (location, problem) not in seen:
            seen.add((location, problem))
            context.log.deny(
                "onnx-external-data", location, f"The tensor {tensor.name!r} has its data in {location!r}: {problem}.",
                "Keep external data in files beside the model, and name them as they were saved.",
            )  # fmt: skip


def _outside(location: str, model: str) -> str:
    """Why external data at `location` must not be read; an empty string when it may."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    if not location or "\0" in location:
        return "that names no file"
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor or ".." in parts:
        return "that leaves the model's folder"
    folder = Path(model).parent.resolve()
    file = folder / location
    if not file.resolve().is_relative_to(folder) or file.is_symlink():
        return "that is a link"
    if not file.is_file():
        return "there is no such file"
    return "that is a hard link to another file" if file.stat().st_nlink > 1 else ""


def _range(place: dict[str, str], file: Path) -> str:
    try:
        offset, length = int(place.get("offset") or 0), int(place.get("length") or 0)
    except ValueError:
        return "its place in that file is no number"
    inside = offset >= 0 and length >= 0 and offset + length <= file.stat().st_size
    return "" if inside else "the file is shorter than the model says"


def _check(model: Any, slim: wire.Slim, context: Context) -> None:
    """ONNX's own checker, where the file was read whole; the sizes of tensors that were left out."""
    import onnx

    for skipped in slim.tensors:
        bits = _TYPES.get(skipped.data_type, ("", 0))[1]
        if not bits or (math.prod(skipped.dims) * bits + 7) // 8 != skipped.length:
            raise Unreadable(f"the tensor {skipped.name!r} has {skipped.length:,} bytes, which does not fit its shape",
                             offset=skipped.offset)  # fmt: skip
    if slim.tensors or any(f.rule in ("onnx-operator", "onnx-external-data") for f in context.log.findings):
        return
    try:
        onnx.checker.check_model(context.path if not context.log.member and not slim.compressed else model)
    except (onnx.checker.ValidationError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise Unreadable(f"ONNX's own checker refuses it ({first[:300]})") from error


def _anatomy(model: Any, graphs: list[Any], slim: wire.Slim) -> Anatomy:
    kept = [(t.name, _TYPES.get(t.data_type, ("unknown", 0))[0], tuple(t.dims)) for t in model.graph.initializer]
    sizes = {t.name: t.dims for t in slim.tensors}
    shapes = [Tensor(name=n, dtype=d, shape=tuple(sizes.get(n, s))) for n, d, s in kept]
    names = {tensor.name for tensor in shapes}
    largest = sorted(shapes, key=lambda t: t.items, reverse=True)[:20]
    return Anatomy(
        format=NAME, framework="onnx",
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        ir_version=model.ir_version,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        inputs=tuple(_value(v) for v in model.graph.input if v.name not in names),
        outputs=tuple(_value(v) for v in model.graph.output),
        operators=tuple(sorted({node.op_type for graph in graphs for node in graph.node})),
        parameters=sum(t.items for t in shapes) or None,
        tensors=tuple(largest),
    )  # fmt: skip


def _value(info: Any) -> Tensor:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return Tensor(name=info.name, dtype=str(kind or "unknown"))
    tensor = info.type.tensor_type
    shape = tuple(d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in tensor.shape.dim)
    return Tensor(name=info.name, dtype=_TYPES.get(tensor.elem_type, ("unknown", 0))[0], shape=shape)
