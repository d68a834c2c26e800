"""What is read of lint-model: the report and the SARIF against their schemas, many files and findings, a terminal."""

from __future__ import annotations

import json
import os
import pickle
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import joblib
import jsonschema
import numpy
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.integration.models import payloads
from tests.integration.models.test_lint import MAIN, Clip, Run, Step

REPORT = json.loads((MAIN.parents[1] / "actions" / "lint-model" / "report.schema.json").read_text())
SARIF = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text())
EVIL = payloads.file(payloads.call("posix", "system", "true"))


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path)


def _pipeline() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(numpy.eye(4), [0, 1, 0, 1])


def _onnx(file: Path, domain: str = "") -> None:
    from onnx import helper

    value = [helper.make_tensor_value_info(name, 1, [None, 4]) for name in "XY"]
    node = helper.make_node("Relu" if not domain else "Fused", ["X"], ["Y"], domain=domain)
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    file.write_bytes(helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString())


def _safetensors(file: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))


def _everything(folder: Path) -> None:
    """A file of many a kind, good and bad, names with spaces and odd characters, one behind a link."""
    (folder / "sub folder").mkdir()
    joblib.dump(_pipeline(), folder / "churn.joblib")
    (folder / "sub folder" / "evil #1.pkl").write_bytes(EVIL)
    (folder / "own.pkl").write_bytes(pickle.dumps(Clip()))
    (folder / "linked.pkl").symlink_to(folder / "own.pkl")
    numpy.savez(folder / "arrays.npz", a=numpy.zeros((3, 4)), b=numpy.array([Clip()], dtype=object))
    _onnx(folder / "graph.onnx")
    _onnx(folder / "custom.onnx", "mine")
    _safetensors(folder / "weights.safetensors")
    (folder / "cut.pkl").write_bytes(pickle.dumps(list(range(99)))[:-9])
    (folder / "empty.pkl").write_bytes(b"")
    (folder / "train.py").write_text("import os\n")


def test_the_report_is_what_its_schema_says(step: Step) -> None:
    jsonschema.Draft202012Validator.check_schema(REPORT)
    _everything(step.workspace)
    (step.workspace / "metrics.json").write_text('{"accuracy": 0.8}')
    (step.workspace / "thresholds.yml").write_text("accuracy:\n  greater-is-better: true\n  threshold: 0.9\n")
    done = step.run(model=".", metrics="metrics.json", thresholds="thresholds.yml")
    jsonschema.Draft202012Validator(REPORT).validate(done.report)
    assert {one["verdict"] for one in done.report["files"]} == {"allow", "review", "deny"}
    assert {"joblib", "pickle", "npz", "onnx", "safetensors", "text", "metrics"} <= {
        one["format"] for one in done.report["files"]
    }


def _results(step: Step) -> dict[str, Any]:
    log = json.loads((step.workspace / "findings.sarif").read_text())
    jsonschema.Draft4Validator(SARIF).validate(log)
    run: dict[str, Any] = log["runs"][0]
    return run


def test_sarif_is_valid_and_what_code_scanning_needs(step: Step) -> None:
    _everything(step.workspace)
    outside = step.folder / "outside.pkl"
    outside.write_bytes(EVIL)
    step.run(model=f".\n{outside}", sarif="findings.sarif")
    run = _results(step)
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"] and rule["help"]["text"]
        assert 0 < float(rule["properties"].get("security-severity", 1)) <= 10
    assert run["results"] and run["results"][0]["level"] == "error" and run["results"][-1]["level"] != "error"
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert len(result["locations"]) == 1
        assert {"startLine", "startColumn", "endLine", "endColumn"} <= _region(result).keys()
        assert re.fullmatch(r"[0-9a-f]{16}:\d+", result["partialFingerprints"]["primaryLocationLineHash"])
    assert {urlsplit(uri).path if "://" in uri else (step.workspace / unquote(uri)).is_file() for uri in map(_uri, run["results"])} == {
        True, str(outside)}  # fmt: skip


def _region(result: dict[str, Any]) -> dict[str, Any]:
    region: dict[str, Any] = result["locations"][0]["physicalLocation"]["region"]
    return region


def _uri(result: dict[str, Any]) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def test_sarif_points_at_the_byte_and_knows_a_finding_again(step: Step) -> None:
    file = step.workspace / "model.pkl"
    file.write_bytes(EVIL)
    step.run(model="model.pkl", sarif="findings.sarif")
    first = _results(step)["results"][0]
    assert file.read_bytes()[_region(first)["byteOffset"]] == 0x93
    before = payloads.named("collections", "OrderedDict").data + b"0"
    file.write_bytes(b"\x80\x04" + before + payloads.call("posix", "system", "true").data + b".")
    step.run(model="model.pkl", sarif="findings.sarif")
    second = _results(step)["results"][0]
    assert _region(first) != _region(second)
    assert first["partialFingerprints"] == second["partialFingerprints"]


def test_sarif_of_a_good_model_has_no_results(step: Step) -> None:
    joblib.dump(_pipeline(), step.workspace / "churn.joblib")
    assert step.run(model="churn.joblib", sarif="findings.sarif").code == 0
    assert _results(step)["results"] == []


def test_sarif_that_cannot_be_written_is_an_input_that_is_not_right(step: Step) -> None:
    joblib.dump(_pipeline(), step.workspace / "churn.joblib")
    ran = step.run(model="churn.joblib", sarif="no-such-folder/findings.sarif")
    assert ran.code == 2 and "no-such-folder/findings.sarif: No such file or directory" in ran.log


def _many(folder: Path) -> None:
    """A thousand files; fifty findings, the worst of them not first."""
    good = pickle.dumps({"a": [1.5] * 10})
    for number in range(1000):
        (folder / f"m{number:04}.pkl").write_bytes(good)
    for number in range(50):
        data = payloads.file(payloads.named("mine.code", f"Class{number}")) if number % 5 else EVIL
        (folder / f"m{number * 20 + 7:04}.pkl").write_bytes(data)


def test_a_thousand_files_and_fifty_findings(step: Step) -> None:
    _many(step.workspace)
    done = step.run(model="*.pkl", sarif="findings.sarif")
    assert (done.code, done.outputs["findings"], len(done.report["files"])) == (3, "50", 1000)
    kinds = {kind: re.findall(f"^::{kind} .*", done.log, re.M) for kind in ("error", "warning")}
    assert {kind: len(lines) for kind, lines in kinds.items()} == {"error": 10, "warning": 10}
    assert all("posix:system" in line for line in kinds["error"])
    assert len(set(kinds["error"])) == 10 and len({re.findall(r"Class\d+", line)[0] for line in kinds["warning"]}) == 10
    assert len(done.summary.encode()) < 100_000
    assert done.summary.index("posix:system") < done.summary.index("mine.code:Class")
    assert len(done.log) < 60_000
    assert len(_results(step)["results"]) == 50


def test_thousands_of_findings_still_fit_into_a_summary(step: Step) -> None:
    for file in range(12):
        names = b"".join(payloads.named(f"m{file}", f"C{'x' * 300}{n}").data + b"0" for n in range(600))
        (step.workspace / f"{file}.pkl").write_bytes(b"\x80\x04" + names + b"N.")
    done = step.run(model="*.pkl", sarif="findings.sarif")
    assert (done.code, done.outputs["findings"]) == (3, "7200")
    assert len(done.summary.encode()) < 1 << 20
    assert "cut here" not in done.summary and "more: see `allow` in the JSON report" in done.summary
    assert max(len(line) for line in done.log.splitlines()) < 60_000
    assert len(_results(step)["results"]) == 5000


def test_the_lines_that_are_printed_allow_all_that_can_be_allowed(step: Step) -> None:
    (step.workspace / "own.pkl").write_bytes(pickle.dumps(Clip()))
    (step.workspace / "more.pkl").write_bytes(payloads.file(payloads.named("mine.code", "Clip")))
    _onnx(step.workspace / "custom.onnx", "com.mine")
    done = step.run(model=".")
    assert (done.code, done.outputs["verdict"]) == (3, "review")
    assert _allowed(step, _pasted_from_the_summary(done)) == "allow"
    assert _allowed(step, _pasted_from_the_log(done)) == "allow"


def _pasted_from_the_summary(done: Run) -> str:
    lines = re.search(r"```yaml\n(.*?)```", done.summary, re.S)
    assert lines
    return lines[1]


def _pasted_from_the_log(done: Run) -> str:
    (last,) = re.findall(r"^::error .*", done.log, re.M)
    return str(last).replace("%0A", "\n").partition("put this into the policy:\n")[2]


def _allowed(step: Step, policy: str) -> str:
    (step.folder / "policy.yml").write_text(policy)
    return step.run(model=".", policy=str(step.folder / "policy.yml")).outputs["verdict"]


def _terminal(folder: Path, *words: str, **environment: str) -> str:
    """What a person at a terminal sees."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-E", "-s", "-X", "utf8", str(MAIN), "lint-model", *words]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, cwd=folder,
                          env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "TERM": "xterm", **environment}):  # fmt: skip
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:  # Linux says so when the other end is closed
            pass
    os.close(ours)
    return seen.decode()


def test_a_terminal_has_colours_unless_told_not_to(tmp_path: Path) -> None:
    joblib.dump(_pipeline(), tmp_path / "churn.joblib")
    seen = _terminal(tmp_path, "--model", "churn.joblib")
    assert "\033[32m✅ allow \033[0m" in seen and "sklearn.pipeline.Pipeline" in seen
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in _terminal(tmp_path, "--model", "churn.joblib", **off)


def test_names_of_files_and_constructs_bring_no_colours_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a\033[2J\nb.pkl").write_bytes(EVIL)
    assert "\033" not in _terminal(tmp_path, "--model", "*.pkl", NO_COLOR="1")


def test_a_large_file_has_a_bar_on_a_terminal_only(tmp_path: Path) -> None:
    items = pickle.dumps([str(number) for number in range(1_500_000)])
    (tmp_path / "large.pkl").write_bytes(items)
    seen = _terminal(tmp_path, "--model", "large.pkl")
    shares = [int(share) for share in re.findall(r"\rReading [█░]{30} +(\d+)%", seen)]
    assert len(shares) > 2 and shares == sorted(shares) and shares[-1] > shares[0]
    assert re.search(r"\r +\r", seen)
    assert "█" not in subprocess.run([sys.executable, "-E", "-s", str(MAIN), "lint-model", "--model", "large.pkl"], cwd=tmp_path,
                                     capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}).stdout  # fmt: skip
