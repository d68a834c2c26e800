"""Lists of checksums: what they say, what differs, and lines that are not right."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_deploy.errors import InputError
from ml_deploy.models import manifests
from ml_deploy.models.digest import file_digest


def _found(folder: Path, *names: str) -> dict[str, str]:
    for name in names:
        (folder / name).write_text(name)
    return {str(folder / name): file_digest(folder / name) for name in names}


def _list(folder: Path, text: str) -> str:
    (folder / "SHA256SUMS").write_text(text)
    return str(folder / "SHA256SUMS")


def test_names_as_sha256sum_writes_them(tmp_path: Path) -> None:
    found = _found(tmp_path, "a b", "c\\d", "e\nf")
    sums = dict(zip(("a b", "c\\d", "e\nf"), found.values(), strict=True))
    text = f"{sums['a b']}  a b\n\\{sums['c' + chr(92) + 'd'].upper()} *c\\\\d\n\\{sums['e' + chr(10) + 'f']}  e\\nf\n"
    assert manifests.against_checksums(_list(tmp_path, text), found) == ()


def test_files_of_the_list_that_are_no_part_of_the_model_are_of_no_interest(tmp_path: Path) -> None:
    found = _found(tmp_path, "a")
    (tmp_path / "readme").write_text("x")
    text = f"{next(iter(found.values()))}  a\n{'0' * 64}  readme\n"
    assert manifests.against_checksums(_list(tmp_path, text), found) == ()
    gone = manifests.against_checksums(_list(tmp_path, text + "0" * 64 + "  gone\n"), found)
    assert [finding.rule for finding in gone] == ["checksum-manifest"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "no checksums in it"),
        (f"{'0' * 64}  a\n{'0' * 63}  b\n", 2, "not as `sha256sum` writes it"),
        (f"{'0' * 64} a\n", 1, "not as `sha256sum` writes it"),
        (f"{'0' * 64}  a\n{'1' * 64}  ./a\n", 2, "another checksum"),
    ],
)
def test_lines_that_are_not_right(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        manifests.against_checksums(_list(tmp_path, text), {})
    assert caught.value.line == line
