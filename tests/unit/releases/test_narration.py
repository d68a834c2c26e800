"""What a wait tells of its progress."""

from __future__ import annotations

from ml_deploy.releases.narration import Narrator, listed


def test_one_object_is_told_of_once_a_second_at_most_and_its_end_at_once() -> None:
    told: list[str] = []
    one = Narrator(told.append, lambda: 1, 0.0)
    for number in range(500):
        one.changed("Deployment web", f"{number} of 500", 0.01 * number, done=False)
        one.tick(0.01 * number)
    one.changed("Deployment web", "500 of 500 ready", 5.0, done=True)
    one.tick(9.0)
    assert told[0] == "Deployment web: 0 of 500" and told[-1] == "Deployment web: 500 of 500 ready"
    assert 4 <= len(told) <= 7, told


def test_what_was_held_back_is_told_when_nothing_more_comes() -> None:
    told: list[str] = []
    one = Narrator(told.append, lambda: 1, 0.0)
    one.changed("a", "first", 0.0, done=False)
    one.changed("a", "second", 0.1, done=False)
    one.tick(0.5)
    assert told == ["a: first"]
    one.tick(1.1)
    one.tick(9.0)
    assert told == ["a: first", "a: second"]


def test_of_many_objects_only_their_number_is_told() -> None:
    told: list[str] = []
    many = Narrator(told.append, lambda: 60, 0.0)
    for number in range(60):
        many.changed(f"Deployment a{number}", "0 of 1", 0.0, done=False)
    for number in range(60):
        many.changed(f"Deployment a{number}", "ready", 0.1 * number, done=True)
        many.tick(0.1 * number)
    many.tick(20.0)
    assert told == ["21 of 60 objects are ready", "41 of 60 objects are ready", "60 of 60 objects are ready"]


def test_names_are_not_listed_without_end() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([*"abcdefg"]) == "a, b, c, d, e and 2 more"
