"""What can go wrong, for callers (HTTP statuses) and for the person who starts a server (exit codes)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec


class HTTPError(Exception):
    """Raise it in any hook to answer with this status.

    Args:
        status: HTTP status, 400 to 599.
        detail: What the client is told; any JSON-able value. Defaults to the status's phrase.
        headers: Extra headers of the answer.

    Example:
        >>> HTTPError(404, "no voice called 'ada'").status
        404
    """

    def __init__(self, status: int, detail: Any = None, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.detail: Any = HTTPStatus(status).phrase if detail is None else detail
        self.headers = dict(headers or {})
        super().__init__(f"{status}: {self.detail}")


class Failure(msgspec.Struct):
    """An error on its way to a client; the payload of `Kind.ERROR`."""

    status: int
    detail: Any
    headers: dict[str, str] = {}


class ServeError(Exception):
    """The server cannot start or go on. The message is for a person; `exit_code` for a shell."""

    exit_code = 1


class ConfigError(ServeError):
    """An argument, a hook or a file is wrong."""

    exit_code = 2


class SetupFailed(ServeError):
    """`API.setup` failed so often that the server gave up."""

    exit_code = 3


class PortInUse(ServeError):
    """Somebody else listens on the address."""

    exit_code = 98
