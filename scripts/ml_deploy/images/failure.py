"""Why a build failed: the instruction and its line, the last lines of output, and what to do about it.

Reads what the classic builder and BuildKit print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ml_deploy.images.dockerfile import Instruction, expanded

_LINES_SHOWN = 15
_UNTELLING = re.compile(
    r"^(Step \d+/\d+ : |\s*---> |Removing intermediate container|#\d+ (DONE|CACHED|CANCELED|\.\.\.|transferring|sha256:|resolve)|"
    r"#\d+ \[| > \[|#0 building|The command '|#\d+ ERROR: (executor|process)|-{3,}$|Dockerfile:\d+$|\s*\d+ \| |ERROR: failed to |Sending build context|WARNING:|\[notice\])"
)

#: What the builders say about a base image that cannot be had: pattern, why.
_BASE = (
    (r"pull access denied for|authorization failed|unauthorized|denied: ", "the registry does not let us, or there is no such image"),
    (r"manifest for .* not found|manifest unknown|: not found$", "the registry has no such image or tag"),
    (r"toomanyrequests|429 Too Many", "the registry's pull limit is reached"),
    (r"no such host|i/o timeout|connection refused|connection reset|TLS handshake|deadline exceeded|network is unreachable|x509|EOF",
     "its registry cannot be reached"),
    (r"no matching manifest for|no match for platform", "there is no such image for this machine's platform"),
)  # fmt: skip

_TEMPORARY = (
    r"i/o timeout|connection reset|TLS handshake timeout|deadline exceeded|unexpected EOF|: EOF|429 Too Many|50[0234] "
)

#: Known causes inside an instruction: pattern, hint.
_CAUSES = (
    (r"(?:--mount option|heredoc|--link|--checksum).*requires? BuildKit|the --(?:mount|chmod) option requires|Unknown flag: (?:mount|link|parents|exclude)",
     "The instruction needs BuildKit: add `docker/setup-buildx-action` before this step."),
    (r"COPY failed: .*(?:not found|no such file|no source files)|failed to compute cache key|failed to calculate checksum.*not found|ADD failed: ",
     "The file is not in the build context: check `context`, the path's spelling and `.dockerignore`."),
    (r"forbidden path outside the build context", "Only files below `context` can be copied: choose a higher folder as `context`."),
    (r"No matching distribution found for (\S+)",
     "The package index has no wheel of this version for the image's Python: check the version, or take another base image."),
    (r"THESE PACKAGES DO NOT MATCH THE HASHES", "A file of the package index is not the one that was locked: lock the requirements again."),
    (r"externally-managed-environment", "The base image's Python belongs to its distribution: use a `python:` base image, or a virtual environment."),
    (r"SSLCertVerificationError|CERTIFICATE_VERIFY_FAILED", "The build does not trust the certificate of the package index: put your CA into the base image."),
    (r"Temporary failure in name resolution|Failed to establish a new connection|NewConnectionError|Could not resolve",
     "The build cannot reach the network: check proxy settings (`build-args`) and the package index."),
    (r"No space left on device", "The disk is full: free some space on the runner, or build a smaller image."),
    (r"exec format error", "The base image is for another processor: use one for this machine's platform."),
    (r"returned a non-zero code: 137|exit code: 137", "The step was killed, most likely for want of memory."),
    (r"returned a non-zero code: 127|exit code: 127", "The image has no such command."),
    (r"target stage .* could not be found|failed to reach build target", "Check `target`: the Dockerfile has no stage of that name."),
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A failed build in words. `line` is the instruction's in the Dockerfile, 0 when it is not known.

    temporary: whether the same build may succeed a little later.
    """

    message: str
    hint: str
    line: int = 0
    excerpt: str = ""
    temporary: bool = False


def explain(
    output: str, instructions: Sequence[Instruction], dockerfile: str, args: Mapping[str, str] | None = None
) -> Failure:
    """Find what failed in the builder's output. `args` are the build arguments, to name base images by."""
    failed = _instruction(output, instructions)
    excerpt = "\n".join(_telling(output))
    base = _base(output, failed, lambda word: expanded(word, instructions, args or {}))
    if base:
        return base
    syntax = re.search(r"(?:dockerfile )?parse error (?:on )?line (\d+): (.+)", output, re.I)
    if syntax:
        return Failure(
            f"{dockerfile} is no valid Dockerfile: {syntax[2].strip()}.", "Mend the line.", int(syntax[1]), excerpt
        )
    hint = next((hint for pattern, hint in _CAUSES if re.search(pattern, output)), "The lines above it say why.")
    last = _last_word(output)
    if failed is None:
        return Failure(f"The build of {dockerfile} failed: {last}", hint, 0, excerpt)
    return Failure(
        f"{dockerfile}, line {failed.line}: `{_short(failed.text)}` failed: {last}", hint, failed.line, excerpt
    )


def _instruction(output: str, instructions: Sequence[Instruction]) -> Instruction | None:
    """BuildKit names the line, the classic builder counts the instructions."""
    named = re.findall(r"^(?:Dockerfile|\S+):(\d+)\n-{3,}$", output, re.M)
    if named:
        line = int(named[-1])
        return next((one for one in reversed(instructions) if one.line <= line), None)
    shown = re.findall(r"^ > \[[^\]]*\] (.+):$", output, re.M)
    if shown:
        wanted = " ".join(shown[-1].split())
        return next((one for one in instructions if one.text == wanted), None)
    steps = re.findall(r"^Step (\d+)/\d+ : (\S+)", output, re.M)
    if steps and 0 < int(steps[-1][0]) <= len(instructions):
        one = instructions[int(steps[-1][0]) - 1]
        return one if one.keyword == steps[-1][1].upper() else None
    return None


def _base(output: str, failed: Instruction | None, expand: Callable[[str], str]) -> Failure | None:
    """An image that cannot be pulled: the FROM at hand, or the one that BuildKit names."""
    named = re.search(
        r"failed to resolve source metadata for ([^:\s]+(?::[^:\s]+)?)|load metadata for (\S+)\n#\d+ ERROR", output
    )
    at_from = (
        failed is not None and (failed.keyword == "FROM" or "--from=" in failed.text) and "COPY failed" not in output
    )
    if not named and not at_from:
        return None
    last = output.strip().splitlines()[-1] if output.strip() else ""
    why = next((why for pattern, why in _BASE if re.search(pattern, output, re.I)), "")
    if not why:
        return None
    image = (named[1] or named[2]) if named else expand(failed.words[0]) if failed else ""
    said = re.sub(r"^ERROR: |^Error response from daemon: ", "", last)
    return Failure(
        f"The base image {image.removeprefix('docker.io/library/')} cannot be pulled: {why}.",
        "Check its name and tag, sign in to its registry (`docker/login-action`) before this step, or name one that "
        "this machine has or can reach (`base-image` for generated images).",
        failed.line if failed else 0,
        said,
        temporary=bool(re.search(_TEMPORARY, output, re.I)),
    )


def _telling(output: str) -> list[str]:
    """The last lines that are not the builder's own. BuildKit repeats those of the failed step below a rule."""
    output = re.split(r"^-{6}\n > \[", output, maxsplit=1, flags=re.M)[0]
    lines = [re.sub(r"^(#\d+ )?(?:\d+\.\d+ )?", "", line) for line in output.splitlines() if not _UNTELLING.match(line)]
    return [line for line in lines if line.strip()][-_LINES_SHOWN:]


def _last_word(output: str) -> str:
    """The sentence that says most: an error line of the program that ran, else the builder's last."""
    lines = _telling(output)
    for line in reversed(lines[-8:]):
        if re.match(r"\s*(error|fatal|E:|ERROR|\w*(Error|Exception)\b)", line) and "did not complete" not in line:
            return _short(line)
    if lines:
        return _short(lines[-1])
    status = re.search(r"(?:returned a non-zero|exit) code: (\d+)", output)
    return f"it ended with status {status[1]}" if status else _short(output.strip().split("\n")[-1])


def _short(text: str, limit: int = 200) -> str:
    text = re.sub(r"^(ERROR: |Error response from daemon: )+", "", " ".join(text.split()))
    text = re.sub(r"failed to calculate checksum of ref \S+: ", "", text)
    text = re.sub(r"^failed to build: failed to solve: (rpc error: .*: failed to create LLB definition: )?", "", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
