"""Where the paths come from that a graph of TensorFlow reads and writes.

They may come from whoever loads the model: by the placeholder that its saver names (never also an
input of a signature), or as an asset, a file in the model's own folder. What TensorFlow's savers
add to them is known word for word. Everything else is a path of the file's own, or of a client's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ml_deploy.models.findings import Verdict
from ml_deploy.models.formats.graphs import Function, Graph, Node

#: Operators and which of their inputs are paths.
OPERANDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Save", "SaveV2", "Restore", "RestoreV2", "RestoreSlice"), (0,)),
    **dict.fromkeys(("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"), (1,)),
    **dict.fromkeys(("MergeV2Checkpoints", "GenerateVocabRemapping"), (0, 1)),
}
#: Operators with a path in an attribute, and the texts in it that are none.
_ATTRIBUTES = {
    "FixedUnigramCandidateSampler": ("vocab_file", re.compile(rb"")),
    "DecodeProtoV2": ("descriptor_source", re.compile(rb"|local://|bytes://.*", re.DOTALL)),
    "EncodeProto": ("descriptor_source", re.compile(rb"|local://|bytes://.*", re.DOTALL)),
}
#: What TensorFlow's savers add to the loader's path, and the name that one has if nobody tells it.
_SAVERS_OWN = re.compile(rb"|model|\.part|_temp/part|_temp_[0-9a-f]+/part")
#: Operators that hand paths on, and how many of their inputs, from the first to the last, are not asked for.
_HAND_ON = {"Identity": slice(1), "PlaceholderWithDefault": slice(1), "ShardedFilename": slice(1), "Select": slice(1, 3),
            "SelectV2": slice(1, 3), "StringJoin": slice(None), "Pack": slice(None)}  # fmt: skip
_OF_VARIABLES = ("ReadVariableOp", "VarIsInitializedOp", "AssignVariableOp")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def judge(graph: Graph) -> Iterator[tuple[str, Verdict]]:
    """Operators with a path that is the file's own (deny), or only usually the loader's (review)."""
    for function in graph.functions:
        for node in function.body.values():
            verdict = _judge(graph, function, node)
            if verdict is not Verdict.ALLOW:
                yield node.operator, verdict


def _judge(graph: Graph, function: Function, node: Node) -> Verdict:
    key, none = _ATTRIBUTES.get(node.operator, ("", None))
    if none is not None:
        texts = node.texts(key)
        return Verdict.ALLOW if texts is not None and all(map(none.fullmatch, texts)) else Verdict.DENY
    operands = OPERANDS.get(node.operator, ())
    if operands and len(node.inputs) <= operands[-1]:
        return Verdict.DENY
    if node.operator == "MergeV2Checkpoints":  # the first is a list, of any length here
        operands = tuple(range(len(node.inputs)))
    verdicts = (_origin(graph, function, node.inputs[number]) for number in operands)
    return max(verdicts, key=lambda one: one.rank, default=Verdict.ALLOW)


def _origin(graph: Graph, function: Function, name: str) -> Verdict:
    """Follow a value back to all that it is made of; the worst of that counts."""
    waiting, seen, worst = [(function, name)], set[tuple[str, str]](), Verdict.ALLOW
    while waiting:
        scope, one = waiting.pop()
        if (scope.name, one) in seen:
            continue
        seen.add((scope.name, one))
        found = _leaf(graph, scope, one)
        if found is None:
            more = _parts(graph, scope, one)
            found = Verdict.DENY if more is None else Verdict.ALLOW
            waiting += more or []
        worst = max(worst, found, key=lambda verdict: verdict.rank)
    return worst


def _leaf(graph: Graph, scope: Function, name: str) -> Verdict | None:
    """What is made of nothing else; None for all other values."""
    node = scope.body.get(name)
    if not scope.name and name in graph.given:
        return Verdict.DENY
    if node is None:
        return None
    asset = graph.assets.get(name) if not scope.name else None
    if node.operator == "Placeholder":
        return Verdict.ALLOW if not scope.name and (name == graph.saver or asset is not None) else Verdict.DENY
    if node.operator != "Const":
        return None
    texts = node.texts("value")
    if texts is not None and all(map(_SAVERS_OWN.fullmatch, texts)):
        return Verdict.ALLOW
    if asset is None or texts is None:
        return Verdict.DENY
    # A loader tells another path before it fills the tables; whoever fills them later gets this one.
    return Verdict.ALLOW if texts == [asset.encode()] and "/" not in asset else Verdict.REVIEW


def _parts(graph: Graph, scope: Function, name: str) -> list[tuple[Function, str]] | None:
    """What a value is made of; None where that cannot be told."""
    node = scope.body.get(name)
    if node is None:
        return _callers(graph, scope, name)
    if node.operator == "ReadVariableOp" and node.inputs:
        return _assigned(graph, scope.body.get(node.inputs[0]))
    if node.operator not in _HAND_ON or (node.operator == "StringJoin" and any(node.texts("separator") or [])):
        return None
    return [(scope, one) for one in node.inputs[_HAND_ON[node.operator]]] or None


def _assigned(graph: Graph, handle: Node | None) -> list[tuple[Function, str]] | None:
    """What is assigned to a variable, as savers keep an asset's path in one; None if it is handed to something else."""
    shared = handle.texts("shared_name") if handle and handle.operator == "VarHandleOp" else None
    if not shared or len(shared) > 1 or not shared[0]:
        return None
    assigned = []
    for scope in graph.functions:
        same = {
            name
            for name, one in scope.body.items()
            if one.operator == "VarHandleOp" and one.texts("shared_name") == shared
        }
        for user in (one for one in scope.body.values() if same & set(one.inputs)):
            if user.operator not in _OF_VARIABLES or same & set(user.inputs[1:]):
                return None
            assigned += [(scope, value) for value in user.inputs[1:2]]
    return assigned or None


def _callers(graph: Graph, function: Function, name: str) -> list[tuple[Function, str]] | None:
    """What an argument of a function is at each of its calls, those by Python among them."""
    if name not in function.arguments:
        return None
    number = function.arguments.index(name)
    bound = graph.bound.get(function.name)
    if bound is not None:
        place = number - len(function.arguments) + len(bound)
        if not 0 <= place < len(bound) or not bound[place]:
            return None
    calls = [
        (scope, node)
        for scope in graph.functions
        for node in scope.body.values()
        if function.name in set(node.functions())
    ]
    if any(node.operator not in _CALLS or len(node.inputs) <= number for _, node in calls):
        return None
    return [(scope, node.inputs[number]) for scope, node in calls] or None
