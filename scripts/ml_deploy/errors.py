"""Every way to stop: a message, a hint, a one-word reason and an exit code of its own.

The message says which object and what happened, the hint what to change.
`reason` becomes the output of the same name, since workflows cannot see exit codes.
"""

from __future__ import annotations


class MlDeployError(Exception):
    """Base of all errors a user may see. Subclasses set `reason` and `exit_code`.

    message: what happened, to which object (one sentence).
    hint:    what to change (one or two sentences, may be empty).
    title:   a few words for the annotation; the class has a default.
    file, line: where in the user's repository, when that is known.
    details: Markdown for the job summary (tables, log excerpts); already free of secrets.
    result:  the command's partial Result, so that outputs are set on failure too.
    """

    reason = "internal"
    exit_code = 1
    title = "ml-deploy failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        title: str = "",
        file: str = "",
        line: int = 0,
        details: str = "",
        result: object | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.title = title or type(self).title
        self.file = file
        self.line = line
        self.details = details
        self.result = result


class InputError(MlDeployError):
    """An input is missing, malformed or contradicts another one."""

    reason = "input"
    exit_code = 2
    title = "Invalid inputs"


class ModelRejected(MlDeployError):
    """lint-model's verdict stops the pipeline."""

    reason = "model"
    exit_code = 3
    title = "Model rejected"


class BuildFailed(MlDeployError):
    """The image could not be built."""

    reason = "build"
    exit_code = 4
    title = "Image build failed"


class EngineUnavailable(MlDeployError):
    """No container engine answers."""

    reason = "engine"
    exit_code = 5
    title = "Docker Engine not available"


class AuthFailed(MlDeployError):
    """Entra, the registry or the cluster does not accept who we are."""

    reason = "auth"
    exit_code = 6
    title = "Sign-in failed"


class RegistryError(MlDeployError):
    """The registry refused, or stayed unavailable."""

    reason = "registry"
    exit_code = 7
    title = "Registry refused the image"


class Forbidden(MlDeployError):
    """We are known, but a right is missing."""

    reason = "forbidden"
    exit_code = 8
    title = "Missing permission"


class Unreachable(MlDeployError):
    """A server does not answer."""

    reason = "unreachable"
    exit_code = 9
    title = "No answer"


class ManifestError(MlDeployError):
    """A manifest is malformed, or the cluster would not accept it."""

    reason = "manifest"
    exit_code = 10
    title = "Invalid manifest"


class RolloutFailed(MlDeployError):
    """The new version did not become ready."""

    reason = "rollout"
    exit_code = 11
    title = "Rollout failed"


class WrongAnswers(MlDeployError):
    """Golden predictions were answered wrongly."""

    reason = "wrong-answers"
    exit_code = 12
    title = "Wrong predictions"


class TooSlow(MlDeployError):
    """A limit on latency, errors or throughput was missed."""

    reason = "limits"
    exit_code = 13
    title = "Limits missed"


class EndpointDown(MlDeployError):
    """The endpoint does not answer, or answers with errors."""

    reason = "endpoint"
    exit_code = 14
    title = "Endpoint not serving"


class NoRelease(MlDeployError):
    """There is nothing to roll back to."""

    reason = "no-release"
    exit_code = 15
    title = "Nothing to roll back to"


class Conflict(MlDeployError):
    """Somebody else owns the object, or another deployment is running."""

    reason = "conflict"
    exit_code = 16
    title = "Conflict"


class TimedOut(MlDeployError):
    """The deadline passed while waiting for something that is no rollout."""

    reason = "timeout"
    exit_code = 17
    title = "Timed out"


class Cancelled(MlDeployError):
    """The job was cancelled (SIGINT or SIGTERM)."""

    reason = "cancelled"
    exit_code = 130
    title = "Cancelled"


def cause(error: Exception) -> str:
    """Why a file could not be read or written, for a sentence: `No such file or directory`."""
    return str(getattr(error, "strerror", None) or error)
