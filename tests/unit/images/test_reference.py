"""References are read as Docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_deploy.errors import InputError
from ml_deploy.images.reference import Reference, check_digest, check_tag, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "", ""),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", ""),
        ("team/app", "docker.io", "team/app", "", ""),
        ("index.docker.io/nginx", "docker.io", "library/nginx", "", ""),
        ("docker.io/library/nginx", "docker.io", "library/nginx", "", ""),
        ("localhost/app", "localhost", "app", "", ""),
        ("localhost:5000/app", "localhost:5000", "app", "", ""),
        ("localhost:5000/app:v2", "localhost:5000", "app", "v2", ""),
        ("127.0.0.1:5000/a/b/c:v2", "127.0.0.1:5000", "a/b/c", "v2", ""),
        ("[::1]:5000/app:v2", "[::1]:5000", "app", "v2", ""),
        (f"reg.azurecr.io/team/model:v1@{DIGEST}", "reg.azurecr.io", "team/model", "v1", DIGEST),
        (f"reg.azurecr.io/model@{DIGEST}", "reg.azurecr.io", "model", "", DIGEST),
        ("my__app-1.x:A_b-c.9", "docker.io", "library/my__app-1.x", "A_b-c.9", ""),
    ],
)
def test_parts(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    assert parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no repository"),
        ("reg.azurecr.io/", "names no repository"),
        (":v1", "names no repository"),
        ("reg.azurecr.io/Team/model", "upper-case"),
        ("reg.azurecr.io/model:", "no valid tag"),
        ("reg.azurecr.io/model:-x", "no valid tag"),
        ("reg.azurecr.io/model:" + "x" * 129, "no valid tag"),
        ("reg.azurecr.io/model@sha256:12", "no valid digest"),
        ("https://reg.azurecr.io/model", "no valid"),
        ("reg_x.io/model", "no valid registry"),
        ("a" * 64, "image's ID"),
        (DIGEST, "image's ID"),
        ("reg.io/" + "a/" * 130 + "b", "longer than 255"),
        ("reg.io/my model", "no valid repository"),
        ("reg.io/model\n", "no valid repository"),
    ],
)
def test_what_is_no_reference_says_why(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert words in caught.value.message


def test_names_are_short_for_docker_hub_only() -> None:
    assert [parse(t).name for t in ("docker.io/library/nginx:1", "docker.io/a/b", "localhost:5000/app:v1")] == [
        "nginx",
        "a/b",
        "localhost:5000/app",
    ]


def test_tag_and_digest_replace_each_other() -> None:
    reference = parse("localhost:5000/app:v1")
    assert str(reference.with_digest(DIGEST)) == f"localhost:5000/app@{DIGEST}"
    assert str(reference.with_digest(DIGEST).with_tag("v2")) == "localhost:5000/app:v2"
    assert reference.with_digest(DIGEST).pinned
    assert not reference.pinned


def test_the_same_repository_under_two_names() -> None:
    assert parse("nginx").same_repository(parse("docker.io/library/nginx:1"))
    assert parse("REG.azurecr.io/a").same_repository(parse("reg.azurecr.io/a:v1"))
    assert not parse("localhost:5000/app").same_repository(parse("localhost:5001/app"))
    assert not parse("localhost:5000/app").same_repository(parse("localhost:5000/app2"))


def test_tags_and_digests_are_checked() -> None:
    assert (check_tag("v1.0_rc-2"), check_digest(DIGEST)) == ("v1.0_rc-2", DIGEST)
    for bad in ("", ".v1", "v 1", "v1\n", "a/b"):
        with pytest.raises(InputError):
            check_tag(bad)
    for bad in ("", "sha256:", DIGEST.upper(), DIGEST + "0"):
        with pytest.raises(InputError):
            check_digest(bad)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["", "team/", "localhost:5000/", "reg.azurecr.io/", "docker.io/"]),
    st.lists(
        st.sampled_from(["a", "a.b", "a_b.c", "library", "localhost", "x--y__z", "0.0", "model"]),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", ":v1", ":_.-"]),
    st.sampled_from(["", f"@{DIGEST}"]),
)
def test_what_is_printed_reads_the_same_again(registry: str, parts: list[str], tag: str, digest: str) -> None:
    try:
        reference = parse(registry + "/".join(parts) + tag + digest)
    except InputError as error:
        assert "image's ID" in error.message or "registry" in error.message  # a.b_c/d: no host is called a.b_c
        return
    assert parse(str(reference)) == reference
