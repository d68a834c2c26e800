"""lint-model as a user runs it: exit code, annotation, outputs, summary, report."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from sklearn.preprocessing import StandardScaler
from tests.integration.models import payloads

MAIN = Path(__file__).resolve().parents[3] / "scripts" / "main.py"


@dataclass
class Run:
    """What a run left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str

    @property
    def report(self) -> Any:
        return json.loads(Path(self.outputs["report"]).read_text())


class Step:
    """A step of a job in a workspace of its own."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.folder = folder

    def run(self, **inputs: str) -> Run:
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        environment = {f"ML_DEPLOY_{name.upper()}": value for name, value in inputs.items()}
        done = subprocess.run(
            [sys.executable, "-E", "-s", str(MAIN), "lint-model"], cwd=self.workspace, capture_output=True, text=True, timeout=60,
            env={"PATH": os.environ["PATH"], "GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(self.folder), **environment,
                 **{name: str(file) for name, file in files.items()}},
        )  # fmt: skip
        outputs = re.findall(r"^(\S+)<<(\S+)\n(.*?)\n\2$", files["GITHUB_OUTPUT"].read_text(), re.M | re.S)
        return Run(done.returncode, done.stdout + done.stderr, {name: value for name, _, value in outputs},
                   files["GITHUB_STEP_SUMMARY"].read_text())  # fmt: skip


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path)


class Clip:
    """A transformer of the user's own."""

    def __init__(self) -> None:
        self.lower = 0


def test_a_good_model(step: Step) -> None:
    file = step.workspace / "model.joblib"
    joblib.dump(StandardScaler().fit([[1.0], [2.0]]), file)
    done = step.run(model="*.joblib")
    digest = "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert done.code == 0, done.log
    assert done.outputs["verdict"] == "allow"
    assert done.outputs["format"] == "joblib"
    assert (done.outputs["findings"], done.outputs.get("reason")) == ("0", None)
    assert done.outputs["model-digest"] == done.report["model-digest"] == digest
    assert done.outputs["size"] == str(file.stat().st_size)
    assert "StandardScaler" in done.summary and digest in done.summary


def test_a_payload_is_denied_with_its_byte(step: Step) -> None:
    marker = step.folder / "marker"
    data = payloads.file(payloads.call("posix", "system", f"touch {marker}"))
    (step.workspace / "model.pkl").write_bytes(data)
    done = step.run(model="model.pkl")
    assert done.code == 3
    offset = data.index(b"\x93")
    assert f"model.pkl, byte {offset}: Loading this file calls posix:system" in done.log
    assert "::error title=Model denied,file=model.pkl::" in done.log
    assert (done.outputs["verdict"], done.outputs["reason"], done.outputs["findings"]) == ("deny", "model", "1")
    assert done.report["files"][0]["findings"][0]["offset"] == offset
    assert "posix:system" in done.summary
    assert not marker.exists()


def test_what_needs_review_can_be_allowed_with_the_lines_that_are_printed(step: Step) -> None:
    (step.workspace / "model.pkl").write_bytes(pickle.dumps(Clip()))
    done = step.run(model="model.pkl")
    assert (done.code, done.outputs["verdict"]) == (3, "review")
    lines = re.search(r"```yaml\n(.*?)```", done.summary, re.S)
    assert lines
    (step.workspace / "policy.yml").write_text(lines[1])
    allowed = step.run(model="model.pkl", policy="policy.yml")
    assert (allowed.code, allowed.outputs["verdict"]) == (0, "allow"), allowed.log
    assert step.run(model="model.pkl", fail_on="deny").code == 0


def test_a_policy_cannot_allow_what_is_denied(step: Step) -> None:
    (step.workspace / "model.pkl").write_bytes(pickle.dumps(1))
    (step.workspace / "policy.yml").write_text("allow-globals:\n  - mine.code:Clip\n  - posix:system\n")
    done = step.run(model="model.pkl", policy="policy.yml")
    assert done.code == 2
    assert "::error title=Invalid policy,file=policy.yml,line=3::" in done.log


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The file is empty."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "is a Git LFS pointer, not the model itself.",
        ),
        (b"hello, this is no model\n", "is of no format that is known"),
        (pickle.dumps(list(range(1000)))[:-40], "the file is truncated."),
        (pickle.dumps([1]) + b"\x00 hidden", "what follows the pickle at byte"),
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, "The file is a 7z archive"),
    ],
)
def test_what_is_no_model_is_said_in_one_sentence(step: Step, content: bytes, says: str) -> None:
    (step.workspace / "model.pkl").write_bytes(content)
    done = step.run(model="model.pkl")
    assert (done.code, done.outputs["verdict"]) == (3, "deny")
    assert says in done.log
    assert done.log.count("::error ") == 1


def test_gates(step: Step) -> None:
    (step.workspace / "model.pkl").write_bytes(pickle.dumps([1.5] * 100))
    assert "more than the 100 that `max-model-size` allows" in step.run(model="model.pkl", max_model_size="100").log
    refused = step.run(model="model.pkl", formats="onnx\nsafetensors")
    assert "The file's format is pickle; accepted are onnx, safetensors." in refused.log
    assert step.run(model="model.pkl", formats="pickle", max_model_size="1MB").code == 0


def test_a_policy_of_limits_formats_and_severities(step: Step) -> None:
    (step.workspace / "model.onnx").write_bytes(pickle.dumps([1.5] * 100))
    policy = step.workspace / "policy.yml"
    for text, says in (
        ("formats: [onnx]\n", "The file's format is pickle; accepted are onnx."), ("limits: {size: 100}\n", "more than the 100"),
        ("limits: {time: 5}\n", "::error title=Invalid policy,file=policy.yml,line=1::"),
        ("severities: {format-mismatch: deny}\n", "Model denied"), ("severities: {format-mismatch: review}\n", "Model needs review"),
    ):  # fmt: skip
        policy.write_text(text)
        assert says in step.run(model="model.onnx", policy="policy.yml").log
    policy.write_text("severities:\n  format-mismatch: note\n")
    done = step.run(model="model.onnx", policy="policy.yml")
    assert (done.code, done.outputs["verdict"], done.outputs["findings"]) == (0, "allow", "1"), done.log
    assert re.search(r"note: .*\[format-mismatch\]", done.log), done.log


def test_formats_must_be_known(step: Step) -> None:
    (step.workspace / "model.pkl").write_bytes(pickle.dumps(1))
    done = step.run(model="model.pkl", formats="onnx\npickel")
    assert (done.code, "names pickel, which is no format that is known" in done.log) == (2, True)


def test_a_name_that_promises_another_format_needs_a_review(step: Step) -> None:
    (step.workspace / "model.onnx").write_bytes(pickle.dumps([1]))
    done = step.run(model="model.onnx")
    assert (done.code, done.outputs["verdict"]) == (3, "review")
    assert "The file is called .onnx but its format is pickle." in done.log


def test_inputs_that_are_not_right(step: Step) -> None:
    done = step.run(model="nothing/*.onnx")
    assert done.code == 2
    assert "which matches no file" in done.log
    both = step.run(fail_on="maybe", max_model_size="big")
    assert both.code == 2
    assert all(f"`{name}`" in both.log for name in ("model", "fail-on", "max-model-size"))


def test_names_inside_of_the_file_issue_no_workflow_commands(step: Step) -> None:
    data = payloads.file(payloads.named("evil\n::set-output name=x::y\n", "x|<b>`y"))
    (step.workspace / "model.pkl").write_bytes(data)
    done = step.run(model="model.pkl")
    assert done.code == 3
    assert not re.search(r"^\s*::set-output", done.log, re.M)
    assert "<b>" not in done.summary


def test_a_folder_is_one_model(step: Step) -> None:
    for name in ("a.pkl", "b.pkl"):
        (step.workspace / name).write_bytes(pickle.dumps({name: 1}))
    done = step.run(model=".")
    assert done.code == 0, done.log
    assert [Path(one["file"]).name for one in done.report["files"]] == ["a.pkl", "b.pkl"]


def _mlflow(folder: Path, loader: str = "mlflow.sklearn") -> None:
    folder.mkdir()
    (folder / "MLmodel").write_text(
        f"flavors:\n  python_function:\n    loader_module: {loader}\n    model_path: model.pkl\n"
        "  sklearn:\n    sklearn_version: 1.9.1\nmlflow_version: 3.18.0\n"
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(StandardScaler().fit([[1.0], [2.0]])))
    (folder / "requirements.txt").write_text("scikit-learn==1.9.1\n")
    (folder / "conda.yaml").write_text("name: mlflow-env\n")


def test_an_mlflow_folder(step: Step) -> None:
    _mlflow(step.workspace / "model")
    done = step.run(model="model")
    assert (done.code, done.outputs["format"]) == (0, "pickle"), done.log
    (step.workspace / "model" / "code").mkdir()
    (step.workspace / "model" / "code" / "loader.py").write_text("import os\n")
    assert "[code-file]" in step.run(model="model").log
    _mlflow(step.workspace / "own", "mine.loader")
    assert "MLflow loads this model with mine.loader" in step.run(model="own").log


def test_a_folder_of_texts_is_no_model(step: Step) -> None:
    for name in ("a.json", "b.json"):
        (step.workspace / name).write_text("{}")
    assert "There is no model among the files" in step.run(model="*.json").log
    assert "of no format that is known" in step.run(model="a.json").log


def test_a_saved_model_folder(step: Step) -> None:
    graph = b"".join(
        bytes([10, len(name) + 5, 10, 1]) + b"n" + bytes([18, len(name)]) + name for name in (b"NoOp", b"MatMul")
    )
    inner = bytes([10, 2, 34, 0, 18, len(graph)]) + graph
    folder = step.workspace / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12" + bytes([len(inner)]) + inner)
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"\0\1\2\3" * 10)
    (folder / "variables" / "variables.index").write_bytes(b"\0\0\1\2" * 10)
    done = step.run(model="model")
    assert (done.code, done.outputs["format"]) == (0, "savedmodel"), done.log
    (folder / "variables" / "more.bin").write_bytes(b"\0\1\2\3" * 10)
    assert step.run(model="model").code == 3


def test_external_data_of_onnx_belongs_to_the_model(step: Step) -> None:
    import onnx
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(numpy.arange(4096, dtype="float32") - 7, "W")
    value = [helper.make_tensor_value_info(name, 1, [4096]) for name in "XY"]
    graph = helper.make_graph([helper.make_node("Add", ["X", "W"], ["Y"])], "g", value[:1], value[1:], [weight])
    folder = step.workspace / "model"
    folder.mkdir()
    onnx.save_model(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx",
                    save_as_external_data=True, location="weights.bin")  # fmt: skip
    done = step.run(model="model")
    assert (done.code, done.outputs["format"]) == (0, "onnx"), done.log
    (folder / "weights.bin").rename(folder / "other.bin")
    assert step.run(model="model").code == 3


def test_figures_requirements_and_sarif(step: Step) -> None:
    (step.workspace / "model.pkl").write_bytes(payloads.file(payloads.named("mine", "Clip")))
    (step.workspace / "metrics.json").write_text('{"accuracy": 0.8}')
    (step.workspace / "old.json").write_text('{"accuracy": 0.79}')
    (step.workspace / "thresholds.yml").write_text(
        "accuracy:\n  greater-is-better: true\n  threshold: 0.9\n  min-absolute-change: 0.05\n"
    )
    (step.workspace / "requirements.txt").write_text("torch==2.5.0\n")
    inputs = {"model": "model.pkl", "metrics": "metrics.json", "thresholds": "thresholds.yml"}
    assert "there is none" in step.run(**inputs).log
    done = step.run(**inputs, baseline_metrics="old.json", requirements="requirements.txt", sarif="findings.sarif")
    assert (done.code, done.outputs["verdict"], done.outputs["findings"], done.outputs["format"]) == (
        3,
        "deny",
        "5",
        "pickle",
    )
    assert "is 0.8, it must be at least 0.9" in done.log
    assert done.outputs["sarif"] == str(step.workspace / "findings.sarif")
    results = json.loads((step.workspace / "findings.sarif").read_text())["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == [
        "metric", "metric", "pickle-global", "loader-version", "loader-version"]  # fmt: skip


def test_thresholds_need_figures(step: Step) -> None:
    (step.workspace / "model.pkl").write_bytes(pickle.dumps(1))
    done = step.run(model="model.pkl", thresholds="thresholds.yml")
    assert (done.code, "`metrics` is missing" in done.log) == (2, True)
