"""Boosted trees in their own formats, which hold numbers and names only: XGBoost's JSON and UBJSON, LightGBM's text."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

from ml_deploy.models import keras_config
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.source import Member, Source

NAME = "xgboost"
_LONGEST = 1 << 30  # bytes
_LIGHTGBM = b"tree\nversion="
_NUMBERS = {
    ord("i"): "b",
    ord("U"): "B",
    ord("I"): ">h",
    ord("l"): ">i",
    ord("L"): ">q",
    ord("d"): ">f",
    ord("D"): ">d",
}
_DEEPEST = 100


def sniff(head: bytes) -> bool:
    """How the three begin; JSON and UBJSON are XGBoost's when `learner` is their first key (or the second, after `Config`)."""
    if head.startswith(_LIGHTGBM):
        return True
    json_like = re.match(rb'\{\s*"(learner|version|Config)"\s*:', head) is not None
    return json_like or re.match(rb"\{L\0{7}[\x06\x07](learner|version|Config)", head) is not None


def inspect(member: Member, context: Context) -> Anatomy:
    """Parse the file whole: what it says must be what the format says, and nothing may follow."""
    head = member.head(64)
    if head.startswith(_LIGHTGBM):
        return _lightgbm(member)
    model = _json(member) if head[1:2] != b"L" else _binary(member)
    keras_config.judge_text(model, context)
    learner = model.get("learner") if isinstance(model, dict) else None
    if not isinstance(learner, dict) or "gradient_booster" not in learner:
        raise Unreadable("it has no gradient booster, so it is no model of XGBoost")
    version = model.get("version")
    known = isinstance(version, list) and len(version) == 3 and all(isinstance(part, int) for part in version)
    parameters = learner.get("learner_model_param")
    features = parameters.get("num_feature") if isinstance(parameters, dict) else None
    names = learner.get("feature_names")
    return Anatomy(
        format=NAME, framework="xgboost", libraries=("xgboost",),
        at_least={"xgboost": ".".join(map(str, version))} if known and isinstance(version, list) else {},
        n_features_in=int(features) if isinstance(features, str) and features.isdecimal() else None,
        feature_names=tuple(str(name) for name in names[:1000]) if isinstance(names, list) else (),
        trees=_trees(learner["gradient_booster"]),
    )  # fmt: skip


def _trees(booster: Any) -> int | None:
    """As the booster's own parameters say (dart keeps a gbtree inside); None of a linear one."""
    for key in ("gbtree", "model", "gbtree_model_param"):
        booster = booster.get(key, booster if key == "gbtree" else None) if isinstance(booster, dict) else None
    count = booster.get("num_trees") if isinstance(booster, dict) else None
    return int(count) if isinstance(count, str) and count.isdecimal() else None


def _read(member: Member) -> bytes:
    with member.open() as source:
        data = source.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise Unreadable("it has more than 1 GiB of text", rule="budget")
    return data


def _json(member: Member) -> Any:
    try:
        return json.loads(_read(member))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no valid JSON ({error})") from error


def _binary(member: Member) -> Any:
    with member.open() as source:
        model = _value(source, source.exact(1)[0], 0)
        if not source.at_end():
            raise Unreadable("something follows the model", offset=source.tell(), rule="trailing-data")
    return model


def _value(source: Source, mark: int, depth: int) -> Any:
    """One UBJSON value; of long arrays of numbers only the length is kept."""
    if depth > _DEEPEST:
        raise Unreadable("it is nested too deep", offset=source.tell(), rule="budget")
    if mark in _NUMBERS:
        return struct.unpack(_NUMBERS[mark], source.exact(struct.calcsize(_NUMBERS[mark])))[0]
    if mark == ord("S"):
        return source.exact(_length(source)).decode("utf-8", "replace")
    if mark == ord("{"):
        return _object(source, depth)
    if mark == ord("["):
        return _array(source, depth)
    constants = {ord("Z"): None, ord("T"): True, ord("F"): False}
    if mark not in constants:
        raise Unreadable(f"it is no valid UBJSON at byte {source.tell() - 1:,}", offset=source.tell() - 1)
    return constants[mark]


def _length(source: Source) -> int:
    length = _value(source, source.exact(1)[0], _DEEPEST)
    if type(length) is not int or not 0 <= length <= _LONGEST:
        raise Unreadable(f"it is no valid UBJSON at byte {source.tell():,}", offset=source.tell())
    return length


def _object(source: Source, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    while source.peek(1)[:1] != b"}":
        key = source.exact(_length(source)).decode("utf-8", "replace")
        if key in made:
            raise Unreadable(f"it has {key!r} twice", offset=source.tell())
        made[key] = _value(source, source.exact(1)[0], depth + 1)
    source.exact(1)
    return made


def _array(source: Source, depth: int) -> list[Any]:
    kind = source.exact(2)[1] if source.peek(1)[:1] == b"$" else None
    if source.peek(1)[:1] == b"#":
        source.exact(1)
        count = _length(source)
        if kind in _NUMBERS:
            source.skip(count * struct.calcsize(_NUMBERS[kind]))
            return []
        return [_value(source, kind or source.exact(1)[0], depth + 1) for _ in range(count)]
    made = []
    while source.peek(1)[:1] != b"]":
        made.append(_value(source, source.exact(1)[0], depth + 1))
    source.exact(1)
    return made


def _lightgbm(member: Member) -> Anatomy:
    """Blocks of `name=value` lines: a header, `Tree=N` blocks, `end of trees`, then importances and parameters."""
    text = _read(member)
    if b"\0" in text or b"\nend of trees" not in text:
        raise Unreadable(
            "it has no `end of trees`: the LightGBM model is truncated", offset=len(text), rule="truncated"
        )
    header = dict(line.split(b"=", 1) for line in text.split(b"\n\n", 1)[0].splitlines() if b"=" in line)
    count = text.count(b"\nTree=")
    sizes = [int(size) for size in header.get(b"tree_sizes", b"").split() if size.isdigit()]
    if sizes and len(sizes) != count:
        raise Unreadable(f"it has {count} trees, its header says {len(sizes)}", rule="truncated")
    names = tuple(name.decode("utf-8", "replace") for name in header.get(b"feature_names", b"").split()[:1000])
    index = header.get(b"max_feature_idx", b"")
    return Anatomy(format="lightgbm", framework="lightgbm", libraries=("lightgbm",), feature_names=names,
                   n_features_in=int(index) + 1 if index.isdigit() else None, trees=count)  # fmt: skip
