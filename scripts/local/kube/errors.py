"""Refusals, in the shapes and words of a real API server."""

from __future__ import annotations

from .kinds import Kind, Object

REASONS = {"Required value": "FieldValueRequired", "Forbidden": "FieldValueForbidden"}


class ApiError(Exception):
    """An answer that is a Status object with `code`."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details

    def status(self) -> Object:
        """The Status object to send."""
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(self)}
        more = {"reason": self.reason, "details": self.details}
        return {**body, **{key: value for key, value in more.items() if value not in ("", None)}, "code": self.code}


def about(kind: Kind, name: str, word: str = "") -> Object:
    """The details of a Status."""
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": word or kind.plural}


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', about(kind, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', about(kind, name))


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, about(kind, name))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message, {})


def invalid(kind: Kind, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """422; a cause is a field's path and a message such as `Required value`."""
    lines = [f"{field}: {message}" for field, message in causes]
    what = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    words = {field: REASONS.get(message.partition(":")[0], "FieldValueInvalid") for field, message in causes}
    found = [{"reason": words[field], "message": message, "field": field} for field, message in causes]
    typed = f"{kind.name}.{kind.group}" if kind.group else kind.name
    details = {**about(kind, name, kind.name), "causes": found}
    return ApiError(422, "Invalid", f'{typed} "{name}" is invalid: {what}', details)
