"""What a name promises: people take a file for it, and so do loaders that go by names, in archives too."""

from __future__ import annotations

from ml_deploy.models.context import Context
from ml_deploy.models.findings import Verdict

_ENDINGS = {
    ".pkl": {"pickle", "joblib"}, ".pickle": {"pickle", "joblib"}, ".joblib": {"pickle", "joblib"}, ".onnx": {"onnx"},
    ".safetensors": {"safetensors"}, ".npy": {"npy"}, ".npz": {"npz"}, ".pt": {"pytorch", "torchscript"},
    ".pth": {"pytorch", "torchscript"}, ".ckpt": {"pytorch", "torchscript"}, ".keras": {"keras"}, ".h5": {"keras-h5", "hdf5"},
    ".hdf5": {"keras-h5", "hdf5"}, ".skops": {"skops"}, ".pb": {"savedmodel", "frozen-graph", "keras-metadata"}, ".ubj": {"xgboost"},
    ".pt2": {"torch-export", "pytorch", "torchscript"}, ".zip": {"zip", "npz", "pytorch", "keras", "skops"}, ".tar": {"tar"},
}  # fmt: skip


def judge(name: str, found: str, context: Context) -> None:
    """Add a finding when the name promises another format than was found."""
    ending = "." + name.rpartition(".")[2].lower()
    if found not in _ENDINGS.get(ending, {found}):
        context.log.add(
            Verdict.REVIEW, "format-mismatch", found, f"The file is called {ending} but its format is {found}.",
            "Give it the ending of its format.",
        )  # fmt: skip
