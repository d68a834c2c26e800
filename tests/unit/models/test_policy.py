"""The policy file: exact names, errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_deploy.errors import InputError
from ml_deploy.models import policy


def _load(folder: Path, text: str) -> policy.Policy:
    (folder / "policy.yml").write_text(text)
    return policy.load(folder / "policy.yml")


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
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        _load(tmp_path, text)
    assert (caught.value.line, Path(caught.value.file).name) == (line, "policy.yml")


def test_a_missing_policy_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        policy.load(tmp_path / "none.yml")
