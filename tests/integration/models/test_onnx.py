"""ONNX: external data that leaves the folder, operators nobody knows, damage, and large tensors left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml_deploy.models.findings import Verdict
from ml_deploy.models.inspection import Inspection, inspect_file
from ml_deploy.models.policy import Policy


def _model(*, domain: str = "", operator: str = "Add", weight: Any = None) -> Any:
    weight = numpy_helper.from_array(numpy.ones(4, numpy.float32), "W") if weight is None else weight
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "XY"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["X", "W"], ["Y"], domain=domain)], "g", value[:1], value[1:], [weight]
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _inspect(folder: Path, model: Any, policy: Policy | None = None) -> Inspection:
    folder.mkdir(exist_ok=True)
    file = folder / "model.bin"
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return inspect_file(str(file), policy or Policy())


def _external(location: str, **more: str) -> Any:
    tensor = TensorProto(name="W", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_a_good_model(tmp_path: Path) -> None:
    found = _inspect(tmp_path, _model())
    assert (found.verdict, found.findings) == (Verdict.ALLOW, ())
    assert found.anatomy.parameters == 4
    assert found.anatomy.inputs[0].shape == ("batch", 4)
    assert (found.anatomy.ir_version, found.anatomy.opsets) == (9, {"ai.onnx": 17})


def test_external_data_beside_the_model_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16)
    assert _inspect(tmp_path, _model(weight=_external("weights.bin", offset="0", length="16"))).verdict is Verdict.ALLOW


def test_external_data_of_a_functions_own_attribute(tmp_path: Path) -> None:
    function = helper.make_function(
        "own", "F", ["X"], ["Y"], [helper.make_node("Identity", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    function.attribute_proto.append(
        onnx.AttributeProto(name="W", type=onnx.AttributeProto.TENSOR, t=_external("../secret"))
    )
    model = _model(domain="own", operator="F")
    model.functions.append(function)
    assert {finding.rule for finding in _inspect(tmp_path, model).findings} == {"onnx-external-data"}


@pytest.mark.parametrize("location", ["/etc/passwd", "../weights.bin", "a/../../weights.bin", "C:\\weights.bin", "..\\weights.bin",
                                      "", "link.bin", "linked/weights.bin", "hard.bin", "missing.bin"])  # fmt: skip
def test_external_data_elsewhere_is_denied(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16)
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "linked").symlink_to(tmp_path)
    os.link(tmp_path / "weights.bin", folder / "hard.bin")
    found = _inspect(folder, _model(weight=_external(location)))
    assert (found.verdict, found.findings[0].rule) == (Verdict.DENY, "onnx-external-data")


@pytest.mark.parametrize("more", [{"offset": "8", "length": "16"}, {"offset": "-8"}, {"length": "x"}])
def test_external_data_that_is_too_short_is_denied(tmp_path: Path, more: dict[str, str]) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16)
    found = _inspect(tmp_path, _model(weight=_external("weights.bin", **more)))
    assert (found.verdict, found.findings[0].rule) == (Verdict.DENY, "onnx-external-data")


def test_external_data_with_two_places_is_denied(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16)
    weight = _external("weights.bin")
    weight.external_data.insert(0, type(weight.external_data[0])(key="location", value="../../etc/passwd"))
    found = _inspect(tmp_path, _model(weight=weight))
    assert (found.verdict, found.findings[0].rule) == (Verdict.DENY, "onnx-external-data")


def test_an_operator_of_another_domain_needs_a_review(tmp_path: Path) -> None:
    model = _model(domain="evil.ops", operator="Run")
    found = _inspect(tmp_path, model)
    assert [(f.verdict, f.construct, f.allow) for f in found.findings] == [
        (Verdict.REVIEW, "evil.ops:Run", "evil.ops:Run")
    ]
    assert _inspect(tmp_path, model, Policy(allow_operators=frozenset(["evil.ops:Run"]))).verdict is Verdict.ALLOW


def test_an_operator_in_a_subgraph_is_found(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "XY"]
    branch = helper.make_graph([helper.make_node("Run", ["X"], ["Z"], domain="evil.ops")], "b", [], [
        helper.make_tensor_value_info("Z", TensorProto.FLOAT, [1])])  # fmt: skip
    condition = numpy_helper.from_array(numpy.array(True), "C")
    node = helper.make_node("If", ["C"], ["Y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([node], "g", value[:1], value[1:], [condition])
    found = _inspect(tmp_path, helper.make_model(graph))
    assert [f.construct for f in found.findings] == ["evil.ops:Run"]


def test_an_operator_that_onnx_does_not_have_is_denied(tmp_path: Path) -> None:
    found = _inspect(tmp_path, _model(operator="Run"))
    assert found.verdict is Verdict.DENY
    assert "checker refuses it" in found.findings[0].message


def test_a_cut_model_is_denied(tmp_path: Path) -> None:
    data = _model().SerializeToString()
    for length in range(4, len(data), 7):
        assert _inspect(tmp_path, data[:length]).verdict is Verdict.DENY, length


def test_large_tensors_are_left_out_but_counted(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(numpy.zeros((1000, 1000), numpy.float32), "W")
    found = _inspect(tmp_path, _model(weight=weight))
    assert (found.verdict, found.anatomy.parameters) == (Verdict.ALLOW, 1_000_000)
    assert found.anatomy.tensors == (type(found.anatomy.tensors[0])(name="W", dtype="float32", shape=(1000, 1000)),)
    weight.dims[0] = 999
    assert "does not fit its shape" in _inspect(tmp_path, _model(weight=weight)).findings[0].message


def test_the_checker_of_onnx_agrees_with_the_good_model(tmp_path: Path) -> None:
    onnx.checker.check_model(_model())
