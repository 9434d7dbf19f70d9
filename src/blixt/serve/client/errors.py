"""What can go wrong between a client and a service."""

from collections.abc import Mapping
from typing import Any

from blixt.serve.errors import ServeError


class ClientError(ServeError):
    """A call failed."""


class RemoteError(ClientError):
    """The service answered with an error.

    Attributes:
        status: HTTP status; for an error in the middle of a stream the one that its error event names.
        detail: What the service says was wrong: text, or a list of validation errors.
        headers: The answer's headers, names in lower case; empty for an error inside a stream.
        pieces: How many pieces of the stream had come before it.
    """

    def __init__(
        self, status: int, detail: Any, headers: Mapping[str, str] | None = None, *, url: str, pieces: int = 0
    ) -> None:
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.pieces = pieces
        after = f" after {pieces} pieces" if pieces else ""
        super().__init__(f"{url} answered {status}{after}: {detail}")


class ServiceUnreachable(ClientError):
    """No connection, or none that lasted until the answer; what was tried is in the message."""


class StreamBroken(ClientError):
    """The connection ended in the middle of a stream.

    Attributes:
        pieces: How many pieces had come.
    """

    def __init__(self, url: str, pieces: int, reason: str) -> None:
        self.pieces = pieces
        super().__init__(
            f"the stream of {url} broke off after {pieces} pieces ({reason}); what had come is good, the "
            "rest must be asked for again"
        )
