"""Texts that lie beside a model in its folder or archive: configuration is fine, code needs a review."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.source import Member

NAME = "text"
_LONGEST = 64 << 20  # bytes
_CODE = {".py", ".pyc", ".sh", ".bash", ".ps1", ".bat", ".r", ".jl", ".lua", ".js", ".so", ".dll", ".ipynb"}
#: Loaders that MLflow itself brings and that load nothing but the model file.
_FLAVORS = {"sklearn", "onnx", "xgboost", "lightgbm", "pytorch", "keras", "tensorflow", "statsmodels", "catboost", "prophet",
            "spacy", "transformers"}  # fmt: skip


def might_be(member: Member) -> bool:
    """Whether it is UTF-8 without control characters, as far as its beginning tells."""
    head = member.head(1 << 16)
    return bool(head) and not any(byte < 32 and byte not in b"\t\n\r\f\b" for byte in head)


def inspect(member: Member, context: Context) -> Anatomy:
    """Read all of it; look at what it is called and, of an MLmodel, at what it would load."""
    with member.open() as source:
        data = source.read(_LONGEST + 1)
    try:
        text = data.decode("utf-8")
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
    if path.name == "MLmodel":
        return _mlmodel(text, context)
    return Anatomy(format=NAME)


def _mlmodel(text: str, context: Context) -> Anatomy:
    import yaml

    try:
        known = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unreadable("the MLmodel is no valid YAML") from error
    flavors = known.get("flavors") if isinstance(known, dict) else None
    if not isinstance(flavors, dict):
        raise Unreadable("the MLmodel names no flavors")
    function = flavors.get("python_function")
    loader = str(function.get("loader_module", "")) if isinstance(function, dict) else ""
    if loader and loader.removeprefix("mlflow.") not in _FLAVORS:
        context.log.add(
            Verdict.REVIEW, "mlflow-loader", loader, f"MLflow loads this model with {loader}, which runs code that comes with it.",
            "Log the model with one of MLflow's own flavors, such as `mlflow.sklearn`.",
        )  # fmt: skip
    return Anatomy(format=NAME, framework="mlflow", versions=_versions(known, flavors))


def _versions(known: dict[str, Any], flavors: dict[str, Any]) -> dict[str, str]:
    found = {"mlflow": known.get("mlflow_version")}
    for flavor, distribution, key in (("sklearn", "scikit-learn", "sklearn_version"), ("xgboost", "xgboost", "xgb_version"),
                                      ("lightgbm", "lightgbm", "lgb_version"), ("onnx", "onnx", "onnx_version"),
                                      ("pytorch", "torch", "pytorch_version")):  # fmt: skip
        inner = flavors.get(flavor)
        found[distribution] = inner.get(key) if isinstance(inner, dict) else None
    return {name: value for name, value in found.items() if isinstance(value, str)}
