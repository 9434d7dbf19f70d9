"""What an API and its callbacks have to say when a request is admitted; nothing, for most."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from blixt.serve.errors import HTTPError
from blixt.serve.request import MAX_PRIORITY, Body, Meta, Rejected, Request

logger = logging.getLogger("blixt.serve")
_meta = msgspec.json.Decoder(Meta)


class Incoming:
    """A request as `API.priority` and `API.cost` see it: in the front, not decoded yet.

    Attributes:
        size_bytes: Length of the body.
    """

    def __init__(self, body: Body, meta: bytes | None) -> None:
        self._body = body
        self._meta = meta
        self.size_bytes = len(body)

    @cached_property
    def body(self) -> bytes:
        """The body as it was sent."""
        return bytes(self._body)

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Headers by lower-case name; empty unless the API asks for them (`context_fields`)."""
        return dict(_meta.decode(self._meta).headers) if self._meta else {}

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            HTTPError: 400, it is none.
        """
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPError(400, f"The body is not valid JSON: {error}") from None


@dataclass(frozen=True)
class Rules:
    """The functions a hub asks at admission; those that are None or empty cost nothing.

    Args:
        priority: `API.priority`, if overridden.
        cost: `API.cost`, if overridden.
        on_request: Callbacks, called with the number of active requests.
        on_response: Callbacks, called with the number of requests still active.
    """

    priority: Callable[[Incoming], int] | None = None
    cost: Callable[[Incoming], float] | None = None
    on_request: tuple[Callable[[int], None], ...] = ()
    on_response: tuple[Callable[[int], None], ...] = ()

    @cached_property
    def any(self) -> bool:
        """Whether there is anything to ask at admission."""
        return bool(self.priority or self.cost or self.on_request)

    def admit(self, request: Request, active: int) -> None:
        """Set a request's priority and cost, and tell the callbacks.

        Raises:
            Rejected: The API's function refused it (its `HTTPError`) or failed (500).
        """
        for callback in self.on_request:
            callback(active)
        if self.priority is None and self.cost is None:
            return
        incoming = Incoming(request.body, request.meta)
        try:
            if self.priority is not None:
                wish = self.priority(incoming)
                request.priority = max(-MAX_PRIORITY, min(MAX_PRIORITY, int(wish)))
            if self.cost is not None:
                request.cost = float(self.cost(incoming))
        except HTTPError as error:
            raise Rejected(error.status, error.detail, 1, **error.headers) from None
        except Exception:
            logger.exception("priority() or cost() failed on a request")
            raise Rejected(500, "Internal Server Error", 1) from None

    def answered(self, active: int) -> None:
        """Tell the callbacks that a request has its answer."""
        for callback in self.on_response:
            callback(active)
