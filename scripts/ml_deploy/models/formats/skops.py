"""skops: a zip with a schema in JSON that names every type it builds; judged by the same exact names as pickles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ml_deploy.models import globals_, states
from ml_deploy.models.anatomy import DISTRIBUTIONS, Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.formats import zips
from ml_deploy.models.formats.zips import Archive
from ml_deploy.models.stubs import Instance, Name
from ml_deploy.models.uses import Oddity, Use

NAME = "skops"
_LONGEST = 256 << 20  # bytes
_MOST = 5_000_000
#: Loaders of skops that build plain values or read members, whatever class the node names.
_PLAIN = {"JsonNode", "BytesNode", "BytearrayNode", "CachedNode"}
#: Those that call the class which the node names.
_CALLING = {"ConstructorFromReduceNode", "ListNode", "SetNode", "TupleNode", "NdArrayNode", "LossNode", "SGDNode"}
_ACTING_STATES = {"pickle-state-code", "pickle-formula"}
#: Loaders that call or import by what else the node says.
_ACTING = {
    "MethodNode",
    "OperatorFuncNode",
    "PartialNode",
    "FunctionNode",
    "TypeNode",
    "TreeNode",
    "SGDNode",
    "LossNode",
}


def recognise(names: set[str]) -> bool:
    """The schema's name."""
    return "schema.json" in names


def inspect_archive(archive: Archive, context: Context) -> Anatomy:
    """Every type in the schema, every member by its content."""
    schema = _schema(archive)
    uses = _uses(schema)
    globals_.judge(uses.values(), _oddities(schema), context.inside("schema.json"))
    raw = {node.get("file") for node in _nodes(schema) if node["__loader__"] in ("BytesNode", "BytearrayNode")}
    for name, member in archive.members.items():
        if name in raw:
            zips.raw(member, context, zips.of_no_format)
        elif name != "schema.json":
            context.inner(member, context.inside(name))
    roots = dict.fromkeys(
        DISTRIBUTIONS[module.split(".")[0]] for module, _ in uses if module.split(".")[0] in DISTRIBUTIONS
    )
    top = next(_nodes(schema))
    versions = {"scikit-learn": _sklearn(schema), "skops": schema.get("_skops_version")}
    return Anatomy(
        format=NAME, framework="scikit-learn" if "scikit-learn" in roots else "skops", libraries=(*roots, "skops"),
        versions={name: version for name, version in versions.items() if isinstance(version, str)},
        top=f"{top.get('__module__')}.{top.get('__class__')}",
    )  # fmt: skip


def _uses(schema: Any) -> dict[tuple[str, str], Use]:
    uses: dict[tuple[str, str], Use] = {}
    called: set[int] = set()
    for node in _nodes(schema):
        loader = node["__loader__"]
        if loader == "DictNode":  # calls its keys' types
            called |= {id(one) for one in _nodes(node.get("key_types"))}
        for module, name in _names(node):
            use = uses.setdefault((module, name), Use(Name(module, name), (module, name), 0))
            use.made = use.made if loader in _PLAIN | _ACTING else 0
            use.called = 0 if loader in _CALLING or id(node) in called else use.called
    return uses


def _oddities(schema: Any) -> Iterator[Oddity]:
    """Mappings that make an object act when they are its state. Nodes may stand for others by an id, so all are looked at."""
    for node in _nodes(schema):
        content = node.get("content")
        if node["__loader__"] == "DictNode" and isinstance(content, dict):
            state = {key: _plain(value) for key, value in content.items() if isinstance(value, dict)}
            for rule, construct, message in states.problems(Instance(None), state):
                if rule in _ACTING_STATES:
                    yield Oddity(rule, construct, message, 0)


def _plain(node: dict[str, Any]) -> Any:
    """What `states` wants to know of a node: a text, or that it is an object."""
    try:
        return json.loads(node["content"]) if node.get("__loader__") == "JsonNode" else Instance(None)
    except (KeyError, TypeError, ValueError):
        return Instance(None)


def _sklearn(schema: Any) -> str | None:
    """The version of scikit-learn that the first estimator was made with."""
    for node in _nodes(schema):
        content = node.get("content")
        one = content.get("_sklearn_version") if isinstance(content, dict) else None
        if isinstance(one, dict) and isinstance(one.get("content"), str):
            return str(one["content"]).strip('"')
    return None


def _schema(archive: Archive) -> dict[str, Any]:
    with archive.members["schema.json"].open() as source:
        data = source.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise Unreadable("its schema has more than 256 MiB", rule="budget")
    try:
        schema = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("its schema is no valid JSON") from error
    if not isinstance(schema, dict) or "__loader__" not in schema:
        raise Unreadable("its schema has no __loader__, so it is none of skops")
    return schema


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    waiting, count = [schema], 0
    while waiting:
        thing = waiting.pop()
        count += 1
        if count > _MOST:
            raise Unreadable("its schema has too many parts", rule="budget")
        if isinstance(thing, dict):
            if "__loader__" in thing:
                yield thing
            waiting.extend(thing.values())
        elif isinstance(thing, list):
            waiting.extend(thing)


def _names(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The class of a node, and what functions and methods name in their content (CVE-2025-54412, 54413, 54886)."""
    if node["__loader__"] != "JsonNode":
        yield str(node.get("__module__", "")), str(node.get("__class__", ""))
    content = node.get("content")
    if isinstance(content, dict):
        for module, name in (("module_path", "function"), ("__module__", "__class__"), ("module", "func")):
            if isinstance(content.get(module), str) and isinstance(content.get(name), str):
                yield content[module], content[name]
