"""`${NAME}` is put in where it was asked for, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from ml_deploy.errors import InputError, ManifestError
from ml_deploy.releases.sources.manifests import parse
from ml_deploy.releases.sources.variables import Variables

TEXT = """\
apiVersion: v1
kind: ConfigMap # ${UNSET} in a comment is nobody's business
metadata: {name: "app-${STAGE}"}
data:
  bare: ${NUMBER}
  quoted: "${NUMBER}"
  inside: x${NUMBER}y${STAGE}
  literal: $${STAGE}
  other: ${HOME} $STAGE
  block: |
    echo ${STAGE} ${x}
"""
VALUES = {"STAGE": "dev", "NUMBER": "3", "HOME": "/root"}


def filled(text: str, **values: str) -> dict[str, Any]:
    (one,) = parse(text, "a.yaml", Variables(("STAGE", "NUMBER"), {**VALUES, **values}))
    return one.object


def test_only_what_was_asked_for_and_typed_as_yaml_does() -> None:
    found = filled(TEXT)
    assert found["metadata"]["name"] == "app-dev"
    assert found["data"] == {
        "bare": 3, "quoted": "3", "inside": "x3ydev", "literal": "${STAGE}", "other": "${HOME} $STAGE",
        "block": "echo dev ${x}\n",
    }  # fmt: skip


@pytest.mark.parametrize("value", ["a: b", "x\n  y: z", "- 1", "{a: b}", "# not a comment", "'", '"', "null: 1"])
def test_no_value_changes_the_structure(value: str) -> None:
    found = filled(TEXT, STAGE=value)
    assert found["metadata"]["name"] == f"app-{value}" and found["data"]["block"] == f"echo {value} ${{x}}\n"
    assert len(found["data"]) == 6


@pytest.mark.parametrize("value", ["", None])
def test_what_is_unset_is_told_with_its_place(value: str | None) -> None:
    values = {name: text for name, text in {**VALUES, "NUMBER": value}.items() if text is not None}
    with pytest.raises(ManifestError, match=r"k8s/a\.yaml, line 5: \$\{NUMBER\} .* is unset or empty") as caught:
        parse(TEXT, "k8s/a.yaml", Variables(("NUMBER",), values))
    assert (caught.value.file, caught.value.line) == ("k8s/a.yaml", 5)


def test_a_name_that_is_nowhere() -> None:
    variables = Variables(("STAGE", "STAEG"), VALUES)
    parse(TEXT, "a.yaml", variables)
    with pytest.raises(InputError, match=r"`substitute` names STAEG, and no manifest has \$\{STAEG\}"):
        variables.refuse_unused()


def test_nothing_is_put_in_without_being_asked() -> None:
    (one,) = parse(TEXT, "a.yaml")
    assert one.object["metadata"]["name"] == "app-${STAGE}" and one.object["data"]["literal"] == "$${STAGE}"


def test_between_braces_it_needs_quotes() -> None:
    with pytest.raises(ManifestError) as caught:
        filled("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${STAGE}}\n")
    assert "needs quotes" in caught.value.hint


def test_what_an_alias_names_is_filled_once() -> None:
    text = TEXT.replace("literal: $${STAGE}", "literal: &it $${STAGE}\n  again: *it")
    assert filled(text)["data"]["again"] == "${STAGE}"
