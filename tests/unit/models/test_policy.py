"""The policy file: exact names, errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_deploy.errors import InputError
from ml_deploy.models import policy, rules
from ml_deploy.models.findings import Finding, Verdict
from ml_deploy.models.inspection import Inspection
from ml_deploy.runtime.fields import parse_duration, parse_size


def _load(folder: Path, text: str) -> policy.Policy:
    (folder / "policy.yml").write_text(text)
    return policy.load(folder / "policy.yml", parse_size, parse_duration)


def test_names_are_read(tmp_path: Path) -> None:
    text = "# ours\nallow-globals:\n  - mine.code:Clip\n  - mine:f\nallow-operators: [com.microsoft:FusedGelu]\n"
    known = _load(tmp_path, text)
    assert known.allow_globals == {"mine.code:Clip", "mine:f"}
    assert known.allow_operators == {"com.microsoft:FusedGelu"}
    assert policy.from_dict(known.as_dict()) == known


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "allow-globals: []\n"])
def test_an_empty_policy_allows_nothing_more(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, text) == policy.Policy()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("allow-globals:\n  - mine.code.Clip\n", 2, "an exact name"),
        ("allow-globals:\n  - mine.*:Clip\n", 2, "an exact name"),
        ("allow-globals:\n  - a:b\n  - {c: d}\n", 3, "an exact name"),
        ("allow-globals: mine:Clip\n", 1, "must be a list"),
        ("\nallow-global:\n  - a:b\n", 2, "no key `allow-global`"),
        ("allow-globals: [a:b]\nallow-globals: [c:d]\n", 2, "twice"),
        ("- a:b\n", 1, "must be a mapping"),
        ("allow-globals:\n  - a:b\n oops: [\n", 3, "no valid YAML"),
        ("allow-globals:\n  - builtins:eval\n", 2, "can never be allowed"),
        ("allow-globals:\n  - a:b\n  - pip._internal:main\n", 3, "can never be allowed"),
        ("allow-globals:\n  - torch.hub:load\n", 2, "can never be allowed"),
        ("allow-globals:\n  - mine:__reduce__\n", 2, "can never be allowed"),
        ("formats:\n  - onnx\n  - onx\n", 3, "no format `onx`"),
        ("formats: onnx\n", 1, "must be a list"),
        ("limits: 5MB\n", 1, "must be a mapping"),
        ("limits:\n  size: big\n", 2, "must be a size such as 500MB"),
        ("limits:\n  time: 5\n", 2, "must be a duration"),
        ("limits:\n  memory: 1MB\n", 2, "bytes or more"),
        ("limits:\n  size: 5MB\n  disk: 5MB\n", 3, "no limit `disk`"),
        ("limits:\n  size: 5MB\n  size: 6MB\n", 3, "twice"),
        ("severities:\n  format-mismatch: note\n  no-such-rule: note\n", 3, "no rule `no-such-rule`"),
        ("severities:\n  metric: warning\n", 2, "deny, review or note"),
        ("severities:\n  pickle-global: note\n", 2, "the exact names under `allow-globals`"),
        ("severities:\n  pickle-global: review\n", 2, "the exact names"),
        ("severities:\n  onnx-operator: note\n", 2, "the exact names under `allow-operators`"),
        ("severities:\n  pickle-state-code: review\n", 2, "cannot be made milder"),
        ("severities:\n  keras-module: review\n", 2, "cannot be made milder"),
        ("severities:\n  truncated: note\n", 2, "cannot be made milder"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        _load(tmp_path, text)
    assert (caught.value.line, Path(caught.value.file).name) == (line, "policy.yml")


def test_a_missing_policy_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        policy.load(tmp_path / "none.yml", parse_size, parse_duration)


def test_limits_and_severities_are_read(tmp_path: Path) -> None:
    text = "formats: [onnx, joblib]\nlimits:\n  size: 5MB\n  memory: 1GiB\n  time: 2m\nseverities:\n  format-mismatch: note\n  code-file: deny\n"
    known = _load(tmp_path, text)
    assert known.formats == ("onnx", "joblib")
    assert (known.size, known.memory, known.seconds) == (5_000_000, 1 << 30, 120.0)
    assert known.severities == {"format-mismatch": "note", "code-file": "deny"}


@pytest.mark.parametrize(
    ("rule", "before", "severity", "after"),
    [
        ("format-mismatch", "review", "note", "allow"), ("format-mismatch", "review", "deny", "deny"), ("metric", "deny", "review", "review"),
        ("too-large", "deny", "note", "allow"), ("code-file", "review", "note", "allow"), ("pickle-global", "review", "deny", "deny"),
        ("keras-module", "review", "note", "allow"), ("keras-module", "deny", "note", "deny"), ("pickle-global", "deny", "deny", "deny"),
    ],
)  # fmt: skip
def test_a_severity_never_silences_what_is_denied(rule: str, before: str, severity: str, after: str) -> None:
    from ml_deploy.models.anatomy import Anatomy

    finding = Finding(verdict=Verdict(before), rule=rule, construct="x", message="x", advice="x")
    one = Inspection(file="model", size=1, anatomy=Anatomy(format="pickle"), findings=(finding,))
    assert rules.refusal(rule, severity) == ""
    assert [one.verdict.value for one in rules.apply([one], {rule: severity})] == [after]


def test_every_rule_of_the_code_is_known() -> None:
    import re

    sources = "".join(path.read_text() for path in Path(rules.__file__).parent.rglob("*.py") if path.name != "rules.py")
    used = set(
        re.findall(
            r'rule(?:: str)?="([a-z0-9-]+)"|yield "([a-z-]+)", |\.(?:deny|add|odd)\(\s*(?:Verdict\.\w+,\s*)?"([a-z0-9-]+)"',
            sources,
        )
    )
    names = {name for found in used for name in found if name}
    assert len(names) > 35
    assert names <= rules.RULES, names - rules.RULES
