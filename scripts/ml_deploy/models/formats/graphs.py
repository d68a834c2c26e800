"""TensorFlow's graphs as protobuf has them: nodes, functions, and what loaders of a SavedModel hand to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ml_deploy.models.findings import Unreadable
from ml_deploy.models.wire import fields, numbers

# Numbers of fields: of MetaGraphDef, of GraphDef, of FunctionDef, of NodeDef, of AttrValue.
_GRAPH, _SAVER, _COLLECTIONS, _SIGNATURES, _ASSETS, _OBJECTS = 2, 3, 4, 5, 6, 7
_NODE, _LIBRARY, _FUNCTION = 1, 2, 1
_SIGNATURE, _BODY, _ARGUMENT = 1, 3, 2
_NAME, _OPERATOR, _INPUT, _ATTRIBUTE = 1, 2, 3, 5
_LIST, _TEXT, _TENSOR, _PLACEHOLDER, _CALLED, _LISTED_CALLED = 1, 2, 8, 9, 10, 9
_STRINGS = (8, 4)  # of TensorProto: one by one, and all in one piece
_KEY, _VALUE = 1, 2  # of an entry of a map
_ANYTHING = 5  # of CollectionDef
_OBJECT_NODES, _CONCRETE, _BOUND, _ASSET = 1, 2, 2, 5


@dataclass(frozen=True)
class Node:
    """One operator. `inputs` are names of nodes (or arguments), without those that are for order only."""

    operator: str
    inputs: list[str]
    _raw: memoryview

    def texts(self, key: str) -> list[bytes] | None:
        """The texts in an attribute, of a tensor or plain; None where only the function's caller knows them."""
        values = list(_entries(self._raw, _ATTRIBUTE, key))
        if any(True for value in values for _ in fields(value, _PLACEHOLDER)):
            return None
        plain = [bytes(text) for value in values for text in fields(value, _TEXT)]
        tensors = (tensor for value in values for tensor in fields(value, _TENSOR))
        return plain + [bytes(text) for tensor in tensors for kind in _STRINGS for text in fields(tensor, kind)]

    def functions(self) -> Iterator[str]:
        """The functions that it calls, or may call, and its operator, which may be the name of one."""
        yield self.operator
        for value in _entries(self._raw, _ATTRIBUTE):
            yield from _called(value)


@dataclass(frozen=True)
class Function:
    """A function with its arguments' names, or the graph itself, which has neither name nor arguments."""

    name: str
    arguments: list[str]
    body: dict[str, Node]


@dataclass
class Graph:
    """One graph. saver: the node by which a loader tells where variables are. assets: nodes by which it tells where
    files are, and their names. given: nodes that clients hand to a signature, whatever they would be otherwise. bound: for each function that a Python loader calls, which of its last arguments are assets.
    """

    functions: list[Function] = field(default_factory=list)
    saver: str = ""
    assets: dict[str, str] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    bound: dict[str, list[bool]] = field(default_factory=dict)


def frozen(data: memoryview) -> Graph:
    """A graph that no loader tells anything."""
    return Graph(list(_functions([data])))


def saved(meta: memoryview) -> Graph:
    """A SavedModel's."""
    graph = Graph(list(_functions(fields(meta, _GRAPH))))
    graph.given = {node(text(name)) for name in _given(meta)}
    savers = {node(text(name)) for saver in fields(meta, _SAVER) for name in fields(saver, _NAME)} - {""}
    graph.saver = next(iter(savers)) if len(savers) == 1 else ""
    for asset in (*fields(meta, _ASSETS), *_old_assets(meta)):
        file = _one(asset, 2)
        if not file or file.startswith("/") or ".." in file.replace("\\", "/").split("/"):
            raise Unreadable(f"its asset {file!r} would be read from elsewhere", rule="tensorflow-path")
        graph.assets |= {node(text(name)): file for about in fields(asset, 1) for name in fields(about, _NAME)}
    for objects in fields(meta, _OBJECTS):
        _bind(objects, graph)
    return graph


def _old_assets(meta: memoryview) -> Iterator[memoryview]:
    """As TensorFlow 1 has them: a collection of any messages."""
    for collection in _entries(meta, _COLLECTIONS, "saved_model_assets"):
        for anything in (one for values in fields(collection, _ANYTHING) for one in fields(values, 1)):
            yield from fields(anything, 2)


def _given(meta: memoryview) -> Iterator[memoryview]:
    """Names of the tensors that signatures take."""
    for signature in _entries(meta, _SIGNATURES):
        for about in _entries(signature, 1):
            yield from fields(about, _NAME)


def _bind(objects: memoryview, graph: Graph) -> None:
    assets = [bool(list(fields(one, _ASSET))) for one in fields(objects, _OBJECT_NODES)]
    for entry in fields(objects, _CONCRETE):
        name = _one(entry, _KEY)
        bound = [number for value in fields(entry, _VALUE) for number in numbers(value, _BOUND)]
        graph.bound[name] = [number < len(assets) and assets[number] for number in bound]


def _functions(graphs: Iterable[memoryview]) -> Iterator[Function]:
    """The graph's own nodes first, then each function's."""
    whole = list(graphs)
    yield Function("", [], _body(one for graph in whole for one in fields(graph, _NODE)))
    for library in (one for graph in whole for one in fields(graph, _LIBRARY)):
        for function in fields(library, _FUNCTION):
            signature = memoryview(b"".join(fields(function, _SIGNATURE)))  # which is how protobuf merges them
            arguments = [_one(one, _NAME) for one in fields(signature, _ARGUMENT)]
            yield Function(_one(signature, _NAME), arguments, _body(fields(function, _BODY)))


def _body(nodes: Iterable[memoryview]) -> dict[str, Node]:
    body: dict[str, Node] = {}
    for one in nodes:
        name, texts = _one(one, _NAME), [text(name) for name in fields(one, _INPUT)]
        inputs = [node(name) for name in texts if not name.startswith("^")]  # ^ is for order only
        body[name if name not in body else f"{name}#{len(body)}"] = Node(_one(one, _OPERATOR), inputs, one)
    return body


def _called(value: memoryview) -> Iterator[str]:
    lists = (one for inner in fields(value, _LIST) for one in fields(inner, _LISTED_CALLED))
    for function in (*fields(value, _CALLED), *lists):
        yield _one(function, _NAME)
        for inner in _entries(function, 2):
            yield from _called(inner)


def _entries(message: memoryview, number: int, key: str | None = None) -> Iterator[memoryview]:
    """The values of a map, or those of one key."""
    for entry in fields(message, number):
        if key is None or _one(entry, _KEY) == key:
            yield from fields(entry, _VALUE)


def node(tensor: str) -> str:
    """The node whose output a tensor is."""
    return tensor.split(":")[0]


def text(data: memoryview) -> str:
    """A text of the file's."""
    return bytes(data).decode("utf-8", "replace")


def _one(message: memoryview, number: int) -> str:
    """A text that must not be there twice: protobuf takes the last one, others the first."""
    found = [text(one) for one in fields(message, number)]
    if len(found) > 1:
        raise Unreadable(f"it says both {found[0][:80]!r} and {found[-1][:80]!r} in one place")
    return found[0] if found else ""
