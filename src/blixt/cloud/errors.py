"""Every way the cloud says no: one class each, with its HTTP status, a clear sentence and what to do."""

from typing import Any, ClassVar


class CloudError(Exception):
    """A refusal a person can read.

    Args:
        message: One clear sentence: what was wrong and where.
        hint: What to do next; may be empty.
        extra: More fields for programs, such as the sequence number expected.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, hint: str = "", **extra: int | str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.extra = extra

    def to_json(self) -> dict[str, Any]:
        """Return the error as the API sends it."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, **self.extra}}


class BadRequest(CloudError):
    """The request could not be read at all."""

    status, code = 400, "bad_request"


class Unauthenticated(CloudError):
    """Nobody is signed in, or the token is unknown, expired or revoked."""

    status, code = 401, "unauthenticated"


class BudgetExceeded(CloudError):
    """A budget does not cover what was asked."""

    status, code = 402, "budget_exceeded"


class Forbidden(CloudError):
    """The caller is known but has no right to do this."""

    status, code = 403, "forbidden"


class NotFound(CloudError):
    """There is no such thing, or the caller may not know that there is."""

    status, code = 404, "not_found"


class Conflict(CloudError):
    """Somebody else was first, or the object is not in a state that allows this."""

    status, code = 409, "conflict"


class Gone(CloudError):
    """The change log no longer reaches back that far."""

    status, code = 410, "gone"


class TooLarge(CloudError):
    """The request's body is larger than this route accepts."""

    status, code = 413, "too_large"


class Invalid(CloudError):
    """The request was understood, but a field is wrong; the message names it."""

    status, code = 422, "invalid"


class TooManyRequests(CloudError):
    """The caller asks more often than the server wants to answer."""

    status, code = 429, "too_many_requests"


class Unavailable(CloudError):
    """The server cannot do this right now; trying again later may help."""

    status, code = 503, "unavailable"


class StorageFull(CloudError):
    """The disk under the data folder is full; nothing was kept of the upload."""

    status, code = 507, "storage_full"
