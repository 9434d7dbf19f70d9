"""Batches read by threads of this process: for work that frees the interpreter lock, and to read ahead."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

from blixt.data.ahead import rows_of_steps
from blixt.data.errors import LoaderError
from blixt.data.loader.read import Reader
from blixt.data.steps import Steps

_JOIN_S = 1.0


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
        for step in range(len(steps)):
            yield step, reader.finish(lanes[step % threads].take(step, timeout_s))
    finally:
        for lane in lanes:
            lane.stop()


class _Lane:
    """One thread, what it has read, and how much further it may read."""

    def __init__(self, reader: Reader, steps: Steps, chosen: range, prefetch: int) -> None:
        self._ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # a semaphore, but written in C
        for _ in range(prefetch):
            self._room.put(None)
        self._stopped = False
        self._thread = threading.Thread(
            target=self._read, args=(reader, steps, chosen), name="blixt-data-reader", daemon=True
        )
        self._thread.start()

    def take(self, step: int, timeout_s: float) -> Any:
        """Return the next batch, or raise what reading it raised."""
        try:
            batch, problem = self._ready.get(timeout=timeout_s)
        except queue.Empty:
            raise LoaderError(
                f"a reading thread gave no batch for {timeout_s:g} s at step {step}; is a transform "
                "or the storage "
                "stuck? raise timeout_s if it may take that long"
            ) from None
        if problem is not None:
            raise problem
        self._room.put(None)
        return batch

    def stop(self) -> None:
        """End the thread after the batch that it is reading."""
        self._stopped = True
        self._room.put(None)
        self._thread.join(_JOIN_S)

    def _read(self, reader: Reader, steps: Steps, chosen: range) -> None:
        try:
            batches = reader.batches(steps, chosen)
            for _ in chosen:
                self._room.get()
                if self._stopped:
                    return
                self._ready.put((next(batches), None))
        except BaseException as problem:  # handed to the consumer, who raises it
            self._ready.put((None, problem))
