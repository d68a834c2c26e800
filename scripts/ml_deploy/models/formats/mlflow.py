"""MLflow's model folders: what the texts in them make its loaders import, fetch, or read from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict

#: Loaders that MLflow itself brings and that load nothing but the model file.
_FLAVORS = {"sklearn", "onnx", "xgboost", "lightgbm", "pytorch", "keras", "tensorflow", "statsmodels", "catboost", "prophet",
            "spacy", "transformers"}  # fmt: skip
#: Texts and keys that name a module which is imported, and what MLflow itself writes there.
_KERAS = {"keras", "tensorflow.keras", "tf_keras", "tf.keras"}
_MODULES = {
    "pickle_module_info.txt": {"mlflow.pytorch.pickle_module", "pickle", "cloudpickle", "dill"},
    "keras_module.txt": _KERAS,
    "keras_module": _KERAS,
}
_ADVICE = "Log the model with one of MLflow's own flavors, such as `mlflow.sklearn`, and its files with it."


def judge(name: str, text: str, context: Context) -> Anatomy | None:
    """Findings for one of MLflow's own texts; what an MLmodel says of the model, None for other texts."""
    if name in _MODULES and text.strip() not in _MODULES[name]:
        _review(text.strip(), f"MLflow imports the module {text.strip()!r} to load this model.", context)
    return _mlmodel(text, context) if name == "MLmodel" else None


def _mlmodel(text: str, context: Context) -> Anatomy:
    import yaml

    try:
        known = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise Unreadable("the MLmodel is no valid YAML") from error
    flavors = known.get("flavors") if isinstance(known, dict) else None
    if not isinstance(flavors, dict):
        raise Unreadable("the MLmodel names no flavors")
    function = flavors.get("python_function")
    loader = str(function.get("loader_module", "")) if isinstance(function, dict) else ""
    if loader and loader.removeprefix("mlflow.") not in _FLAVORS:
        _review(loader, f"MLflow loads this model with {loader}, which runs code that comes with it.", context)
    for flavor in flavors.values():
        _flavor(flavor if isinstance(flavor, dict) else {}, context)
    return Anatomy(format="text", framework="mlflow", versions=_versions(known, flavors))


def _flavor(flavor: dict[str, Any], context: Context) -> None:
    module = flavor.get("keras_module")
    if module is not None and module not in _MODULES["keras_module"]:
        _review(str(module), f"MLflow imports the module {module!r} to load this model.", context)
    if flavor.get("source_model_name") and not flavor.get("model_binary"):
        name = str(flavor["source_model_name"])
        _review(
            name, f"MLflow fetches {name!r} when it loads this model: the weights are not among its files.", context
        )
    for text in filter(_leads_out, _texts(flavor)):
        context.log.deny(
            "mlflow-path", text, f"MLflow reads {text!r} when it loads this model, which is none of its files.", _ADVICE
        )


def _texts(thing: Any) -> Iterator[str]:
    """All texts in a flavor."""
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, (dict, list)):
        for inner in thing.values() if isinstance(thing, dict) else thing:
            yield from _texts(inner)


def _leads_out(text: str) -> bool:
    parts = (*PurePosixPath(text).parts, *PureWindowsPath(text).parts)
    return bool(
        PurePosixPath(text).is_absolute()
        or PureWindowsPath(text).anchor
        or "://" in text
        or {"..", ".git"} & set(parts)
    )


def _review(construct: str, message: str, context: Context) -> None:
    context.log.add(Verdict.REVIEW, "mlflow-loader", construct, message, _ADVICE)


def _versions(known: dict[str, Any], flavors: dict[str, Any]) -> dict[str, str]:
    found = {"mlflow": known.get("mlflow_version")}
    for flavor, distribution, key in (("sklearn", "scikit-learn", "sklearn_version"), ("xgboost", "xgboost", "xgb_version"),
                                      ("lightgbm", "lightgbm", "lgb_version"), ("onnx", "onnx", "onnx_version"),
                                      ("pytorch", "torch", "pytorch_version")):  # fmt: skip
        inner = flavors.get(flavor)
        found[distribution] = inner.get(key) if isinstance(inner, dict) else None
    return {name: value for name, value in found.items() if isinstance(value, str)}
