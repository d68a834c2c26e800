"""Libraries that load models and have known holes, looked up in the user's requirements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ml_deploy.errors import InputError, cause
from ml_deploy.models.findings import Finding, Verdict

#: Distribution, first version without the hole, what it is.
HOLES = (
    ("torch", "2.6.0", "CVE-2025-32434: `torch.load` runs code in spite of `weights_only=True`"),
    ("torch", "2.10.0", "CVE-2026-24747: `torch.load` with `weights_only=True` corrupts memory"),
    ("keras", "3.9.0", "CVE-2025-1550: loading a .keras file imports any module"),
    ("keras", "3.11.0", "CVE-2025-8747: loading a .keras file downloads and writes files"),
    ("keras", "3.11.3", "CVE-2025-9905 and 9906: `safe_mode` is ignored for .h5, and can be switched off by a file"),
    ("onnx", "1.21.0", "CVE-2026-27489, 34446 and 34447: external data is read through links out of the model's folder"),
    ("skops", "0.13.0", "CVE-2025-54412, 54413 and 54886: loading runs code of types that were not trusted"),
    ("picklescan", "1.0.4", "GHSA-vvpj and GHSA-7wx9: dangerous pickles pass as clean"),
    ("fickling", "0.1.12", "GHSA-cffv: the allow-list is not applied"),
)  # fmt: skip
_LINE = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;#]*)")
_BOUND = re.compile(r"(===?|<=|<|~=)\s*v?(\d+(?:\.\d+)*)")


def judge(path: str) -> tuple[Finding, ...]:
    """Findings for requirements that pin, or keep below, a version with a hole. Raises InputError when it cannot be read."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The requirements {path} cannot be read: {cause(error)}.", hint="Check the input `requirements`."
        ) from error
    return tuple(finding for number, line in enumerate(lines, 1) for finding in _line(line, number, path))


def _line(line: str, number: int, path: str) -> Iterator[Finding]:
    match = _LINE.match(line)
    if not match:
        return
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    for distribution, fixed, hole in HOLES:
        if name == distribution and _below(match[2], _version(fixed)):
            yield Finding(
                verdict=Verdict.REVIEW, rule="loader-version", construct=f"{name} {match[2].strip()}", file=path,
                message=f"Line {number} asks for {name} {match[2].strip()}, which has a known hole. {hole}.",
                advice=f"Use {distribution} {fixed} or newer.",
            )  # fmt: skip


def _below(specifiers: str, fixed: tuple[int, ...]) -> bool:
    """Whether what the specifiers allow at most is older than `fixed`."""
    for operator, text in _BOUND.findall(specifiers):
        version = _version(text)
        if operator == "~=":  # below the next version of all but the last part
            kept = [int(part) for part in text.split(".")[:-1]] or [0]
            version = (*kept[:-1], kept[-1] + 1)
        if (version <= fixed) if operator in ("<", "~=") else (version < fixed):
            return True
    return False


def _version(text: str) -> tuple[int, ...]:
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
