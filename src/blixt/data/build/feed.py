"""Units for a pool, one at a time: at once if they are planned, through a thread if they are awaited."""

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator

from blixt.data.build.units import Unit


class Feed(ABC):
    """Where a pool takes its units from.

    Attributes:
        wake: a file descriptor, readable when a unit (or the end) has come; None when none is awaited.
        exhausted: whether no more will come.
    """

    wake: int | None = None
    exhausted: bool = False

    @abstractmethod
    def take(self) -> Unit | None:
        """Return a unit, or None when there is none now."""

    @abstractmethod
    def close(self) -> None:
        """Take no more."""


class PlannedFeed(Feed):
    """Units that can be had at any time, such as those of a list."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._units = iter(units)

    def take(self) -> Unit | None:
        """Return the next unit, None at the end."""
        unit = next(self._units, None)
        self.exhausted = unit is None
        return unit

    def close(self) -> None:
        """Take no more."""
        self.exhausted = True


class AwaitedFeed(Feed):
    """Units that come when they come, such as those of a queue: a thread of its own waits for them.

    Args:
        units: iterated by the thread.
        ahead: how many units may wait here.
    """

    def __init__(self, units: Iterable[Unit], ahead: int) -> None:
        self._units = iter(units)
        self._waiting: deque[Unit] = deque()
        self._room = threading.Semaphore(ahead)
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._ear, self._bell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wake = self._ear
        self._thread = threading.Thread(target=self._draw, name="blixt-inputs", daemon=True)
        self._thread.start()

    def take(self) -> Unit | None:
        """Return a unit that has come, or None.

        Raises:
            Exception: what the iterator raised.
        """
        try:
            os.read(self._ear, 4096)
        except BlockingIOError:
            pass
        ended = self._ended  # read first: what came before the end is then seen below
        if not self._waiting:
            if ended and self._error is not None:
                raise self._error
            self.exhausted = ended
            return None
        unit = self._waiting.popleft()
        self._room.release()
        return unit

    def close(self) -> None:
        """Take no more; a thread that waits for an input ends with the process or the input."""
        self._closed = True
        self._room.release()
        self._thread.join(0.5)
        os.close(self._ear)
        if not self._thread.is_alive():
            os.close(self._bell)

    def _draw(self) -> None:
        try:
            for unit in self._drawn():
                self._waiting.append(unit)
                self._ring()
        except BaseException as problem:
            self._error = problem
        self._ended = True
        self._ring()

    def _drawn(self) -> Iterator[Unit]:
        """Draw a unit only when there is room for it."""
        while self._room.acquire() and not self._closed:
            unit = next(self._units, None)
            if unit is None or self._closed:
                return
            yield unit

    def _ring(self) -> None:
        try:
            os.write(self._bell, b"!")
        except (BlockingIOError, BrokenPipeError):
            return
