"""What a signature or a list of checksums says of a model's files, and what differs from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ml_deploy.errors import InputError, cause
from ml_deploy.models.findings import Finding, Verdict

_SUM = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_ADVICE = "Do not deploy it. Find out who changed the model after it was signed, or sign it again."


@dataclass(frozen=True, kw_only=True)
class SignatureAccess:
    """Where a signature is, and whose it must be: a public key, a chain of certificates, or an identity. Paths, or empty."""

    signature: str
    public_key: str = ""
    certificates: str = ""
    identity: str = ""
    identity_provider: str = ""


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A verified statement: SHA-256 digests by name below the model's folder; names that signing left out."""

    files: Mapping[str, str]
    ignored: tuple[str, ...] = ()


class NotSigned(Exception):
    """The signature is not that of the key, the certificate or the identity, or it is no signature at all."""


class Signatures(Protocol):
    """Verifies signatures."""

    def signed(self, access: SignatureAccess) -> Signed:
        """What was signed. Raises NotSigned, or InputError where keys or libraries are missing."""


def against_signature(
    signatures: Signatures, access: SignatureAccess, found: Mapping[str, str], base: Path
) -> tuple[Finding, ...]:
    """Findings for a model whose files have the digests `found`, by path. Raises InputError when there is no signature."""
    if not Path(access.signature).is_file():
        raise InputError(
            f"The input `signature` names {access.signature}, and there is no such file: the model is not signed.",
            hint="Sign it (`model_signing sign key ...`), check the path, or leave `signature` out.",
        )
    try:
        signed = signatures.signed(access)
    except NotSigned as error:
        return (_finding(access.signature, access.signature, f"The signature is not valid: {error}"),)
    left_out = {os.path.normpath(base / name) for name in signed.ignored} | {str(Path(access.signature).absolute())}
    expected = {os.path.normpath(base / name): digest for name, digest in signed.files.items()}
    considered = {file: digest for file, digest in found.items() if not _below(file, left_out)}
    return tuple(_differences(expected, considered, access.signature, "signature", "signed"))


def against_checksums(path: str, found: Mapping[str, str]) -> tuple[Finding, ...]:
    """Findings against a list as `sha256sum` writes it, with names from the list's own folder. Raises InputError."""
    expected = _read_sums(path)
    considered = {file: digest for file, digest in found.items() if file != str(Path(path).absolute())}
    expected = {file: digest for file, digest in expected.items() if file in considered or not Path(file).exists()}
    return tuple(_differences(expected, considered, path, "checksum-manifest", "listed"))


def _read_sums(path: str) -> dict[str, str]:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputError(
            f"The checksums {path} cannot be read: {cause(error)}.", hint="Check the input `checksums`."
        ) from error
    folder, expected = Path(path).absolute().parent, dict[str, str]()
    for number, line in enumerate(lines, 1):
        match = _SUM.fullmatch(line)
        if not match and line.strip():
            raise _wrong(path, number, "is not as `sha256sum` writes it: 64 hexadecimal digits, two spaces, a name")
        if match:
            file = os.path.normpath(folder / _unescaped(match[3]) if match[1] else folder / match[3])
            if expected.setdefault(file, match[2].lower()) != match[2].lower():
                raise _wrong(path, number, f"gives {match[3]} another checksum than a line before")
    if not expected:
        raise _wrong(path, 1, "is all there is: there are no checksums in it")
    return expected


def _unescaped(name: str) -> str:
    return re.sub(r"\\([\\nr])", lambda match: {"\\": "\\", "n": "\n", "r": "\r"}[match[1]], name)


def _wrong(path: str, line: int, what: str) -> InputError:
    return InputError(f"The checksums {path}: line {line} {what}.", hint="Make the list again with `sha256sum`.",
                      title="Invalid checksums", file=path, line=line)  # fmt: skip


def _below(file: str, folders: set[str]) -> bool:
    return any(file == folder or file.startswith(folder + os.sep) for folder in folders)


def _differences(
    expected: Mapping[str, str], found: Mapping[str, str], source: str, rule: str, said: str
) -> Iterator[Finding]:
    for file in sorted(expected.keys() - found.keys()):
        yield _finding(source, file, f"{_name(file)} is {said} in {source}, and is not among the model's files.", rule)
    for file in sorted(found.keys() - expected.keys()):
        yield _finding(file, file, f"{_name(file)} is not {said} in {source}.", rule)
    for file in sorted(expected.keys() & found.keys()):
        if expected[file] != found[file]:
            what = f"{_name(file)} is not as it was {said} in {source}: it has SHA-256 {found[file][:16]}…, not {expected[file][:16]}…"
            yield _finding(file, file, what + ".", rule)


def _name(file: str) -> str:
    return os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file


def _finding(file: str, construct: str, message: str, rule: str = "signature") -> Finding:
    from ml_deploy.models.log import shown

    return Finding(verdict=Verdict.DENY, rule=rule, construct=shown(_name(construct)), message=shown(message), advice=_ADVICE,
                   file=_name(file))  # fmt: skip
