"""Headers from an input: read without ever being repeated, masked where they may be secret."""

from __future__ import annotations

import pytest

from ml_deploy.checks.headers import parse_headers, secrets_of
from ml_deploy.errors import InputError


def test_headers_are_read() -> None:
    assert parse_headers(("Authorization: Bearer a:b", "X-Key:1")) == {"Authorization": "Bearer a:b", "X-Key": "1"}


@pytest.mark.parametrize(
    "line", ["s3cret-token", ": s3cret-token", "X Key: s3cret-token", "s3cret-token:", "s3cret-töken: x"]
)
def test_a_malformed_header_is_not_repeated(line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_headers(("A: b", line))
    assert "Line 2" in caught.value.message
    assert "s3cret" not in caught.value.message + caught.value.hint


def test_what_is_masked() -> None:
    headers = {
        "Authorization": "Bearer abcdefgh",
        "X-Flag": "true",
        "Content-Type": "application/json",
        "X-Key": "12345678",
    }
    assert set(secrets_of(headers)) == {"Bearer abcdefgh", "abcdefgh", "12345678"}
