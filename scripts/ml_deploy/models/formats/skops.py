"""skops: a zip with a schema in JSON that names every type it builds; judged by the same exact names as pickles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ml_deploy.models import globals_
from ml_deploy.models.anatomy import DISTRIBUTIONS, Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.formats.zips import Archive
from ml_deploy.models.stubs import Name
from ml_deploy.models.uses import Use

NAME = "skops"
_LONGEST = 256 << 20  # bytes
_MOST = 5_000_000
#: Loaders of skops that build plain values or read members, whatever class the node names.
_PLAIN = {"JsonNode", "BytesNode", "BytearrayNode", "CachedNode"}
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
    uses: dict[tuple[str, str], Use] = {}
    for node in _nodes(schema):
        for module, name in _names(node):
            made = node["__loader__"] not in _ACTING
            use = uses.setdefault((module, name), Use(Name(module, name), (module, name), 0))
            use.made = 0 if made and node["__loader__"] not in _PLAIN else use.made
    globals_.judge(uses.values(), (), context.inside("schema.json"))
    for name, member in archive.members.items():
        if name != "schema.json":
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
