"""Which library versions a serving image gets: the model's own, with companions of the same time.

A model file tells scikit-learn's version and no more. Today's numpy and scipy do not work with an
older scikit-learn, whatever its metadata allows, so each minor version has the companions that it
was tested with when it was new. All have wheels for every Python of their row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ml_deploy.errors import InputError
from ml_deploy.models.anatomy import Anatomy

PREFERRED_PYTHON = (3, 12)


@dataclass(frozen=True)
class Row:
    """Exact versions by distribution, and the first and last Python (3.x) that all of them have wheels for."""

    pins: Mapping[str, str]
    pythons: tuple[int, int]


def _row(first: int, last: int, numpy: str, scipy: str, joblib: str, threadpoolctl: str, **more: str) -> Row:
    pins = {"numpy": numpy, "scipy": scipy, "joblib": joblib, "threadpoolctl": threadpoolctl, **more}
    return Row(pins, (first, last))


#: By minor version of scikit-learn.
SCIKIT_LEARN: Mapping[tuple[int, int], Row] = {
    (1, 0): _row(8, 10, "1.22.4", "1.8.1", "1.1.1", "3.1.0"),
    (1, 1): _row(8, 11, "1.23.5", "1.9.3", "1.2.0", "3.1.0"),
    (1, 2): _row(8, 11, "1.23.5", "1.9.3", "1.2.0", "3.1.0"),
    (1, 3): _row(9, 12, "1.26.4", "1.11.4", "1.3.2", "3.2.0"),
    (1, 4): _row(9, 12, "1.26.4", "1.12.0", "1.3.2", "3.3.0"),
    (1, 5): _row(10, 12, "2.0.2", "1.14.1", "1.4.2", "3.5.0"),
    (1, 6): _row(10, 13, "2.2.6", "1.15.3", "1.4.2", "3.6.0"),
    (1, 7): _row(10, 13, "2.2.6", "1.15.3", "1.5.2", "3.6.0"),
    (1, 8): _row(11, 14, "2.3.5", "1.16.3", "1.5.3", "3.6.0"),
    (1, 9): _row(11, 14, "2.4.6", "1.17.1", "1.6.0", "3.8.0", cloudpickle="3.1.2", narwhals="2.28.0"),
}
#: pandas by the first minor version of scikit-learn that it goes with, newest first, and what all of them need.
_PANDAS = (((1, 8), "2.3.3"), ((1, 5), "2.2.3"), ((1, 3), "2.1.4"), ((1, 0), "1.5.3"))
_WITH_PANDAS = {"python-dateutil": "2.9.0.post0", "pytz": "2025.2", "six": "1.17.0", "tzdata": "2025.2"}
#: A transformer that picks columns by name gets them from a data frame only.
_BY_COLUMN = "sklearn.compose._column_transformer.ColumnTransformer"
#: Every onnxruntime reads the models of all before it.
_ONNX = Row({"onnxruntime": "1.31.1", "numpy": "2.4.6", "flatbuffers": "25.12.19", "packaging": "26.3",
             "protobuf": "7.36.2"}, (11, 14))  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """What a serving image is made of: exact pins, the Python to use, and words of doubt."""

    pins: Mapping[str, str]
    python: str
    pythons: str
    doubts: tuple[str, ...] = ()

    def requirements(self, own: Iterable[str] = ()) -> str:
        """A requirements file: our pins, but for what `own` (the user's lines) names itself, then those lines."""
        own = list(own)
        named = {name for line in own if (name := distribution(line))}
        ours = [f"{name}=={version}" for name, version in sorted(self.pins.items()) if name not in named]
        return "\n".join([*ours, *own]) + "\n"


def choose(anatomy: Anatomy, own: Iterable[str] = ()) -> Environment:
    """The environment for a model. `own` are the user's requirements. Raises InputError for what cannot be told."""
    named = {name for line in own if (name := distribution(line))}
    if anatomy.framework == "onnx":
        return _environment(_ONNX, _ONNX.pins, "")
    version = anatomy.versions.get("scikit-learn", "")
    if not version and "scikit-learn" not in named:
        raise InputError(
            "The model file does not say which version of scikit-learn made it.",
            hint="Give a `requirements` file with scikit-learn==VERSION, the version that the model was trained with.",
        )
    row, doubt = _row_for(version)
    pins = {**row.pins, **({"scikit-learn": version} if version else {}), **_pandas(anatomy, version)}
    missing = [name for name in anatomy.libraries if name not in named | set(pins) | {"scikit-learn"}]
    if missing:
        raise InputError(
            f"The model uses {', '.join(missing)}, and nothing says which version.",
            hint=f"Give a `requirements` file with {missing[0]}==VERSION, the version that the model was trained with.",
        )
    return _environment(row, pins, doubt)


def _row_for(version: str) -> tuple[Row, str]:
    minor = _minor(version)
    newest = max(SCIKIT_LEARN)
    if minor in SCIKIT_LEARN:
        return SCIKIT_LEARN[minor], ""
    if minor > newest:
        return SCIKIT_LEARN[newest], f"scikit-learn {version} is newer than the versions that this release knows"
    raise InputError(
        f"The model was made with scikit-learn {version}, for which no serving image can be generated.",
        hint="Train it again with scikit-learn 1.0 or newer, export it to ONNX, or bring a Dockerfile of your own.",
    )


def _pandas(anatomy: Anatomy, version: str) -> dict[str, str]:
    if "pandas" not in anatomy.libraries and _BY_COLUMN not in anatomy.classes:
        return {}
    minor = _minor(version)
    return {"pandas": next(pandas for first, pandas in _PANDAS if minor >= first), **_WITH_PANDAS}


def _minor(version: str) -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2])) if numbers else max(SCIKIT_LEARN)


def _environment(row: Row, pins: Mapping[str, str], doubt: str) -> Environment:
    first, last = row.pythons
    minor = min(max(PREFERRED_PYTHON[1], first), last)
    return Environment(pins, f"3.{minor}", f"3.{first} to 3.{last}", (doubt,) if doubt else ())


def distribution(line: str) -> str:
    """The normalized name that a line of a requirements file is about; empty for options, comments and addresses."""
    found = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:[=<>!~;@]|$|#|\s--hash)", line)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""
