"""Inputs are read strictly, and every problem is reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from ml_deploy.errors import InputError
from ml_deploy.runtime import fields


@dataclass(frozen=True, kw_only=True)
class Inputs:
    model: str = fields.text("The model.", required=True)
    check: bool = fields.flag("Ask it.", default=True)
    tags: tuple[str, ...] = fields.lines("Tags.")
    wait: float = fields.duration("Deadline.", default="5m")
    password: str = fields.secret("Password.")

    @staticmethod
    def contradictions(given: Mapping[str, str]) -> Iterator[str]:
        if "password" in given and "tags" in given:
            yield "`password` and `tags` do not go together"


def test_defaults_and_values() -> None:
    inputs = fields.read(Inputs, {"model": " m.pkl ", "tags": "a\n\n b \n"})
    assert inputs == Inputs(model="m.pkl", check=True, tags=("a", "b"), wait=300.0)


def test_defaults_that_an_action_hands_over_contradict_nothing() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Choice:
        port: int = fields.integer("Port.", default="8000")
        manifests: str = fields.text("Files.")

        @staticmethod
        def contradictions(given: Mapping[str, str]) -> Iterator[str]:
            if "port" in given and "manifests" in given:
                yield "`port` and `manifests` do not go together"

    assert fields.read(Choice, {"port": "8000", "manifests": "k8s"}).port == 8000
    with pytest.raises(InputError, match="do not go together"):
        fields.read(Choice, {"port": "80", "manifests": "k8s"})


def test_every_problem_is_named_at_once_and_no_secret() -> None:
    with pytest.raises(InputError) as caught:
        fields.read(Inputs, {"check": "yes", "wait": "5 minutes", "password": "hunter2", "tags": "a"})
    for words in (
        "`model` is required",
        "`check` must be exactly true or false",
        "`wait` must be a duration",
        "do not go together",
    ):
        assert words in caught.value.message
    assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(fields.read(Inputs, {"model": "m", "password": "hunter2"}))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("250ms", 0.25), ("", None)]
)
def test_durations(text: str, seconds: float | None) -> None:
    assert fields.parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("500MB", 500_000_000), ("2GiB", 2**31), ("12", 12), ("", None)])
def test_sizes(text: str, size: int | None) -> None:
    assert fields.parse_size(text) == size


def test_a_number_has_its_bounds_and_several_names_are_inputs() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Numbers:
        port: int = fields.integer("Port.", minimum=1, maximum=65535)
        url: str = fields.text("Address.")

        @staticmethod
        def contradictions(given: Mapping[str, str]) -> Iterator[str]:
            if "port" in given and "url" in given:
                yield "`port` and `url` do not go together"

    assert fields.read(Numbers, {"port": "65535"}).port == 65535
    with pytest.raises(InputError, match=r"^The input `port` must be 65535 or less"):
        fields.read(Numbers, {"port": "65536"})
    with pytest.raises(InputError, match=r"^The inputs `port` and `url` do not go together"):
        fields.read(Numbers, {"port": "80", "url": "x"})
