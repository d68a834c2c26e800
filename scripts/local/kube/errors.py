"""Refusals, in the shapes and words of a real API server."""

from __future__ import annotations

from typing import Any

from .kinds import Kind, Object


class ApiError(Exception):
    """An answer that is a Status object with `code`."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> Object:
        """The Status object to send."""
        body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(self)}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return body | {"code": self.code}


def _about(kind: Kind, name: str, **more: Any) -> Object:
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural, **more}


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', _about(kind, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', _about(kind, name))


def modified(kind: Kind, name: str) -> ApiError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(kind, name))


def precondition(kind: Kind, name: str, what: str, wanted: str, have: str) -> ApiError:
    why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({have}). "
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(
        409, "Conflict", message + "The object might have been deleted and then recreated", _about(kind, name)
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def conflicts(causes: list[tuple[str, str]]) -> ApiError:
    """What server-side apply refuses; a cause is an owner (`"m"`, `"m" using v1`) and the path of a field of it."""
    parts = []
    for owner in dict.fromkeys(owner for owner, _ in causes):
        paths = [path for who, path in causes if who == owner]
        many = f"conflicts with {owner}:" + "".join(f"\n- {path}" for path in paths)
        parts.append(f"conflict with {owner}: {paths[0]}" if len(paths) == 1 else many)
    plural = "conflict" if len(causes) == 1 else "conflicts"
    found = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path} for owner, path in causes
    ]
    message = f"Apply failed with {len(causes)} {plural}: " + "\n".join(parts)
    return ApiError(409, "Conflict", message, {"causes": found})


REASONS = {"Required value": "FieldValueRequired", "Forbidden": "FieldValueForbidden",
           "Unsupported value": "FieldValueNotSupported", "Duplicate value": "FieldValueDuplicate"}  # fmt: skip


def invalid(kind: Kind, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """422; a cause is a field's path and a message such as `Required value`."""
    lines = [f"{field}: {message}" for field, message in causes]
    what = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    group = f".{kind.group}" if kind.group else ""
    reasons = [{"reason": REASONS.get(message.partition(":")[0], "FieldValueInvalid"), "message": message, "field": field}
               for field, message in causes]  # fmt: skip
    details = {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.name, "causes": reasons}
    return ApiError(422, "Invalid", f'{kind.name}{group} "{name}" is invalid: {what}', details)
