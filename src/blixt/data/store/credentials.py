"""Credentials: from the environment, a dict, or a callback whose answer expires and is renewed in time."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from blixt.data.store.errors import PermissionDeniedError, StoreError

CredentialCallback = Callable[[], Mapping[str, Any]]
Credentials = Mapping[str, str] | CredentialCallback | Literal["unsigned"] | None
"""None: the environment's. A mapping: these. A callback: its answer, until `expires_at`. "unsigned": none."""

_LONGEST_MARGIN_S = 300.0
_MARGIN_PART = 0.2
FOREVER = float("inf")


class Rolling:
    """A callback's credentials, asked for again before they expire, by one thread at a time.

    They are renewed when a fifth of their life is left, five minutes before their end at the most, so that a
    request that begins now is done before they expire.

    Args:
        callback: returns the credentials; `expires_at` among them is a datetime with time zone or seconds
            since 1970, and without it they never expire.
    """

    def __init__(self, callback: CredentialCallback) -> None:
        self._callback = callback
        self._lock = threading.Lock()
        self._current: dict[str, Any] = {}
        self._renew_at = -FOREVER
        self.expires_at = -FOREVER

    def __getstate__(self) -> dict[str, Any]:
        return {"callback": self._callback}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["callback"])

    def get(self) -> dict[str, Any]:
        """Return credentials that are valid now, without `expires_at`.

        Raises:
            PermissionDeniedError: when the callback fails, or returns what has expired already.
        """
        with self._lock:
            if time.time() >= self._renew_at:
                self._renew()
            return self._current

    def _renew(self) -> None:
        now = time.time()
        try:
            fresh = dict(self._callback())
            expires_at = as_seconds(fresh.pop("expires_at", None))
            if expires_at <= now:
                raise PermissionDeniedError("it returned credentials that have expired already")
        except Exception as problem:
            if now < self.expires_at:
                return  # the old ones still hold: ask again at the next request
            raise PermissionDeniedError(
                f"the callback for credentials failed: {problem or type(problem).__name__}; mend it or pass "
                "others"
            ) from problem
        self._current, self.expires_at = fresh, expires_at
        self._renew_at = expires_at - min(_LONGEST_MARGIN_S, _MARGIN_PART * (expires_at - now))


def as_seconds(expires_at: datetime | float | None) -> float:
    """Return an expiry as seconds since 1970; None is never."""
    if expires_at is None:
        return FOREVER
    if isinstance(expires_at, datetime):
        if expires_at.tzinfo is None:
            raise StoreError("expires_at has no time zone; return datetime.now(UTC) + timedelta(...)")
        return expires_at.timestamp()
    return float(expires_at)


def as_datetime(seconds: float) -> datetime | None:
    """Return an expiry as a datetime in UTC; None is never."""
    return None if seconds == FOREVER else datetime.fromtimestamp(seconds, UTC)
