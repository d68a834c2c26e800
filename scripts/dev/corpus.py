"""Makes models with the real libraries, and counts which of them lint-model stops.

usage: python -m venv /tmp/corpus && /tmp/corpus/bin/pip install torch scikit-learn xgboost-cpu lightgbm pandas statsmodels \\
           imbalanced-learn cloudpickle dill lz4 h5py onnx skops keras safetensors        (tensorflow, tf_keras in an environment of their own)
       /tmp/corpus/bin/python scripts/dev/corpus.py make FOLDER [--fixtures]  what is installed saves its models there
       ENVIRONMENT/bin/python scripts/dev/corpus.py judge FOLDER              in lint-model's environment

`--fixtures` keeps the few that are committed in tests/integration/models/real, so that tests have real bytes of libraries
that their environment does not have.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import warnings
from pathlib import Path

FIXTURES = (
    "torch-checkpoint.pt", "torch-checkpoint.pth", "torch-dtypes.pt", "torch-module.pt", "torch-layers-0.pt", "torch-layers-1.pt",
    "torch-optimizers.pth", "torch-tensors.pt", "torch-tensors.pth", "torch-plain.pkl", "torch-scripted.review.pt", "torch-traced.review.pt",
    "tensorflow-saved-model.tar.gz", "tensorflow-table.tar.gz", "keras_2-dense.tar.gz", "keras_2-lookup.tar.gz", "keras_2-lambda.deny.tar.gz",
    "keras-table.keras", "keras-image.h5", "keras-text.weights.h5", "keras-lambda.deny.keras",
    "statsmodels-ols.pkl", "statsmodels-formula.pkl", "statsmodels-logit.pkl", "statsmodels-holt.pkl", "imblearn-smote.pkl",
    "other_picklers-dill.pkl", "other_picklers-dill-function.deny.pkl",
)  # fmt: skip


def make(folder: Path, fixtures: bool) -> None:
    """Save everything that the installed libraries can."""
    from real_models import LIBRARIES, there

    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    for library, models in LIBRARIES.items():
        if not there(library):
            print(f"not installed: {library}")
            continue
        for name, save in models():
            path = folder / f"{models.__name__}-{name}"
            if fixtures and path.name not in FIXTURES:
                continue
            try:
                save(path)
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                print(f"cannot be saved: {path.name}: {error}")
                path.unlink(missing_ok=True)
                continue
    print(f"{len(list(folder.iterdir()))} files in {folder}")


def judge(folder: Path) -> int:
    """Print what is stopped and should not be, or passes and should not; 1 when it is 1 % or more."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from ml_deploy.models import sandbox

    files = sorted(path for path in folder.iterdir() if path.is_file())
    wrong = 0
    for path, one in zip(files, sandbox.inspect(files), strict=True):
        expected = next((word for word in ("review", "deny") if f".{word}." in path.name), "allow")
        if one.verdict.value != expected:
            wrong += 1
            print(
                f"{path.name}: {one.verdict.value} ({one.anatomy.format})",
                *{f.message for f in one.findings},
                sep="\n    ",
            )
    print(f"{wrong} of {len(files)} files judged otherwise than expected")
    return int(not files or wrong / len(files) >= 0.01)


def main() -> int:
    """As the first lines say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "judge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fixtures", action="store_true")
    given = parser.parse_args()
    if given.what == "judge":
        return judge(given.folder)
    make(given.folder, given.fixtures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
