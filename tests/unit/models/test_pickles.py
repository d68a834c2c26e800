"""The inert unpickler on hand-written opcodes: what is found, where, and what is refused."""

from __future__ import annotations

import importlib
import json
import pickle
import struct
from pathlib import Path

import pytest

from ml_deploy.models import globals_
from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import inspect_file
from ml_deploy.models.policy import Policy


def _find(folder: Path, data: bytes, *allowed: str) -> list[Finding]:
    file = folder / "model.bin"
    file.write_bytes(data)
    return list(inspect_file(str(file), Policy(allow_globals=frozenset(allowed))).findings)


def _rules(findings: list[Finding]) -> set[tuple[Verdict, str]]:
    return {(finding.verdict, finding.rule) for finding in findings}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_allowed(tmp_path: Path, protocol: int) -> None:
    values = {
        "a": [1, -1, 2**70, 1.5, None, True, "ä", b"x" * 300, (1, 2, 3, 4)],
        "b": {1},
        "c": frozenset([2]),
        "d": bytearray(9),
    }
    assert _find(tmp_path, pickle.dumps(values, protocol)) == []


def test_the_offset_is_that_of_the_opcode(tmp_path: Path) -> None:
    for data, offset in ((b"\x80\x02Ncmine\nThing\n.", 3), (b"\x80\x04N\x8c\x04mine\x8c\x05Thing\x93.", 16)):
        [finding] = _find(tmp_path, data)
        assert (finding.construct, finding.offset, finding.allow) == ("mine:Thing", offset, "mine:Thing")


def test_an_allowed_name_may_be_called(tmp_path: Path) -> None:
    data = b"\x80\x02cmine\nThing\n)R."
    assert _rules(_find(tmp_path, data)) == {(Verdict.REVIEW, "pickle-global")}
    assert _find(tmp_path, data, "mine:Thing") == []
    assert _find(tmp_path, data, "mine:Thin", "min:Thing") != []


@pytest.mark.parametrize(
    ("opcodes", "expected"),
    [
        (b"\x82\x01.", (Verdict.DENY, "pickle-extension")),
        (b"csklearn.base\nBaseEstimator\n(N}\x8c\x01aNstb.", (Verdict.DENY, "pickle-changes-global")),
        (b"csklearn.base\nBaseEstimator\n)\x81)R.", (Verdict.REVIEW, "pickle-call-of-object")),
        (b"csklearn.base\nBaseEstimator\n)\x81}\x8c\x09__class__Nsb.", (Verdict.REVIEW, "pickle-special-attribute")),
        (
            b"csklearn.base\nBaseEstimator\n)\x81}\x8c\x06appendcbuiltins\nlen\nsb.",
            (Verdict.REVIEW, "pickle-special-attribute"),
        ),
        (b"csklearn.base\nBaseEstimator\n)R.", (Verdict.REVIEW, "pickle-global")),
        (
            b"ccopyreg\n_reconstructor\ncxgboost.core\nBooster\ncxgboost.core\nBooster\n\x8c\x01a\x87R.",
            (Verdict.REVIEW, "pickle-global"),
        ),
        (b"c_codecs\nencode\n\x8c\x01a\x8c\x04zlib\x86R.", (Verdict.DENY, "pickle-arguments")),
        (b"\x8c\x01aQ.", (Verdict.REVIEW, "pickle-persistent")),
        (b"N.\x00", (Verdict.DENY, "trailing-data")),
        (b"N.PK\x03\x04", (Verdict.DENY, "trailing-data")),
        (b"N", (Verdict.DENY, "truncated")),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b".", (Verdict.DENY, "truncated")),
        (b"\x8b" + struct.pack("<i", 1 << 30) + b".", (Verdict.DENY, "budget")),
        (b"\xff.", (Verdict.DENY, "unreadable")),
        (b"h\x09.N", (Verdict.DENY, "unreadable")),
        (b"NN\x93.N", (Verdict.DENY, "unreadable")),
        (b"\x8c\x01a\x8c\x01b)R.N", (Verdict.DENY, "unreadable")),
        (b"\x97.N", (Verdict.DENY, "unreadable")),
    ],
)
def test_what_no_ordinary_pickle_has(tmp_path: Path, opcodes: bytes, expected: tuple[Verdict, str]) -> None:
    assert expected in _rules(_find(tmp_path, b"\x80\x04" + opcodes))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("os.path", "join"), ("nt", "system"), ("builtins", "getattr"), ("__builtin__", "apply"), ("pip", "main"),
        ("numpy", "load"), ("numpy.f2py.diagnose", "run"), ("joblib", "load"), ("torch.serialization", "load"), ("torch.hub", "load"),
        ("pandas.io.pickle", "read_pickle"), ("cloudpickle.cloudpickle", "_make_function"), ("dill._dill", "_create_function"),
        ("sklearn.base", "BaseEstimator.__init__"), ("numpy", "f2py.os.system"), ("mine", "__class__"), ("a.__b__", "c"),
        ("aiohttp.client", "ClientSession"), ("requests", "get"), ("torch._inductor.codecache", "compile_file"), ("mine", "a b"), ("__main__", "__builtins__"),
    ],
)  # fmt: skip
def test_names_that_are_never_allowed(tmp_path: Path, module: str, name: str) -> None:
    data = b"\x80\x04" + pickle.dumps(module, 4)[2:-1] + pickle.dumps(name, 4)[2:-1] + b"\x93."
    [finding] = _find(tmp_path, data, f"{module}:{name}")
    assert (finding.verdict, finding.rule, finding.allow) == (Verdict.DENY, "pickle-global", "")


def test_a_frame_needs_no_memory(tmp_path: Path) -> None:
    assert _find(tmp_path, b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.") == []


def test_findings_are_few_and_counted(tmp_path: Path) -> None:
    names = b"".join(b"cmine\nf%d\n0" % number for number in range(2000))
    file = tmp_path / "model.bin"
    file.write_bytes(b"\x80\x02" + names + b"cos\nsystem\n.")
    found = inspect_file(str(file), Policy())
    assert len(found.findings) == 501
    assert found.left_out == 1501
    assert found.verdict is Verdict.DENY


def test_the_known_names_are_not_on_the_list_of_dangerous_ones() -> None:
    from picklescan.scanner import _unsafe_globals

    table = json.loads(Path(globals_.__file__).with_name("known_names.json").read_text())
    names = [
        (module, name) for level in ("value", "new", "call") for module, found in table[level].items() for name in found
    ]
    assert len(names) == len(set(names)) > 2500
    listed = {
        name for name in names if globals_._listed(_unsafe_globals, *name) or globals_._listed(globals_._DOORS, *name)
    }
    assert listed == {("functools", "partial")}  # what it holds is judged by its own name, and it is not called
    files = {
        "load",
        "save",
        "open",
        "read_pickle",
        "memmap",
        "fromfile",
        "tofile",
        "loadtxt",
        "system",
        "eval",
        "exec",
        "getattr",
    }
    assert not files & {name for _, name in names}
    assert table["versions"]["scikit-learn"][-1] >= "1.9"


def test_the_known_names_are_what_the_installed_libraries_have() -> None:
    """The list has names of several versions, so some are missing in any one; of scikit-learn's, nearly all are here."""
    table = json.loads(Path(globals_.__file__).with_name("known_names.json").read_text())
    found, missing = 0, []
    for module in (
        "sklearn.pipeline",
        "sklearn.ensemble._forest",
        "sklearn.linear_model._base",
        "sklearn.preprocessing._data",
        "numpy.ma.core",
    ):
        there = vars(importlib.import_module(module))
        for name in table["new"].get(module, []):
            found += 1
            missing += [] if name in there else [f"{module}:{name}"]
    assert found > 20
    assert len(missing) <= found // 10, missing


def test_the_known_names_cover_every_library_with_its_versions() -> None:
    """Needs none of them installed. Real models of each are in the corpus of scripts/dev/corpus.py."""
    table = json.loads(Path(globals_.__file__).with_name("known_names.json").read_text())
    least = {"scikit-learn": ("sklearn", 700), "numpy": ("numpy", 600), "scipy": ("scipy", 600), "pandas": ("pandas", 200),
             "xgboost": ("xgboost", 8), "lightgbm": ("lightgbm", 8), "statsmodels": ("statsmodels", 300), "torch": ("torch", 300),
             "imbalanced-learn": ("imblearn", 30)}  # fmt: skip
    assert set(table["versions"]) == set(least)
    for distribution, (root, number) in least.items():
        names = [name for level in ("value", "new", "call") for module, found in table[level].items() for name in found
                 if module.split(".")[0] == root]  # fmt: skip
        assert len(names) >= number, distribution
        assert all(version[0].isdigit() for version in table["versions"][distribution])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingClassifier"), ("sklearn.neighbors._ball_tree", "BallTree"),
        ("scipy.stats._continuous_distns", "uniform_gen"), ("scipy.sparse._csr", "csr_matrix"), ("pandas", "DataFrame"), ("pandas", "NA"),
        ("numpy", "log1p"), ("xgboost.core", "Booster"), ("lightgbm.sklearn", "LGBMRanker"), ("torch.nn.modules.linear", "Linear"),
        ("torch.optim.adamw", "AdamW"), ("torch._utils", "_rebuild_tensor_v2"), ("statsmodels.regression.linear_model", "OLS"),
        ("statsmodels.tsa.arima.model", "ARIMAResults"), ("statsmodels.genmod.generalized_linear_model", "GLM"),
    ],
)  # fmt: skip
def test_a_part_of_real_models_is_known(module: str, name: str) -> None:
    assert f"{module}:{name}" in globals_.known()
