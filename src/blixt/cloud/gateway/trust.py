"""Whom the gateway lets in: the identity room's two questions, with their yes remembered for a moment."""

import time
from collections.abc import Awaitable, Callable, Hashable

Authenticate = Callable[[str], Awaitable[object | None]]
"""A token to its principal, or None."""
Authorize = Callable[[object, str], Awaitable[bool]]
"""May this principal use the workloads of this teamspace?"""

_MAX_REMEMBERED = 4096


class Trust:
    """Asks once per `cache_s` and token; only a yes is remembered, so a new grant works at once."""

    def __init__(self, authenticate: Authenticate, authorize: Authorize, cache_s: float) -> None:
        self._authenticate = authenticate
        self._authorize = authorize
        self._cache_s = cache_s
        self._principals: dict[str, tuple[float, object]] = {}
        self._allowed: dict[tuple[Hashable, str], float] = {}

    async def principal(self, token: str) -> object | None:
        """Who holds this token."""
        now = time.monotonic()
        known = self._principals.get(token)
        if known is not None and known[0] > now:
            return known[1]
        principal = await self._authenticate(token)
        if principal is not None:
            if len(self._principals) >= _MAX_REMEMBERED:
                self._principals.clear()
            self._principals[token] = (now + self._cache_s, principal)
        return principal

    async def allows(self, credential: Hashable, principal: object, teamspace: str) -> bool:
        """Whether the holder of `credential` may use the teamspace."""
        now = time.monotonic()
        if self._allowed.get((credential, teamspace), 0.0) > now:
            return True
        allowed = await self._authorize(principal, teamspace)
        if allowed:
            if len(self._allowed) >= _MAX_REMEMBERED:
                self._allowed.clear()
            self._allowed[credential, teamspace] = now + self._cache_s
        return allowed
