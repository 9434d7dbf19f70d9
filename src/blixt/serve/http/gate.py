"""What every route of an API checks before anything else, and needs afterwards."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass

from blixt.serve.api import API
from blixt.serve.errors import HTTPError
from blixt.serve.http.access_log import AccessLog
from blixt.serve.http.auth import Authenticate, Headers, sent_keys
from blixt.serve.http.room import Room
from blixt.serve.service import Running
from blixt.serve.tracing import Tracing

AUTHENTICATE_S = 10.0
logger = logging.getLogger("blixt.serve")


@dataclass(frozen=True, slots=True)
class Gate:
    """What every route of an API checks and needs.

    Args:
        find: The running side of the API; asked per request because a server may start and stop again.
        authorized: Whether headers carry a key.
        max_payload_bytes: Bound on a body.
        room: Bound on all bodies that are still arriving.
        compress_over_bytes: Whole answers above this size are gzipped for those who accept it; 0: none.
        keep_alive_s: A stream gets a comment after so long a silence.
        authenticate: Says whether a bearer token is good, in case the keys do not.
        sse_ids: Whether events are numbered.
        api: Whose routes these are.
        tracing: Finds the tracer, if requests are traced.
        access_log: Where every answer is noted, if anywhere.
    """

    find: Callable[[], Running]
    authorized: Callable[[Headers], bool]
    max_payload_bytes: int
    room: Room
    compress_over_bytes: int = 1000
    keep_alive_s: float = 15.0
    authenticate: Authenticate | None = None
    sse_ids: bool = False
    api: API | None = None
    tracing: Callable[[], Tracing | None] | None = None
    access_log: AccessLog | None = None

    async def admits(self, headers: Headers) -> bool:
        """Whether the request may pass: a key of the ring, or a token that the user's callable accepts."""
        return self.authorized(headers) or await self.authenticated(headers)

    async def authenticated(self, headers: Headers) -> bool:
        """Whether the user's callable accepts a token of the request; one that raises does not.

        Raises:
            HTTPError: The callable's own, or 503 if it does not come to an end.
        """
        if self.authenticate is None:
            return False
        try:
            async with asyncio.timeout(AUTHENTICATE_S):
                for token in sent_keys(headers):
                    answer = self.authenticate(token.decode("latin-1"))
                    if await answer if inspect.isawaitable(answer) else answer:
                        return True
        except HTTPError:
            raise
        except TimeoutError:
            raise HTTPError(503, "The token could not be checked in time.", {"retry-after": "1"}) from None
        except Exception:
            logger.warning("authenticate failed on a token, which is refused", exc_info=True)
        return False
