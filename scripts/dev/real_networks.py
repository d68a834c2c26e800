"""Neural networks as torch, Keras and TensorFlow save them, for corpus.py; and what its other makers share."""

from __future__ import annotations

import os
import pickle
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
Save = Callable[[Path], Any]
Named = Iterator[tuple[str, Save]]


def pickled(thing: Any, protocol: int = 4, module: Any = pickle) -> Save:
    return lambda path: path.write_bytes(module.dumps(thing, protocol=protocol))


def data() -> tuple[Any, Any, Any]:
    import numpy

    random = numpy.random.RandomState(0)
    rows = random.rand(60, 4)
    return rows, (rows[:, 0] > 0.5).astype(int), rows @ [1.0, 2.0, 3.0, 4.0]


def torch() -> Named:
    """State dicts, modules of layers, checkpoints with their optimizer, the legacy format, TorchScript."""
    import torch as t
    from torch import nn

    t.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
    optimizer = t.optim.AdamW(net.parameters(), lr=1e-3)
    net(t.rand(6, 4)).sum().backward()
    optimizer.step()
    schedule = t.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    checkpoint = {"epoch": 3, "model": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                  "loss": t.tensor(0.5), "rng": t.get_rng_state()}  # fmt: skip
    kinds = {str(dtype).removeprefix("torch."): t.zeros(3).to(dtype) for dtype in
             (t.float16, t.bfloat16, t.float64, t.int8, t.uint8, t.int16, t.int64, t.bool, t.complex64, t.float8_e4m3fn, t.uint16)}  # fmt: skip
    odd = {"sparse": t.eye(3).to_sparse(), "csr": t.eye(3).to_sparse_csr(), "view": t.rand(4, 4).t()[1:], "scalar": t.tensor(1), "empty": t.empty(0),
           "parameter": nn.Parameter(t.rand(2)), "buffer": nn.Buffer(t.rand(2)), "size": t.Size([1, 2]), "device": t.device("cpu"), "dtype": t.float32,
           "quantized": t.quantize_per_tensor(t.rand(3), 0.1, 0, t.quint8)}  # fmt: skip
    made = {"state-dict": net.state_dict(), "module": net, "checkpoint": checkpoint, "dtypes": kinds, "tensors": odd}
    made |= {f"layers-{number}": layers for number, layers in enumerate(_layers(nn))}
    made |= {
        "optimizers": [
            cls(net.parameters(), lr=0.1) for cls in (t.optim.SGD, t.optim.Adam, t.optim.RMSprop, t.optim.Adagrad)
        ]
    }
    for name, thing in made.items():
        yield f"{name}.pt", lambda path, thing=thing: t.save(thing, path)  # type: ignore[misc]
        yield f"{name}.pth", lambda path, thing=thing: t.save(thing, path, _use_new_zipfile_serialization=False)  # type: ignore[misc]
    yield "scripted.review.pt", lambda path: t.jit.script(nn.Sequential(nn.Linear(4, 2), nn.ReLU())).save(path)
    yield "traced.review.pt", lambda path: t.jit.trace(nn.Linear(4, 2), t.rand(1, 4)).save(path)
    yield "plain.pkl", pickled(net.state_dict(), 2)


def _layers(nn: Any) -> Iterator[Any]:
    yield nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.GroupNorm(1, 2),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
        nn.Softmax(-1),
    )
    yield nn.ModuleDict(
        {"lstm": nn.LSTM(2, 2), "gru": nn.GRU(2, 2), "embedding": nn.Embedding(4, 2), "norm": nn.LayerNorm(2)}
    )
    yield nn.ModuleList(
        [
            nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1, 4), 1),
            nn.MultiheadAttention(4, 1),
            nn.ParameterList([nn.Parameter()]),
        ]
    )
    yield nn.ModuleList(
        [
            nn.ConvTranspose1d(1, 1, 1),
            nn.PReLU(),
            nn.Upsample(scale_factor=2),
            nn.Bilinear(1, 1, 1),
            nn.SiLU(),
            nn.CrossEntropyLoss(),
            nn.MSELoss(),
        ]
    )
    yield nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)) if False else nn.Identity()


def keras() -> Named:
    """Sequential and functional models, nested ones, with their optimizer."""
    import keras as k

    inputs = k.Input((4,))
    hidden = k.layers.Dense(3, activation="relu", kernel_regularizer="l2")(inputs)
    hidden = k.layers.LayerNormalization()(k.layers.Dropout(0.1)(hidden))
    functional = k.Model(inputs, k.layers.Dense(1, activation=k.activations.sigmoid)(hidden))
    functional.compile("adam", "binary_crossentropy", metrics=[k.metrics.AUC()])
    functional.fit(*data()[:2], verbose=0)
    image = k.Sequential(
        [
            k.Input((8, 8, 1)),
            k.layers.Conv2D(2, 3),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dense(2, "softmax"),
        ]
    )
    series = k.Sequential([k.Input((5, 2)), k.layers.Bidirectional(k.layers.LSTM(2)), k.layers.Dense(1)])
    text = k.Sequential(
        [k.Input((5,)), k.layers.Embedding(10, 2), k.layers.GlobalAveragePooling1D(), k.layers.Dense(1)]
    )
    nested = k.Sequential([k.Input((4,)), functional, k.layers.Rescaling(2.0)])
    table = k.Sequential(
        [
            k.Input((4,)),
            k.layers.Normalization(mean=0.0, variance=1.0),
            k.layers.Dense(1, kernel_initializer=k.initializers.HeNormal()),
        ]
    )
    for name, model in {
        "functional": functional,
        "image": image,
        "series": series,
        "text": text,
        "nested": nested,
        "table": table,
    }.items():
        for ending in ("keras", "h5", "weights.h5"):
            save = model.save_weights if ending == "weights.h5" else model.save
            yield f"{name}.{ending}", save
    yield "lambda.deny.keras", k.Sequential([k.Input((4,)), k.layers.Lambda(lambda x: x * 2)]).save


def tensorflow() -> Named:
    """SavedModels: of a variable, and of a vocabulary that is an asset."""
    import tensorflow as tf

    class Scale(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable([[1.0], [2.0]])

        @tf.function(input_signature=[tf.TensorSpec([None, 2])])  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            return tf.nn.relu(tf.matmul(rows, self.weight))

    class Words(tf.Module):  # type: ignore[misc]
        def __init__(self, file: str) -> None:
            super().__init__()
            columns = tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            self.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(file, tf.string, *columns), -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])  # type: ignore[untyped-decorator]
        def __call__(self, words: Any) -> Any:
            return self.table.lookup(words)

    def table(folder: Path) -> None:
        words = folder.with_suffix(".txt")
        words.write_text("a\nb\n", encoding="utf-8")
        tf.saved_model.save(Words(str(words)), str(folder))
        words.unlink()

    yield "saved-model.tar.gz", packed(lambda folder: tf.saved_model.save(Scale(), str(folder)))
    yield "table.tar.gz", packed(table)


def packed(save: Save) -> Save:
    """A folder in one file, since a corpus is made of files."""

    def pack(path: Path) -> None:
        folder = path.with_suffix(".folder")
        save(folder)
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "model")
        shutil.rmtree(folder)

    return pack


def keras_2() -> Named:
    """SavedModels with Keras 2's metadata beside the graph (TensorFlow 2.15 and older, or tf_keras)."""
    import tf_keras as k

    models = {
        "dense": [k.layers.Input((4,)), k.layers.Dense(2, activation="relu")],
        "lookup": [k.layers.Input((1,), dtype="string"), k.layers.StringLookup(vocabulary=["a", "b"])],
        "lambda.deny": [k.layers.Input((4,)), k.layers.Lambda(lambda x: x * 2)],
    }
    for name, layers in models.items():
        model = k.Sequential(layers)
        yield f"{name}.tar.gz", packed(lambda folder, model=model: model.save(folder, save_format="tf"))  # type: ignore[misc]
