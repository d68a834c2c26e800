"""scipy's cKDTree: its state is memory with the numbers of child nodes in it, which loading follows without a look.

So the nodes are read from the file a second time, and every child must be a later node of the same tree.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from ml_deploy.models.context import Context
from ml_deploy.models.source import Member
from ml_deploy.models.stubs import Blob, Instance

_NODE = struct.Struct("<qqdqqqqqq")  # split_dim, children, split, start, end, two addresses, _less, _greater
_LARGEST = 1 << 28  # bytes
_DEEPEST = 2000
_NAMES = {("scipy.spatial._ckdtree", "cKDTree"), ("scipy.spatial._kdtree", "KDTree"), ("scipy.spatial.ckdtree", "cKDTree"),
          ("scipy.spatial.kdtree", "KDTree")}  # fmt: skip


@dataclass(frozen=True)
class Nodes:
    """Where a tree's nodes lie: raw bytes of the pickle; as text when protocols below 3 wrote them."""

    raw: Any
    text: bool = False


def nodes_of(target: Instance, state: Any) -> Nodes | None:
    """The nodes in the state of a tree; None for other objects."""
    if target.of is None or target.of.key not in _NAMES:
        return None
    array = state[0] if isinstance(state, tuple) and state else None
    raw = array.state[-1] if isinstance(array, Instance) and isinstance(array.state, tuple) and array.state else None
    if isinstance(array, Instance) and raw is None and array.args:
        raw = array.args[0]  # numpy's _frombuffer, of protocol 5
    if isinstance(raw, Instance) and raw.of is not None and raw.of.key == ("_codecs", "encode") and raw.args:
        return Nodes(raw.args[0], text=True)
    return Nodes(raw)


def judge(trees: list[Nodes], member: Member, context: Context) -> None:
    """Add findings for trees that loading would leave the memory of."""
    for nodes in trees:
        problem = _problem(_read(nodes, member))
        if problem:
            context.log.deny(
                "pickle-tree", "scipy.spatial:cKDTree", f"Loading this file follows the nodes of a k-d tree: {problem}.",
                "Build the tree again from its points.",
            )  # fmt: skip


def _read(nodes: Nodes, member: Member) -> bytes | None:
    data = nodes.raw
    if isinstance(data, Blob):
        if data.length > _LARGEST:
            return None
        with member.open() as source:
            source.skip(data.offset)
            data = source.exact(data.length)
        data = data.decode("utf-8", "replace") if nodes.text else data
    if isinstance(data, str):
        return data.encode("latin1", "replace")
    return bytes(data) if isinstance(data, (bytes, bytearray)) else None


def _problem(data: bytes | None) -> str:
    if data is None:
        return "they are not where scipy writes them"
    count, rest = divmod(len(data), _NODE.size)
    if rest or not count:
        return "they have not the size of scipy's nodes"
    depths = [0] * count
    for number, node in enumerate(_NODE.iter_unpack(data)):
        if node[0] == -1:
            continue
        for child in node[-2:]:
            if not number < child < count:
                return f"node {number} has the child {child}, of {count}"
            depths[child] = depths[number] + 1
    return f"they are more than {_DEEPEST} deep" if max(depths) > _DEEPEST else ""
