"""Headers as users give them, one `Name: value` a line. They may hold credentials, so no message repeats a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ml_deploy.errors import InputError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HARMLESS = {"accept", "accept-encoding", "accept-language", "content-type", "host", "user-agent", "x-request-id"}
_SHORTEST_SECRET = 8


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Headers by name. Raises InputError for a line that is none, without repeating it."""
    headers = {}
    for number, line in enumerate(lines, 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not value or not _NAME.fullmatch(name):
            raise InputError(
                f"Line {number} of the input `headers` is no header.", hint="Write `Name: value`, one a line."
            )
        headers[name] = value
    return headers


def secrets_of(headers: Mapping[str, str]) -> Iterator[str]:
    """What to mask: each value, and the credential alone where a scheme such as `Bearer` stands before it.

    Short values and those of headers that never hold a credential are left, for masking `true` blots every log.
    """
    for name, value in headers.items():
        if name.lower() not in _HARMLESS and len(value) >= _SHORTEST_SECRET:
            yield value
            if len(value.split()[-1]) >= _SHORTEST_SECRET:
                yield value.split()[-1]
