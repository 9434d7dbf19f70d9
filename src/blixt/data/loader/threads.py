"""Batches read by threads of this process: for work that frees the interpreter lock, and to read ahead."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from blixt.data.ahead import rows_of_steps
from blixt.data.errors import LoaderError
from blixt.data.loader.read import Reader, in_place
from blixt.data.steps import Steps

_JOIN_S = 1.0
_IN_PLACE_BYTES = 64 << 20
"""About how many bytes of batches that lie in mapped files still a thread is ahead of the consumer."""
_IN_PLACE_BATCHES = 64
_AWAY_S = 0.001
"""A consumer that stays away for longer has work of its own, which checking ahead spares it."""


def inline(reader: Reader, steps: Steps) -> Iterator[tuple[int, Any]]:
    """Yield each step and its batch, read when it is asked for."""
    for step, rows in rows_of_steps(reader.dataset, steps):
        yield step, reader.read(steps, step, rows)


def threaded(
    reader: Reader, steps: Steps, *, threads: int, prefetch: int, timeout_s: float
) -> Iterator[tuple[int, Any]]:
    """Yield each step and its batch in order; thread i reads every threads-th step and stays a little ahead.

    Raises:
        LoaderError: when a thread gives nothing for `timeout_s`.
    """
    lanes = [
        _Lane(reader, steps, range(i, len(steps), threads), prefetch) for i in range(min(threads, len(steps)))
    ]
    try:
        away_s = 0.0
        for step in range(len(steps)):
            batch = reader.finish(steps, step, lanes[step % threads].take(step, timeout_s, away_s))
            left = time.monotonic()
            yield step, batch
            away_s = time.monotonic() - left
    finally:
        for lane in lanes:
            lane.stop()


class _Lane:
    """One thread, what it has read, and how much further it may read.

    Threads of one interpreter take turns, and a turn costs more than a look at a queue. So the thread runs
    further ahead where batches take no memory yet, and hears of the room that the consumer made for many
    batches at once, or when the consumer waits.
    """

    def __init__(self, reader: Reader, steps: Steps, chosen: range, prefetch: int) -> None:
        self._ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[int] = queue.SimpleQueue()  # written in C
        self._taken, self._turn = 0, 1
        self._away = self._stopped = False
        self._thread = threading.Thread(
            target=self._read, args=(reader, steps, chosen, prefetch), name="blixt-data-reader", daemon=True
        )
        self._thread.start()

    def take(self, step: int, timeout_s: float, away_s: float) -> Any:
        """Return the next batch, or raise what reading it raised.

        Args:
            step: names the batch in messages.
            timeout_s: how long to wait for it.
            away_s: how long the consumer had to do with the batch before.
        """
        self._away = away_s > _AWAY_S
        if self._ready.empty():
            self._give_room()
        batch, problem = self._wait(step, timeout_s)
        if problem is not None:
            raise problem
        self._taken += 1
        if self._taken >= self._turn:
            self._give_room()
        return batch

    def stop(self) -> None:
        """End the thread after the batch that it is reading."""
        self._stopped = True
        self._room.put(1)
        self._thread.join(_JOIN_S)

    def _give_room(self) -> None:
        if self._taken:
            self._room.put(self._taken)
            self._taken = 0

    def _wait(self, step: int, timeout_s: float) -> tuple[Any, BaseException | None]:
        try:
            return self._ready.get(timeout=timeout_s)
        except queue.Empty:
            raise LoaderError(
                f"a reading thread gave no batch for {timeout_s:g} s at step {step}; is a transform "
                "or the storage "
                "stuck? raise timeout_s if it may take that long"
            ) from None

    def _read(self, reader: Reader, steps: Steps, chosen: range, prefetch: int) -> None:
        batch_bytes = max(reader.dataset.row_bytes * steps.batch_size, 1)
        most = max(min(int(_IN_PLACE_BYTES / batch_bytes), _IN_PLACE_BATCHES), prefetch)
        room, ahead = prefetch, prefetch
        try:
            batches = reader.batches(steps, chosen)
            for step in chosen:
                while room < 1 and not self._stopped:
                    room += self._room.get()
                if self._stopped:
                    return
                batch = next(batches)
                found = in_place(batch)
                if found is not None and self._away:
                    reader.check(steps, step, found)
                self._ready.put((batch, None))
                allowed = prefetch if found is None else most
                room += allowed - ahead - 1
                ahead, self._turn = allowed, max(allowed // 2, 1)
        except BaseException as problem:  # handed to the consumer, who raises it
            self._ready.put((None, problem))
