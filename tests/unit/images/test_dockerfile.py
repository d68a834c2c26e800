"""Instructions and their lines are found as Docker counts them."""

from __future__ import annotations

from ml_deploy.images.dockerfile import Instruction, expanded, instructions

TEXT = """\
# syntax=docker/dockerfile:1
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
RUN echo one && \\
    # a comment between
    echo two

COPY --from=build \\
  a b
RUN <<EOT
from here
FROM nothing
EOT
cmd ["x"]
"""


def test_lines_continuations_comments_and_documents() -> None:
    found = [(one.line, one.keyword, one.text) for one in instructions(TEXT)]
    assert found == [
        (2, "ARG", "ARG BASE=python:3.12-slim"),
        (4, "FROM", "FROM ${BASE} AS build"),
        (5, "RUN", "RUN echo one && echo two"),
        (9, "COPY", "COPY --from=build a b"),
        (11, "RUN", "RUN <<EOT"),
        (15, "CMD", 'cmd ["x"]'),
    ]


def test_words_leave_flags_out() -> None:
    assert Instruction(1, "COPY", "COPY --from=build a b").words == ["a", "b"]


def test_another_escape_character() -> None:
    assert [one.line for one in instructions("# escape=`\nFROM a\nRUN b `\n  c:\\\nRUN d\n")] == [2, 3, 5]


def test_nothing_in_it() -> None:
    assert instructions("# only a comment\n\n") == []


def test_build_arguments_go_before_defaults() -> None:
    found = instructions(TEXT)
    assert expanded("${BASE}", found, {}) == "python:3.12-slim"
    assert expanded("$BASE", found, {"BASE": "mine:1"}) == "mine:1"
    assert expanded("${OTHER:-debian}:$TAG", found, {"TAG": "12"}) == "debian:12"
    assert expanded("$UNKNOWN", found, {}) == "$UNKNOWN"
