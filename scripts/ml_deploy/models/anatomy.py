"""What a model file says of itself: framework, library versions, inputs and outputs.

Read without executing anything; a file may lie, so this is for choosing versions and for
people to see, not for trusting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Which distribution on PyPI a module belongs to, where the names differ or the library matters for loading.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "joblib": "joblib",
    "xgboost": "xgboost", "lightgbm": "lightgbm", "catboost": "catboost", "torch": "torch", "imblearn": "imbalanced-learn",
    "statsmodels": "statsmodels", "skops": "skops", "cloudpickle": "cloudpickle", "dill": "dill", "tensorflow": "tensorflow",
    "keras": "keras", "transformers": "transformers", "category_encoders": "category-encoders",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of an ONNX graph, or a tensor of a safetensors file. A dimension may be named or unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] = ()

    @property
    def items(self) -> int:
        """How many numbers it holds; unknown dimensions count as one."""
        return math.prod(length for length in self.shape if isinstance(length, int))


_TENSORS = ("inputs", "outputs", "tensors")


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What the file says. Empty or None is "the file does not tell".

    framework: the distribution that loads it: `scikit-learn`, `onnx`, `xgboost`, ...
    versions:  library versions that the file names exactly, by distribution.
    at_least:  lower bounds that follow from how it is written, such as numpy 2 from `numpy._core`.
    libraries: distributions whose names it uses.
    parameters: numbers in its arrays and tensors, trained or not; each storage counts once.
    tensors:   the biggest ones, at most twenty.
    trees:     of a boosted model.
    top:       class of the outermost object, such as `sklearn.pipeline.Pipeline`.
    """

    format: str
    compression: str = ""
    framework: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    at_least: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    top: str = ""
    classes: tuple[str, ...] = ()
    n_features_in: int | None = None
    feature_names: tuple[str, ...] = ()
    protocol: int | None = None
    opsets: Mapping[str, int] = field(default_factory=dict)
    ir_version: int | None = None
    producer: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    operators: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    parameters: int | None = None
    trees: int | None = None
    tensors: tuple[Tensor, ...] = ()

    def requirements(self) -> tuple[str, ...]:
        """What pip must install to load the file: exact where the file tells, a bound or a bare name where not."""
        lines = []
        for name in dict.fromkeys((*self.versions, *self.at_least, *self.libraries)):
            if name in self.versions:
                lines.append(f"{name}=={self.versions[name]}")
            else:
                lines.append(f"{name}>={self.at_least[name]}" if name in self.at_least else name)
        return tuple(sorted(lines))

    def as_dict(self) -> dict[str, Any]:
        """What is known, for JSON."""
        known = {name: value for name, value in vars(self).items() if value not in (None, "", (), {})}
        return {name: [vars(one) for one in value] if name in _TENSORS else value for name, value in known.items()}


def from_dict(known: Mapping[str, Any]) -> Anatomy:
    """The inverse of `Anatomy.as_dict`, after JSON."""
    values = dict(known)
    for name in _TENSORS:
        values[name] = tuple(Tensor(**{**t, "shape": tuple(t.get("shape", ()))}) for t in values.get(name, ()))
    for name in ("libraries", "classes", "feature_names", "operators", "external"):
        values[name] = tuple(values.get(name, ()))
    return Anatomy(**values)
