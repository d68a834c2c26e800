"""Why a build failed, read from what both builders print."""

from __future__ import annotations

import pytest

from ml_deploy.images.dockerfile import instructions
from ml_deploy.images.failure import Failure, explain

DOCKERFILE = """\
ARG X=python:3.12-slim
FROM ${X} AS one

RUN echo one && \\
    pip install nosuch==9
COPY model.pkl /
"""

CLASSIC_PIP = """\
Step 1/4 : ARG X=python:3.12-slim
Step 2/4 : FROM ${X} AS one
 ---> b67310ee63db
Step 3/4 : RUN echo one &&     pip install nosuch==9
 ---> Running in 13541edc3194
one
ERROR: Could not find a version that satisfies the requirement nosuch==9 (from versions: none)
ERROR: No matching distribution found for nosuch==9
The command '/bin/sh -c echo one &&     pip install nosuch==9' returned a non-zero code: 1
"""

OLD_BUILDKIT_PIP = """\
#0 building with "default" instance using docker driver

#6 [one 2/3] RUN echo one &&     pip install nosuch==9
#6 0.589 one
#6 1.627 ERROR: Could not find a version that satisfies the requirement nosuch==9 (from versions: none)
#6 1.627 ERROR: No matching distribution found for nosuch==9
#6 ERROR: executor failed running [/bin/sh -c echo one &&     pip install nosuch==9]: exit code: 1
------
 > [one 2/3] RUN echo one &&     pip install nosuch==9:
0.589 one
1.627 ERROR: No matching distribution found for nosuch==9
------
ERROR: failed to build: failed to solve: executor failed running [/bin/sh -c echo one]: exit code: 1
"""

BUILDKIT_PIP = """\
#6 [one 2/3] RUN echo one &&     pip install nosuch==9
#6 0.589 one
#6 1.627 ERROR: No matching distribution found for nosuch==9
#6 ERROR: process "/bin/sh -c echo one &&     pip install nosuch==9" did not complete successfully: exit code: 1
------
 > [one 2/3] RUN echo one &&     pip install nosuch==9:
1.627 ERROR: No matching distribution found for nosuch==9
------
Dockerfile:4
--------------------
   3 |
   4 | >>> RUN echo one && \\
   5 | >>>     pip install nosuch==9
   6 |     COPY model.pkl /
--------------------
ERROR: failed to build: failed to solve: process "/bin/sh -c echo one" did not complete successfully: exit code: 1
"""


def failure(output: str, args: dict[str, str] | None = None) -> Failure:
    return explain(output, instructions(DOCKERFILE), "docker/Dockerfile", args)


@pytest.mark.parametrize("output", [CLASSIC_PIP, OLD_BUILDKIT_PIP, BUILDKIT_PIP], ids=["classic", "old", "buildkit"])
def test_a_failed_step_is_named_with_its_line_and_its_last_word(output: str) -> None:
    why = failure(output)
    assert why.message == (
        "docker/Dockerfile, line 4: `RUN echo one && pip install nosuch==9` failed: No matching distribution found for nosuch==9"
    )
    assert "wheel" in why.hint
    assert why.line == 4
    assert why.excerpt.startswith("one\nERROR")
    assert "Running in" not in why.excerpt
    assert not why.temporary


@pytest.mark.parametrize(
    "output",
    [
        "Step 4/4 : COPY model.pkl /\nCOPY failed: file not found in build context or excluded by .dockerignore: stat model.pkl: file does not exist",
        '#6 [one 3/3] COPY model.pkl /\n#6 ERROR: "/model.pkl" not found: not found\n------\n > [one 3/3] COPY model.pkl /:\n------\n'
        'ERROR: failed to build: failed to solve: failed to compute cache key: "/model.pkl" not found: not found',
        '#6 [one 3/3] COPY model.pkl /\n#6 ERROR: failed to calculate checksum of ref a::b: "/model.pkl": not found\n#5 CANCELED\n------\n'
        " > [one 3/3] COPY model.pkl /:\n------\nDockerfile:6\n--------------------\n   6 | >>> COPY model.pkl /\n--------------------\n"
        'ERROR: failed to build: failed to solve: failed to compute cache key: failed to calculate checksum of ref a::b: "/model.pkl": not found',
    ],
    ids=["classic", "old", "buildkit"],
)
def test_a_missing_file_is_no_missing_base_image(output: str) -> None:
    why = failure(output)
    assert why.line == 6
    assert "COPY model.pkl /` failed" in why.message
    assert ".dockerignore" in why.hint


NO_HOST = "dial tcp: lookup registry-1.docker.io on 10.0.0.2:53: no such host"


@pytest.mark.parametrize(
    "output",
    [
        f'Step 1/4 : ARG X=python:3.12-slim\nStep 2/4 : FROM ${{X}} AS one\nGet "https://registry-1.docker.io/v2/": {NO_HOST}',
        f'#3 [internal] load metadata for docker.io/library/mine:1\n#3 ERROR: failed to do request: Head "https://x": {NO_HOST}',
    ],
    ids=["classic", "buildkit"],
)  # fmt: skip
def test_a_base_image_out_of_reach(output: str) -> None:
    why = failure(output, {"X": "mine:1"})
    assert why.message == "The base image mine:1 cannot be pulled: its registry cannot be reached."
    assert "base-image" in why.hint
    assert "no such host" in why.excerpt


@pytest.mark.parametrize(
    ("said", "words", "temporary"),
    [
        (
            "pull access denied for python, repository does not exist or may require 'docker login'",
            "does not let us",
            False,
        ),
        ("manifest for python:3.99 not found: manifest unknown", "no such image or tag", False),
        ("toomanyrequests: You have reached your pull rate limit", "pull limit", False),
        ('Get "https://r.io/v2/": net/http: TLS handshake timeout', "cannot be reached", True),
        ('Get "https://r.io/v2/": read: connection reset by peer', "cannot be reached", True),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "platform", False),
    ],
)
def test_reasons_why_a_base_image_cannot_be_pulled(said: str, words: str, temporary: bool) -> None:
    why = failure(f"Step 2/4 : FROM ${{X}} AS one\n{said}")
    assert words in why.message
    assert "python:3.12-slim" in why.message
    assert why.temporary is temporary
    assert why.line == 2


@pytest.mark.parametrize("prefix", ["Error response from daemon: dockerfile", "ERROR: failed to solve: dockerfile"])
def test_a_malformed_dockerfile(prefix: str) -> None:
    why = failure(f"{prefix} parse error {'on ' if 'solve' in prefix else ''}line 3: unknown instruction: RUNN")
    assert why.message == "docker/Dockerfile is no valid Dockerfile: unknown instruction: RUNN."
    assert why.line == 3


def test_a_step_that_says_nothing_tells_its_status() -> None:
    why = failure("Step 3/4 : RUN echo\n ---> Running in 1\nThe command '/bin/sh -c false' returned a non-zero code: 3")
    assert why.message.endswith("failed: it ended with status 3")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("the --mount option requires BuildKit. Refer to https://docs", "setup-buildx-action"),
        ("/bin/sh: 1: nosuch: not found\nThe command 'x' returned a non-zero code: 127", "no such command"),
        ("Killed\nThe command 'x' returned a non-zero code: 137", "memory"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("failed to reach build target zz in Dockerfile", "target"),
        ("error: externally-managed-environment", "virtual environment"),
        ("exec /bin/sh: exec format error", "processor"),
        ("something else", "lines above"),
    ],
)
def test_known_causes_have_a_remedy(said: str, hint: str) -> None:
    assert hint in failure(f"Step 3/4 : RUN echo\n{said}").hint


def test_no_output_at_all() -> None:
    assert failure("").message == "The build of docker/Dockerfile failed: "
