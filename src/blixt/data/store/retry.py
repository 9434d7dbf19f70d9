"""Trying again: which problems may pass, how long to wait between tries, and when to give up."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from blixt.data.store.errors import UnavailableError

T = TypeVar("T")


class Passing(Exception):
    """A problem that may pass: no answer, an answer cut short, a server that is too busy."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try, and how long to wait: `first_wait_s`, then twice as long each time, with jitter.

    Attributes:
        tries: how often to try at most, the first time included.
        first_wait_s: the longest wait after the first try, in seconds.
        longest_wait_s: no wait is longer than this.
    """

    tries: int = 6
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries must be at least 1, got {self.tries}")

    def call(self, what: str, once: Callable[[int], T]) -> T:
        """Return what `once(attempt)` returns, trying again while it raises `Passing`.

        Raises:
            UnavailableError: when the last try failed too.
        """
        for attempt in count():
            try:
                return once(attempt)
            except Passing as problem:
                if attempt + 1 >= self.tries:
                    raise UnavailableError(
                        f"cannot {what}: {problem} (tried {self.tries} times); check that the store is up "
                        "and can be reached, then run again"
                    ) from problem.__cause__
            wait = min(self.first_wait_s * 2**attempt, self.longest_wait_s)
            time.sleep(wait * random.uniform(0.5, 1))
        raise AssertionError("unreachable")
