"""A Keras model's configuration: which classes and functions it asks for, and which of them run code or read files."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

from ml_deploy.models import policy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable, Verdict
from ml_deploy.models.globals_ import never_allowed

#: Where the parts of models live; everything else in keras (`utils`, `saving`, ...) is no part of one.
_PARTS = {"layers", "models", "optimizers", "losses", "metrics", "initializers", "regularizers", "constraints", "activations",
          "dtype_policies", "engine", "backend", "ops", "mixed_precision", "quantizers", "random"}  # fmt: skip
#: Those that have functions for models to name; elsewhere functions load, save and fetch.
_FUNCTIONS = {"losses", "metrics", "initializers", "regularizers", "constraints", "activations", "ops", "random"}
_TOP = {"Sequential", "Model", "Functional", "DTypePolicy", "FloatDTypePolicy", "QuantizedDTypePolicy", "KerasTensor", "Variable",
        "Initializer", "Regularizer", "Layer", "InputSpec"}  # fmt: skip
_DENIED = {
    "Lambda": "runs Python code that comes with the file",
    "__lambda__": "is Python code that comes with the file",
    "TorchModuleWrapper": "loads a pickle of torch's",
    "TFSMLayer": "loads a SavedModel from wherever the file says",
}
_REVIEWED = {"JaxLayer": "runs a function of jax's", "FlaxLayer": "runs a function of flax's"}
#: Keras' own ways to write plain values.
_VALUES = {"__tuple__", "__numpy__", "__tensor__", "__bytes__", "__ellipsis__", "__complex__", "__typespec__", "__keras_tensor__",
           "__dict__", "slice"}  # fmt: skip
#: Keras 2.11 to 2.15 registered optimizers of its own as if they were somebody's.
_KERAS_2 = {f"Custom>{name}" for name in ("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam",
                                          "RMSprop", "SGD")}  # fmt: skip
_KERAS_2_PARTS = ("tensorflow.python.keras.layers.", "tf_keras.src.layers.")
_ADVICE = "Save the model without it, with layers of Keras only, or as ONNX."
_MOST = 1_000_000


def judge(config: Any, context: Context) -> None:
    """Add findings for what the configuration asks for."""
    seen: set[tuple[str, ...]] = set()
    for part in _parts(config):
        name, module = _asked(part)
        _files(name, part.get("config"), context)
        asked = (name, module, str(part.get("registered_name")))
        if asked in seen:
            continue
        seen.add(asked)
        _judge(name, module, part, context)


def judge_text(config: Any, context: Context) -> None:
    """As `judge`, for JSON that lies about: Keras takes a model's configuration from a text and from a folder, too."""
    if isinstance(config, dict) and "class_name" in config:
        judge(config, context)


def _asked(part: dict[str, Any]) -> tuple[str, str]:
    """Name and module. Of a function the name is in its configuration."""
    name, module, config = part.get("class_name"), part.get("module"), part.get("config")
    return str((config if name == "function" and isinstance(config, str) else name) or ""), str(module or "")


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    waiting, count = [config], 0
    while waiting:
        thing = waiting.pop()
        count += 1
        if count > _MOST:
            raise Unreadable("its configuration has more than a million parts", rule="budget")
        if isinstance(thing, dict):
            if "class_name" in thing:
                yield thing
            waiting.extend(thing.values())
        elif isinstance(thing, list):
            waiting.extend(thing)


def _judge(name: str, module: str, part: dict[str, Any], context: Context) -> None:
    shown = f"{module}:{name}" if module else name
    if name in _DENIED:
        context.log.deny("keras-layer", shown, f"The model has {shown}, which {_DENIED[name]}.", _ADVICE)
        return
    own = not module or _is_own(name, module)
    root = module.partition(".")[0]
    if not own and root == "keras":
        context.log.deny("keras-module", shown, f"The model asks for {shown}, which is no part of models.", _ADVICE)
    elif not own and (reason := never_allowed(module, name)):
        context.log.deny("keras-module", shown, f"The model asks for {shown}, which {reason}.", _ADVICE)
    elif shown not in context.policy.allow_globals and (not own or name in _REVIEWED or _registered(part)):
        what = _REVIEWED.get(name, "is code of somebody's own")
        context.log.add(Verdict.REVIEW, "keras-module", shown, f"The model asks for {shown}, which {what}.", _ADVICE,
                        allow=shown if policy.is_global(shown) else "")  # fmt: skip


def _is_own(name: str, module: str) -> bool:
    """Whether it is a part of models of Keras' own: a class, or a function where functions are such parts."""
    root, _, rest = module.partition(".")
    part = rest.removeprefix("src.").split(".")[0]
    if module == "builtins":  # where functions of Keras are said to be, which it looks for in itself first
        return name in _VALUES or not hasattr(builtins, name)
    if not name[:1].isupper() and part not in _FUNCTIONS:
        return False
    return (
        (root == "keras" and part in _PARTS)
        or (module == "keras" and name in _TOP)
        or f"{module}.".startswith(_KERAS_2_PARTS)
    )


def _registered(part: dict[str, Any]) -> bool:
    """Custom objects are registered as `package>Name`."""
    names = (str(part.get(key) or "") for key in ("registered_name", "class_name"))
    return any(">" in name and name not in _KERAS_2 for name in names)


def _files(name: str, config: Any, context: Context) -> None:
    """Lookup layers read their vocabulary from a path or an address when it is a string (CVE-2025-12058)."""
    vocabulary = config.get("vocabulary") if isinstance(config, dict) else None
    if isinstance(vocabulary, str) and vocabulary:
        context.log.deny(
            "keras-file", name, f"The layer {name} reads {vocabulary!r} when the model is loaded.",
            "Save the model with the vocabulary inside of it.",
        )  # fmt: skip
