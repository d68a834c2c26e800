"""Generated images: pinned to what the model says, non-root, the model last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ml_deploy.errors import InputError
from ml_deploy.images import generate, versions
from ml_deploy.images.dockerfile import instructions
from ml_deploy.models.anatomy import Anatomy

SKLEARN = Anatomy(
    format="joblib", framework="scikit-learn", versions={"scikit-learn": "1.6.1"}, at_least={"numpy": "2"},
    libraries=("scikit-learn", "numpy", "joblib"), top="sklearn.pipeline.Pipeline",
    classes=("sklearn.linear_model._logistic.LogisticRegression", "sklearn.x; import os.Evil", "mine.Own"),
)  # fmt: skip
ONNX = Anatomy(format="onnx", framework="onnx", opsets={"ai.onnx": 17}, ir_version=8)
MODEL = Path("/somewhere/wine model.v2.joblib")


def lines(plan: generate.Plan) -> list[str]:
    return plan.requirements.split()


def test_the_models_own_version_and_companions_of_its_time() -> None:
    plan = generate.plan(SKLEARN, [Path("wine.joblib")])
    assert lines(plan) == [
        "joblib==1.4.2", "numpy==2.2.6", "scikit-learn==1.6.1", "scipy==1.15.3", "threadpoolctl==3.6.0",
    ]  # fmt: skip
    assert (plan.base, plan.kind, plan.name) == ("python:3.12-slim", "sklearn", "wine")


def test_every_library_is_pinned_exactly() -> None:
    for anatomy in (SKLEARN, ONNX):
        assert all(
            re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", line) for line in lines(generate.plan(anatomy, [Path("m.x")]))
        )


def test_the_servers_libraries_are_locked_by_hash() -> None:
    plan = generate.plan(SKLEARN, [Path("m.joblib")])
    lock = next(file.source for file in plan.files if file.name == "requirements-server.txt")
    assert isinstance(lock, Path)
    text = lock.read_text()
    assert "fastapi==" in text
    assert "uvicorn==" in text
    assert text.count("--hash=sha256:") > 50
    assert "--require-hashes" in plan.dockerfile


def test_the_user_has_a_number_and_the_model_is_the_last_layer() -> None:
    found = instructions(generate.plan(SKLEARN, [Path("m.joblib")]).dockerfile)
    user = next(one for one in found if one.keyword == "USER").words[0]
    assert int(user.partition(":")[0]) >= 10000
    assert found[-1].text == "COPY model/ /model/"
    assert [one.words for one in found if one.keyword == "EXPOSE"] == [["8000"]]
    assert next(one for one in found if one.keyword == "CMD").text == 'CMD ["python3", "-m", "serving"]'


def test_only_scikit_learns_own_modules_are_imported_while_building() -> None:
    text = generate.plan(SKLEARN, [Path("m.joblib")]).dockerfile
    assert '"import joblib, sklearn, sklearn.linear_model._logistic, sklearn.pipeline"' in text
    assert "Evil" not in text
    assert "mine" not in text


@pytest.mark.parametrize(
    ("version", "python"), [("1.0.2", "3.10"), ("1.2.2", "3.11"), ("1.3.0", "3.12"), ("1.9.1", "3.12")]
)
def test_the_base_has_a_python_with_wheels_for_the_model(version: str, python: str) -> None:
    anatomy = Anatomy(format="pickle", framework="scikit-learn", versions={"scikit-learn": version})
    assert generate.plan(anatomy, [Path("m.pkl")]).base == f"python:{python}-slim"
    assert generate.plan(anatomy, [Path("m.pkl")], base="mine:1").dockerfile.splitlines()[1] == "FROM mine:1"


def test_versions_of_the_user_go_before_ours() -> None:
    environment = versions.choose(SKLEARN, ["numpy==2.3.0", "pandas==2.2.3"])
    assert environment.requirements(["numpy==2.3.0", "pandas==2.2.3"]).split() == [
        "joblib==1.4.2", "scikit-learn==1.6.1", "scipy==1.15.3", "threadpoolctl==3.6.0", "numpy==2.3.0", "pandas==2.2.3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "pandas"), [("1.2.2", "1.5.3"), ("1.4.2", "2.1.4"), ("1.6.1", "2.2.3"), ("1.9.1", "2.3.3")]
)
def test_columns_by_name_bring_pandas_of_the_time(version: str, pandas: str) -> None:
    anatomy = Anatomy(format="pickle", framework="scikit-learn", versions={"scikit-learn": version},
                      classes=("sklearn.compose._column_transformer.ColumnTransformer",))  # fmt: skip
    assert versions.choose(anatomy).pins["pandas"] == pandas


def test_a_newer_scikit_learn_than_we_know_is_said() -> None:
    anatomy = Anatomy(format="pickle", framework="scikit-learn", versions={"scikit-learn": "1.42.0"})
    environment = versions.choose(anatomy)
    assert environment.pins["scikit-learn"] == "1.42.0"
    assert "newer" in environment.doubts[0]


@pytest.mark.parametrize(
    ("anatomy", "words", "hint"),
    [
        (Anatomy(format="pickle", framework="scikit-learn"), "does not say which version", "scikit-learn==VERSION"),
        (Anatomy(format="pickle", framework="scikit-learn", versions={"scikit-learn": "0.24.2"}), "0.24.2", "ONNX"),
        (Anatomy(format="pickle", framework="scikit-learn", versions={"scikit-learn": "1.6.1"}, libraries=("xgboost",)),
         "uses xgboost", "xgboost==VERSION"),
        (Anatomy(format="safetensors"), "is a safetensors model", "Dockerfile of your own"),
        (Anatomy(format="pickle", framework="torch"), "is a torch model", "ONNX"),
    ],
)  # fmt: skip
def test_what_no_image_can_be_generated_for(anatomy: Anatomy, words: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        generate.plan(anatomy, [Path("m.pkl")])
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_the_wrong_runtime_and_a_file_name_that_would_break_the_dockerfile() -> None:
    with pytest.raises(InputError, match="`runtime` is onnx"):
        generate.plan(SKLEARN, [Path("m.pkl")], runtime="onnx")
    for name in ("a b.pkl", 'a".pkl', "a$b.pkl", "a\nb.pkl"):
        with pytest.raises(InputError, match="file name"):
            generate.plan(SKLEARN, [Path(name)])


def test_files_beside_the_model_come_along_in_their_folders() -> None:
    plan = generate.plan(ONNX, [Path("m/net.onnx"), Path("m/net.onnx.data"), Path("m/more/x.bin")])
    assert [file.name for file in plan.files][-3:] == ["model/net.onnx", "model/net.onnx.data", "model/more/x.bin"]
    assert {file.name for file in plan.files} >= {"serving/__main__.py", "serving/app.py", "serving/protocol.py"}


def test_no_row_of_versions_is_half_filled() -> None:
    for minor, row in versions.SCIKIT_LEARN.items():
        assert minor[0] == 1
        assert set(row.pins) >= {"numpy", "scipy", "joblib", "threadpoolctl"}
        assert row.pythons[0] <= row.pythons[1]


@pytest.mark.parametrize(
    ("line", "name"),
    [("Scikit_Learn==1.0", "scikit-learn"), ("pandas[all]>=2", "pandas"), ("numpy", "numpy"), ("a.b @ https://x", "a-b"),
     ("--index-url https://x", ""), ("# numpy", ""), ("xgboost == 2 # why", "xgboost"), ("lightgbm; python_version>'3'", "lightgbm")],
)  # fmt: skip
def test_names_of_requirements(line: str, name: str) -> None:
    assert versions.distribution(line) == name
