"""A Dockerfile's instructions with their lines: enough to say where a build failed and what it builds on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One instruction: its first line (from 1), its keyword in capitals, its text as written on one line."""

    line: int
    keyword: str
    text: str

    @property
    def words(self) -> list[str]:
        """What follows the keyword, without flags."""
        return [word for word in self.text.split()[1:] if not word.startswith("--")]


def instructions(text: str) -> list[Instruction]:
    """All instructions in order; comments, continuations and here-documents are seen as Docker sees them."""
    escape = "`" if re.search(r"\A(?:\s*#[^\n]*\n)*?\s*#\s*escape\s*=\s*`", text, re.I) else "\\"
    lines = text.splitlines()
    found: list[Instruction] = []
    index = 0
    while index < len(lines):
        first = index
        if not lines[first].strip() or lines[first].lstrip().startswith("#"):
            index += 1
            continue
        parts, index = _joined(lines, first, escape)
        joined = " ".join(" ".join(parts).split())
        found.append(Instruction(first + 1, joined.partition(" ")[0].upper(), joined))
        index = _after_documents(lines, index, joined)
    return found


def expanded(word: str, found: Sequence[Instruction], args: Mapping[str, str]) -> str:
    """A word with build arguments put in: those given, else the defaults of ARG instructions."""
    defaults = [one.text.split(None, 1)[1].partition("=") for one in found if one.keyword == "ARG" and " " in one.text]
    values = {**{name: value.strip("\"'") for name, _, value in defaults}, **args}

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[3], "") or match[2] or match[0]

    return re.sub(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))", value, word)


def _joined(lines: list[str], index: int, escape: str) -> tuple[list[str], int]:
    """The parts of an instruction over continued lines, and the index after it."""
    parts: list[str] = []
    while index < len(lines):
        line = lines[index]
        index += 1
        if parts and (line.lstrip().startswith("#") or not line.strip()):
            continue
        stripped = line.rstrip()
        if not stripped.endswith(escape):
            parts.append(line)
            break
        parts.append(stripped[:-1])
    return parts, index


def _after_documents(lines: list[str], index: int, joined: str) -> int:
    if not joined.upper().startswith(("RUN", "COPY", "ADD")):
        return index
    for word in re.findall(r"<<-?[\"']?([A-Za-z_][A-Za-z0-9_]*)[\"']?", joined):
        while index < len(lines) and lines[index].strip() != word:
            index += 1
        index += 1
    return index
