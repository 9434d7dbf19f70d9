"""What can go wrong between you and a blixt server, one class a cause, each with a hint."""

from collections.abc import Mapping
from typing import Any, cast


class BlixtError(Exception):
    """Anything the SDK raises on purpose: one sentence, and a hint that says what to do.

    Attributes:
        message: What was wrong, and where.
        hint: What to do next; empty when there is nothing to add.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class NotConfigured(BlixtError):
    """No server is known: neither argument, environment, login nor a local server names one."""


class ServerUnreachable(BlixtError):
    """The server's address is known, but nothing answers there."""


class SourceError(BlixtError):
    """The source folder of a job cannot be packed: missing, too large, or with links out of it."""


class CommandFailed(BlixtError):
    """A command in a Studio ended with a non-zero exit code and `check=True` was asked for."""


class WaitTimeout(BlixtError, TimeoutError):
    """The state that was waited for did not come in time."""


class StateError(BlixtError):
    """The object reached a state from which the awaited one cannot come, such as `failed`."""


class ProtocolError(BlixtError):
    """The server's answer does not fit what this version of the SDK understands."""


class ApiError(BlixtError):
    """The server said no. Subclasses name the usual reasons.

    Attributes:
        status: The HTTP status, such as 404.
        code: The server's name for the error, such as `not_found`.
        details: Whatever else the server sent along in the error object.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int = 0,
        code: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code
        self.details: dict[str, Any] = dict(details or {})


class InvalidRequest(ApiError):
    """400 or 422: a value is wrong; the message names it."""


class Unauthorized(ApiError):
    """401: the token is missing, wrong, expired or revoked."""


class BudgetExceeded(ApiError):
    """402: the budget does not cover the start of this machine."""


class Forbidden(ApiError):
    """403: you are known, but your role does not allow this."""


class NotFound(ApiError):
    """404: no object of that name, or none that you may see."""


class Conflict(ApiError):
    """409: the name is taken, or someone changed the object since you read it."""


class TooManyRequests(ApiError):
    """429: slow down; the SDK has already retried where that is safe."""


class Unavailable(ApiError):
    """503 or 507: the server, a machine or the disk has no room right now."""


_CLASS_OF_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    402: BudgetExceeded,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: InvalidRequest,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}


def error_from(status: int, body: object) -> ApiError:
    """Turn an answer with an error status into the exception that names it.

    Args:
        status: The HTTP status.
        body: The decoded JSON body, or the text when it was no JSON.
    """
    kind = _CLASS_OF_STATUS.get(status, ApiError)
    fields = _fields(_fields(body).get("error"))
    if fields:
        known = {"code", "message", "hint"}
        return kind(
            str(fields.get("message") or f"The server answered {status}."),
            str(fields.get("hint") or ""),
            status=status,
            code=str(fields.get("code") or ""),
            details={key: value for key, value in fields.items() if key not in known},
        )
    text = str(body).strip().splitlines()
    detail = f": {text[0][:200]}" if text else ""
    return kind(f"The server answered {status}{detail}.", status=status)


def _fields(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
