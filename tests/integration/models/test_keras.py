"""Keras: what the configuration asks for. (Keras is not installed here: the files are written as Keras writes them.)"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy
import pytest

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy

DENSE = {"module": "keras.layers", "class_name": "Dense", "registered_name": None, "config": {
    "name": "dense", "units": 2, "activation": "relu",
    "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}, "registered_name": None},
    "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}}}  # fmt: skip


def _model(*layers: Any) -> dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [DENSE, *layers]},
        "registered_name": "Sequential",
    }


def _weights(config: str = "", change: Any = None) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_group("layers/dense/vars")["0"] = numpy.zeros((4, 2), numpy.float32)
        if config:
            file.attrs["model_config"], file.attrs["keras_version"] = config, "2.15.0"
        if change:
            change(file)
    return stream.getvalue()


def _keras(config: Any, **more: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.11.3"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", _weights())
        for name, data in more.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _inspect(folder: Path, data: bytes) -> Inspection:
    (folder / "model.bin").write_bytes(data)
    return inspect_file(str(folder / "model.bin"), Policy())


def test_a_good_model_in_both_formats(tmp_path: Path) -> None:
    found = _inspect(tmp_path, _keras(_model()))
    assert (found.verdict, found.anatomy.format, found.anatomy.versions) == (
        Verdict.ALLOW,
        "keras",
        {"keras": "3.11.3"},
    ), found.findings
    assert found.anatomy.parameters == 8
    found = _inspect(tmp_path, _weights(json.dumps(_model())))
    assert (found.verdict, found.anatomy.format) == (Verdict.ALLOW, "keras-h5"), found.findings
    assert _inspect(tmp_path, _weights()).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("layer", "verdict"),
    [
        (
            {
                "module": "keras.layers",
                "class_name": "Lambda",
                "config": {"function": {"class_name": "__lambda__", "config": {}}},
            },
            "deny",
        ),
        ({"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}, "deny"),
        ({"module": "os", "class_name": "system", "config": "true"}, "deny"),  # CVE-2025-1550
        ({"module": "builtins", "class_name": "eval", "config": {}}, "deny"),
        (
            {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "https://example.com"}},
            "deny",
        ),  # CVE-2025-8747
        ({"module": "keras.src.saving.saving_lib", "class_name": "load_model", "config": {}}, "deny"),
        (
            {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gAR="}},
            "deny",
        ),  # CVE-2025-9906
        ({"module": "keras.models", "class_name": "load_model", "config": "/tmp/x"}, "deny"),
        ({"module": "keras.src.layers", "class_name": "deserialize", "config": {}}, "deny"),
        ({"module": "keras.losses", "class_name": "mean_squared_error", "config": {}}, "allow"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}}, "deny"),
        (
            {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
            "deny",
        ),  # CVE-2025-12058
        (
            {"module": "mine.layers", "class_name": "Attention", "config": {}, "registered_name": "mine>Attention"},
            "review",
        ),
        ({"module": "keras.layers", "class_name": "JaxLayer", "config": {}}, "review"),
        ({"class_name": "mine>Attention", "config": {}}, "review"),
        ({"class_name": "Custom>Attention", "config": {}}, "review"),
        ({"class_name": "Custom>Adam", "config": {"learning_rate": 0.001}}, "allow"),
        ({"module": "keras.layers", "class_name": "Dropout", "config": {"rate": 0.5}}, "allow"),
        ({"class_name": "__tuple__", "items": [1, 2]}, "allow"),
    ],
)
def test_what_a_configuration_asks_for(tmp_path: Path, layer: Any, verdict: str) -> None:
    nested = {"module": "keras.layers", "class_name": "TimeDistributed", "config": {"layer": layer}}
    for data in (_keras(_model(layer)), _weights(json.dumps(_model(layer))), _keras(_model(nested))):
        found = _inspect(tmp_path, data)
        assert found.verdict.value == verdict, found.findings
    for folder in (_keras_2(_model(layer)), _keras_2_in_the_graph(_model(layer))):
        found = _inspect(tmp_path, _packed(folder))
        assert found.verdict.value == verdict, found.findings


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7]) + data


_GRAPH = _field(1, _field(4, b"serve")) + _field(2, _field(1, _field(1, b"n") + _field(2, b"NoOp")))


def _keras_2(config: Any) -> dict[str, bytes]:
    """A SavedModel's folder with the metadata beside the graph."""
    node = _field(3, b"root") + _field(4, b"_tf_keras_sequential") + _field(5, json.dumps(config).encode())
    return {"saved_model.pb": b"\x08\x01" + _field(2, _GRAPH), "keras_metadata.pb": _field(1, node)}


def _keras_2_in_the_graph(config: Any) -> dict[str, bytes]:
    """As before TensorFlow 2.5; every later Keras 2 reads it where there is no file of metadata."""
    node = _field(4, _field(1, b"_tf_keras_sequential") + _field(3, json.dumps(config).encode()))
    return {"saved_model.pb": b"\x08\x01" + _field(2, _GRAPH + _field(7, _field(1, node)))}


def _packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"model/{name}", data)
    return stream.getvalue()


def test_keras_metadata_is_read_as_such_whatever_it_looks_like(tmp_path: Path) -> None:
    """Keras goes by the name alone: a text, a pickle and damage are no way around."""
    good = _keras_2(_model())
    for bad in (b"{}", b'\n"*{"class_name": "Dense"}', b"\x80\x04N.", good["keras_metadata.pb"][:-1], b""):
        found = _inspect(tmp_path, _packed({**good, "keras_metadata.pb": bad}))
        assert found.verdict is Verdict.DENY, (bad, found.findings)
    evil = json.dumps({"class_name": "Lambda", "config": {}}).encode().ljust(0x80042)
    text = b"\n\xc6\x80 *\xc2\x80 " + evil  # lengths that are letters
    (tmp_path / "notes.txt").write_bytes(text)
    assert inspect_file(str(tmp_path / "notes.txt"), Policy(), companions=True).verdict is Verdict.ALLOW
    found = _inspect(tmp_path, _packed({**good, "keras_metadata.pb": text}))
    assert [finding.construct for finding in found.findings] == ["Lambda"]


def test_the_folders_of_a_saved_model(tmp_path: Path) -> None:
    nothing = b"\0\1\2\3" * 9
    usual = {**_keras_2(_model()), "fingerprint.pb": nothing, "variables/variables.index": nothing, "assets/words.txt": b"a\nb\n",
             "assets/pieces.model": nothing, "assets.extra/tf_serving_warmup_requests": nothing}  # fmt: skip
    assert _inspect(tmp_path, _packed(usual)).verdict is Verdict.ALLOW
    for name, data in {"assets/x": b"cos\nsystem\n(S'true'\ntR.", "assets/y": b"\x7fELF" + nothing, "assets/a/b": nothing,
                       "assets.extra/z": nothing, "keras.pb": nothing}.items():  # fmt: skip
        assert _inspect(tmp_path, _packed({**usual, name: data})).verdict is Verdict.DENY, name


def test_what_a_model_was_trained_with_is_looked_through_too(tmp_path: Path) -> None:
    def train(file: Any) -> None:
        loss = {"class_name": "Lambda", "config": {}}
        file.attrs["training_config"] = json.dumps({"loss": {"module": "os", "class_name": "system", "config": loss}})

    found = _inspect(
        tmp_path, _weights(json.dumps(_model({"module": "keras.layers", "class_name": "Dropout", "config": {}})), train)
    )
    assert {f.construct for f in found.findings} == {"os:system", "Lambda"}


def _external_link(file: Any) -> None:
    file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")


def _soft_link(file: Any) -> None:
    file["soft"] = h5py.SoftLink("/layers")


def _external_data(file: Any) -> None:
    file.create_dataset("raw", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("virtual", layout)


@pytest.mark.parametrize("change", [_external_link, _soft_link, _external_data, _virtual])
def test_hdf5_that_leads_out_of_the_file_is_denied(tmp_path: Path, change: Any) -> None:
    found = _inspect(tmp_path, _weights(change=change))
    assert [(f.verdict, f.rule) for f in found.findings] == [(Verdict.DENY, "hdf5-link")]


def test_damage_and_strange_members_are_denied(tmp_path: Path) -> None:
    data = _weights()
    for bad in (data[:200], data[:-100] if len(data) > 300 else data[:100], data.replace(b"vars", b"\xff\xff\xff\xff")):
        assert _inspect(tmp_path, bad).verdict is Verdict.DENY
    assert _inspect(tmp_path, _weights("{not json")).verdict is Verdict.DENY
    assert _inspect(tmp_path, _keras(_model(), **{"evil.pkl": b"cos\nsystem\n(S'true'\ntR."})).verdict is Verdict.DENY
