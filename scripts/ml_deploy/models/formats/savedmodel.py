"""TensorFlow's saved_model.pb and frozen graphs: protobufs whose operators may read files, write them, or run Python."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path, PurePosixPath

from ml_deploy.models import policy
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.formats import graph_paths, keras_metadata, serving
from ml_deploy.models.formats import graphs as graphs_
from ml_deploy.models.formats.graphs import Graph
from ml_deploy.models.source import Member
from ml_deploy.models.wire import fields

NAME = "savedmodel"
_LARGEST = 512 << 20  # bytes; variables are not in it, so graphs are small
#: Operators that act outside of the graph: why.
_DENIED = {
    **dict.fromkeys(("ReadFile", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "FixedLengthRecordReader",
                     "FixedLengthRecordReaderV2", "MatchingFiles", "ImmutableConst", "ReaderRead", "ReaderReadV2"), "reads files"),
    **dict.fromkeys(("WriteFile", "SaveSlices", "PrintV2Stream", "WriteSummary", "CreateSummaryFileWriter", "SaveDataset",
                     "SaveDatasetV2", "DatasetToTFRecord", "PrintV2", "DistributedSave", "ImportEvent"), "writes files"),
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), "runs Python code"),
    **dict.fromkeys(("RegisterDataset", "RegisterDatasetV2", "DataServiceDataset", "DataServiceDatasetV2", "DebugIdentityV2",
                     "DebugIdentity", "SendTPUEmbeddingGradients", "RpcCall", "RpcClient", "RpcServer"), "connects to other machines"),
}  # fmt: skip
_NODES, _META_GRAPHS = 1, 2  # of a graph, of a SavedModel; each ignores the other's


def sniff(head: bytes) -> bool:
    """A SavedModel: version 1, then a meta graph that begins with its information."""
    if head[:3] != b"\x08\x01\x12":
        return False
    rest = head[3:].lstrip(bytes(range(0x80, 0x100)))  # the rest of the length's varint
    return rest[1:2] == b"\x0a"


def might_be(member: Member) -> bool:
    """A frozen graph has no magic: it begins with a node, which has a name and then an operator that is known."""
    head = member.head(1024)
    match = re.match(rb"\x0a[\x80-\xff]*[\0-\x7f]\x0a([\0-\x7f])", head)
    if not match:
        return False
    rest = head[match.end() + match[1][0] :]
    return (
        rest[:1] == b"\x12" and len(rest) > 2 and rest[2 : 2 + rest[1]].decode("latin1") in (known() | _DENIED.keys())
    )


def inspect(member: Member, context: Context) -> Anatomy:
    """Every operator of every graph and function."""
    with member.open() as source:
        data = source.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise Unreadable("its graph has more than 512 MiB", rule="budget")
    saved = sniff(data[:32])
    if any(True for _ in fields(data, _NODES)) if saved else _called_saved_model(member, context):
        raise Unreadable("it is a SavedModel to some readers and a graph to others")
    metas = list(fields(data, _META_GRAPHS)) if saved else []
    graphs = [graphs_.saved(meta) for meta in metas] if saved else [graphs_.frozen(memoryview(data))]
    nodes = (node for graph in graphs for function in graph.functions for node in function.body.values())
    operators = dict.fromkeys(node.operator for node in nodes)
    if not operators:
        raise Unreadable("it has no operators, so it is no graph of TensorFlow")
    _judge(operators, context)
    for graph in graphs:
        _judge_paths(graph, context)
    for meta in metas:
        keras_metadata.judge_objects(meta, context)
    version = serving.version(metas[0]) if saved else ""
    inputs, outputs = serving.tensors(metas[0]) if saved else ((), ())
    return Anatomy(
        format=NAME if saved else "frozen-graph", framework="tensorflow", libraries=("tensorflow",),
        versions={"tensorflow": version} if version else {}, inputs=inputs, outputs=outputs, operators=tuple(sorted(operators)),
    )  # fmt: skip


def _called_saved_model(member: Member, context: Context) -> bool:
    """TensorFlow goes by the name."""
    return PurePosixPath(member.name or context.path).name.lower() == "saved_model.pb"


def _judge_paths(graph: Graph, context: Context) -> None:
    for name, verdict in dict.fromkeys(graph_paths.judge(graph)):
        if verdict is Verdict.DENY:
            context.log.deny("tensorflow-path", name, f"The graph has {name} with a path of its own: it reads or writes a file when it runs.",
                             "Save the model again; TensorFlow's own saver is told its path by whoever loads the model.")  # fmt: skip
        elif f"tensorflow:{name}" not in context.policy.allow_operators:
            context.log.add(
                Verdict.REVIEW, "tensorflow-operator", name,
                f"The graph has {name} with an asset whose path, if a loader tells no other, leads to another folder.",
                "Save the model again from the asset's own folder, or allow the operator in the policy.", allow=f"tensorflow:{name}",
            )  # fmt: skip


def _judge(operators: dict[str, None], context: Context) -> None:
    for name in operators:
        exact = f"tensorflow:{name}"
        if name in _DENIED:
            context.log.deny("tensorflow-operator", name, f"The graph has the operator {name}, which {_DENIED[name]}.",
                             "Save the model without it, or find out where the file came from.")  # fmt: skip
        elif name not in known() and exact not in context.policy.allow_operators:
            context.log.add(
                Verdict.REVIEW, "tensorflow-operator", name,
                f"The graph has the operator {name}, which may act outside of the graph or is not TensorFlow's own.",
                "Check what it does in this model; if it is fine, allow it in the policy.",
                allow=exact if policy.is_operator(exact) else "",
            )  # fmt: skip


@cache
def known() -> frozenset[str]:
    """Operators that stay inside of the graph."""
    data = json.loads(Path(__file__).parents[1].joinpath("known_operators.json").read_text(encoding="utf-8"))
    return frozenset(data["tensorflow"])
