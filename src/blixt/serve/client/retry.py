"""When a call is tried again, and after how long: pure decisions."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from blixt.serve.errors import ConfigError

REFUSED = frozenset({429, 503})
"""Statuses of a service that is full, starting or draining."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient a client is.

    A call is repeated when it was not begun: the connection could not be made, or the service refused it
    (429, 503). When the connection or a worker died before the answer, the work may have been done, so that
    is repeated only with `unsafe=True`. A stream is never repeated once a piece has come.

    Args:
        attempts: Calls in total; 1 never repeats.
        backoff_s: The first pause; it doubles, and the real pause lies between half and the whole of it.
        max_backoff_s: The longest pause, also of those that the service asks for by `Retry-After`.
        unsafe: Repeat calls that may have been carried out; for a `predict` without side effects.

    Raises:
        ConfigError: A value is out of range.
    """

    attempts: int = 4
    backoff_s: float = 0.1
    max_backoff_s: float = 10.0
    unsafe: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or self.attempts < 1:
            raise ConfigError(f"attempts={self.attempts!r} is not a count of at least 1.")
        if self.backoff_s < 0 or self.max_backoff_s < 0:
            raise ConfigError("backoff_s and max_backoff_s are seconds of at least 0.")

    def pause_s(self, attempt: int, headers: Mapping[str, str] | None = None) -> float:
        """How long to wait after the n-th attempt (from 1), at least as long as the service asks for."""
        longest = min(self.backoff_s * 2 ** (attempt - 1), self.max_backoff_s)
        wanted = random.uniform(longest / 2, longest)
        return max(wanted, min(retry_after_s(headers or {}), self.max_backoff_s))


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds of a `Retry-After`; 0 when there is none, or a date."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0
