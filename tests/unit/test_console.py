"""What comes from outside cannot speak for us, and secrets stay hidden."""

from __future__ import annotations

import io

import pytest

from ml_deploy.runtime.console import Console, escape


def written(github: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(stream, github=github), stream


@pytest.mark.parametrize(
    "hostile",
    [
        "::set-output name=x::1",
        "  ::add-mask::a",
        "fine\n::error::no",
        "fine\r::error::no",
        "x ##[error]no",
        "\t::stop-commands::x",
    ],
)
def test_workflow_commands_from_outside_are_defused(hostile: str) -> None:
    console, stream = written(github=True)
    console.line(hostile)
    assert "##[" not in stream.getvalue()
    assert not any(line.lstrip().startswith("::") for line in stream.getvalue().replace("\r", "\n").splitlines())


def test_escape_leaves_other_text_alone() -> None:
    for text in ("a::b [::1]:8080 # [x]", "\033[1;31mred\033[0m\tä✅"):
        assert escape(text) == text


@pytest.mark.parametrize("hostile", ["\033[2Jx", "\033]0;title\x07", "\x9b2J", "\033[10;1H", "a\bb", "\033"])
def test_a_terminal_is_not_steered_from_outside(hostile: str) -> None:
    assert not any(char in escape(hostile) for char in "\033\x07\x9b\b")


def test_masked_values_appear_nowhere_line_by_line() -> None:
    console, stream = written(github=True)
    console.mask("first-secret\nsecond-secret\n-\n")
    before = stream.getvalue()
    assert before == "::add-mask::first-secret\n::add-mask::second-secret\n"
    console.line("it is first-secret")
    console.error("second-secret!", title="first-secret")
    after = stream.getvalue().removeprefix(before)
    assert "first-secret" not in after
    assert "second-secret" not in after


def test_annotations_are_escaped_and_only_ten_of_a_kind_are_shown() -> None:
    console, stream = written(github=True)
    for number in range(12):
        console.error(f"{number}: 100%\nsure", title="a, b: c", file="m.yaml", line=3)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "::error title=a%2C b%3A c,file=m.yaml,line=3::0: 100%25%0Asure"
    assert sum(line.startswith("::error") for line in lines) == 10
    assert "error: 11: 100%" in lines


def test_a_terminal_gets_plain_text() -> None:
    console, stream = written(github=False)
    with console.group("Reading"):
        console.warning("careful", title="Model", file="m.pkl")
    assert stream.getvalue() == "== Reading\nwarning: m.pkl: Model: careful\n"


def test_progress_in_a_log_is_lines_and_only_of_long_work() -> None:
    console, stream = written(github=True)
    with console.progress("Reading", lambda: 0.5):
        pass
    assert stream.getvalue() == ""
    console, stream = written(github=True)
    console.every = 0.01
    with console.progress("Reading", lambda: 1.7):
        while "\n" not in stream.getvalue():
            pass
    assert stream.getvalue().splitlines()[0] == "Reading: 100%"
