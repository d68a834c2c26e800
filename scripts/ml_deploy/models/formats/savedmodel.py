"""TensorFlow's saved_model.pb and frozen graphs: protobufs whose operators may read files, write them, or run Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from ml_deploy.models import policy
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.formats import keras_metadata, serving
from ml_deploy.models.source import Member
from ml_deploy.models.wire import fields

NAME = "savedmodel"
_LARGEST = 512 << 20  # bytes; variables are not in it, so graphs are small
#: Operators that act outside of the graph: why.
_DENIED = {
    **dict.fromkeys(("ReadFile", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "FixedLengthRecordReader",
                     "FixedLengthRecordReaderV2", "MatchingFiles", "ReaderRead", "ReaderReadV2"), "reads files"),
    **dict.fromkeys(("WriteFile", "SaveSlices", "PrintV2Stream", "WriteSummary", "CreateSummaryFileWriter", "SaveDataset",
                     "SaveDatasetV2", "DatasetToTFRecord", "PrintV2"), "writes files"),
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc"), "runs Python code"),
    **dict.fromkeys(("RegisterDataset", "RegisterDatasetV2", "DataServiceDataset", "DataServiceDatasetV2", "DebugIdentityV2",
                     "DebugIdentity", "SendTPUEmbeddingGradients", "RpcCall", "RpcClient", "RpcServer"), "connects to other machines"),
}  # fmt: skip
#: GraphDef in MetaGraphDef in SavedModel; nodes in it, and in the functions of its library.
_META_GRAPHS, _GRAPH, _NODE, _LIBRARY, _FUNCTION, _BODY = 2, 2, 1, 2, 1, 3
_NAME, _OPERATOR, _INPUT = 1, 2, 3
#: They read or write the file that their first input names.
_SAVERS = {
    "Save",
    "SaveV2",
    "Restore",
    "RestoreV2",
    "RestoreSlice",
    "MergeV2Checkpoints",
    "InitializeTableFromTextFile",
}
Body = dict[str, tuple[str, list[str]]]  # a node's name -> its operator and the nodes of its inputs


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
    metas = list(fields(data, _META_GRAPHS)) if saved else []
    graphs = [graph for meta in metas for graph in fields(meta, _GRAPH)] if saved else [memoryview(data)]
    bodies = [body for graph in graphs for body in _bodies(graph)]
    operators = dict.fromkeys(operator for body in bodies for operator, _ in body.values())
    if not operators:
        raise Unreadable("it has no operators, so it is no graph of TensorFlow")
    _judge(operators, context)
    for name in dict.fromkeys(name for body in bodies for name in _fixed_paths(body)):
        context.log.deny("tensorflow-path", name, f"The graph has {name} with a path of its own: it reads or writes a file when it runs.",
                         "Save the model again; TensorFlow's own saver is told its path by whoever loads the model.")  # fmt: skip
    for meta in metas:
        keras_metadata.judge_objects(meta, context)
    version = serving.version(metas[0]) if saved else ""
    inputs, outputs = serving.tensors(metas[0]) if saved else ((), ())
    return Anatomy(
        format=NAME if saved else "frozen-graph", framework="tensorflow", libraries=("tensorflow",),
        versions={"tensorflow": version} if version else {}, inputs=inputs, outputs=outputs, operators=tuple(sorted(operators)),
    )  # fmt: skip


def _bodies(graph: memoryview) -> Iterator[Body]:
    """The graph's own nodes, then each function's."""
    yield _body(fields(graph, _NODE))
    for library in fields(graph, _LIBRARY):
        for function in fields(library, _FUNCTION):
            yield _body(fields(function, _BODY))


def _body(nodes: Iterable[memoryview]) -> Body:
    body: Body = {}
    for node in nodes:
        name, operator = _text(node, _NAME), _text(node, _OPERATOR)
        texts = [bytes(one).decode("utf-8", "replace") for one in fields(node, _INPUT)]
        inputs = [text.split(":")[0] for text in texts if not text.startswith("^")]  # ^ is for order only
        body[name if name not in body else f"{name}#{len(body)}"] = (operator, inputs)
    return body


def _text(node: memoryview, number: int) -> str:
    return bytes(next(fields(node, number), b"")).decode("utf-8", "replace")


def _fixed_paths(body: Body) -> Iterator[str]:
    """Operators of TensorFlow's saver whose path is not handed in from outside."""
    for operator, inputs in body.values():
        if operator in _SAVERS and inputs and not _from_outside(inputs[0], body):
            yield operator


def _from_outside(name: str, body: Body) -> bool:
    """Whether an argument of the function, or a placeholder, is among what a value is made of."""
    waiting, seen = [name], set[str]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one not in body or body[one][0].startswith("Placeholder"):
            return True
        waiting += body[one][1]
    return False


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
