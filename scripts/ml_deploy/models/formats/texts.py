"""Texts that lie beside a model in its folder or archive: configuration is fine, code needs a review."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

from ml_deploy.models import keras_config
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.formats import mlflow
from ml_deploy.models.source import Member

NAME = "text"
_LONGEST = 64 << 20  # bytes
_OBJECTS = re.compile(r"!!python/|^%TAG|!<tag:", re.MULTILINE)
_CODE = {".py", ".pyc", ".sh", ".bash", ".ps1", ".bat", ".r", ".jl", ".lua", ".js", ".so", ".dll", ".ipynb"}


def might_be(member: Member) -> bool:
    """Whether it is UTF-8 without control characters, as far as its beginning tells."""
    head = member.head(1 << 16)
    return bool(head) and not any(byte < 32 and byte not in b"\t\n\r\f\b" for byte in head)


def inspect(member: Member, context: Context) -> Anatomy:
    """Read all of it; look at what it is called and, of an MLmodel, at what it would load."""
    with member.open() as source:
        data = source.read(_LONGEST + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("it is neither a model nor a text") from error
    if len(data) > _LONGEST:
        raise Unreadable("it is a text of more than 64 MiB", rule="budget")
    path = PurePosixPath(member.name or context.path)
    if path.suffix.lower() in _CODE or text.startswith("#!"):
        context.log.add(
            Verdict.REVIEW, "code-file", path.name, f"The model brings code: {path.name}.",
            "Keep code in your repository, where it is reviewed, and the model free of it.",
        )  # fmt: skip
    if _OBJECTS.search(text):
        context.log.add(
            Verdict.REVIEW, "code-file", path.name, f"{path.name} makes objects of Python when it is loaded as YAML by an unsafe loader.",
            "Write plain values only.",
        )  # fmt: skip
    if path.suffix.lower() == ".pbtxt":
        context.log.deny("unsupported-format", path.name, "The file is a graph of TensorFlow as a text, which TensorFlow loads like any other.",
                         "Save the graph as `saved_model.pb`.")  # fmt: skip
    if text.lstrip()[:1] == "{":
        _json(text, context)
    return mlflow.judge(path.name, text, context) or Anatomy(format=NAME)


def _json(text: str, context: Context) -> None:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return  # to all other readers, too
    keras_config.judge_text(config, context)
