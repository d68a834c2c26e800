"""What is no model, or none that can be read here: said to be what it is, never allowed."""

from __future__ import annotations

from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.source import Member

NAME = "unknown"

_LFS = b"version https://git-lfs.github.com/spec/"
_SAVE_AGAIN = "Save the model as ONNX, safetensors, or a pickle or joblib file."

#: Beginnings of files that people give by mistake or that are read by a later version: name, what it is, what to do.
_KNOWN: tuple[tuple[bytes, str, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "7z", "a 7z archive"),
    (b"Rar!", "rar", "a RAR archive"),
    (b"GGUF", "gguf", "a GGUF file"),
    (b"\x7fELF", "elf", "a program or library (ELF)"),
    (b"MZ", "exe", "a Windows program"),
    (b"#!", "script", "a script"),
    (b"%PDF", "pdf", "a PDF document"),
    (b"<!DOCTYPE", "html", "a web page, perhaps an error page that was saved as a model"),
    (b"<html", "html", "a web page, perhaps an error page that was saved as a model"),
    (b"ZF", "joblib", "a file of joblib before 0.10"),
)


def sniff(head: bytes) -> bool:
    """Empty, a Git LFS pointer, or something known that is no model this version reads."""
    return not head or head.startswith(_LFS) or _recognise(head) is not None


def _recognise(head: bytes) -> tuple[bytes, str, str] | None:
    return next((entry for entry in _KNOWN if head.startswith(entry[0])), None)


def inspect(member: Member, context: Context) -> Anatomy:
    """Say what it is."""
    head = member.head()
    if not head:
        context.log.deny("empty-file", "empty file", "The file is empty.", "Save or upload the model again.", 0)
        return Anatomy(format="empty")
    if head.startswith(_LFS):
        context.log.deny(
            "git-lfs-pointer", "Git LFS pointer", "The file is a Git LFS pointer, not the model itself.",
            "Check the repository out with `lfs: true`, or run `git lfs pull` before this step.", 0,
        )  # fmt: skip
        return Anatomy(format="git-lfs-pointer")
    known = _recognise(head)
    name, what = (known[1], known[2]) if known else (NAME, "of no format that is known")
    context.log.deny("unsupported-format", name, f"The file is {what}, which cannot be vouched for.", _SAVE_AGAIN, 0)
    return Anatomy(format=name)
