"""Counters, gauges and histograms of an API in shared memory: one writer a process, summed by whoever asks.

Every event passes through a front, workers' events included (their frames carry computing time), so the pages
of the fronts and of their supervisor hold all numbers. They outlive the processes that wrote them: a front
that is started again goes on counting where the last one stopped.
"""

import mmap
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Self, TypeAlias

from blixt.serve.page import SharedMemory

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
COUNTERS = ("cancelled", "limited", "cache_hits", "pieces", "pauses", "restarts", "busy_us", *TOKENS)
GAUGES = (
    "in_flight",
    "queue_depth",
    "concurrency_limit",
    "workers",
    "workers_ready",
    "streams",
    "websockets",
    "slab_bytes",
)
HISTOGRAMS = {
    "seconds": SECONDS,
    "queue_seconds": SECONDS,
    "batch_wait_seconds": SECONDS,
    "first_piece_seconds": SECONDS,
    "token_seconds": SECONDS,
    "batch_sizes": SIZES,
}
STATUSES = range(100, 600)
Cells: TypeAlias = "memoryview[float]"


def _places() -> dict[str, int]:
    """Where each number of an API's block is, in cells."""
    places: dict[str, int] = {}
    end = 0
    for name in (*COUNTERS, *GAUGES):
        places[name] = end
        end += 1
    for name, bounds in HISTOGRAMS.items():
        places[name] = end
        end += len(bounds) + 2  # one a bucket, one above the last bound, and the sum
    places["status"] = end
    places["end"] = end + len(STATUSES)
    return places


AT = _places()
BLOCK = AT["end"]


class MetricsPage(SharedMemory):
    """The cells (float64) of one process: a block for each API."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.cells = memoryview(self._map).cast("d")

    @classmethod
    def create(cls, apis: int) -> Self:
        """A page of zeros for so many APIs."""
        pages = -(-max(1, apis) * BLOCK * 8 // mmap.PAGESIZE)
        return cls.allocate(pages * mmap.PAGESIZE)

    def block(self, index: int) -> Cells:
        """The cells of one API."""
        return self.cells[index * BLOCK : (index + 1) * BLOCK]

    def clear_gauges(self) -> None:
        """What is no longer there is not counted; for the page of a process that has ended."""
        for start in range(0, len(self.cells) - BLOCK + 1, BLOCK):
            for name in GAUGES:
                self.cells[start + AT[name]] = 0.0

    def close(self) -> None:
        """Give the memory back."""
        self.cells.release()
        super().close()


class Histogram:
    """Counts by bucket and the sum, in cells."""

    __slots__ = ("_bounds", "_cells", "_start", "_sum")

    def __init__(self, cells: Cells, start: int, bounds: tuple[float, ...]) -> None:
        self._cells = cells
        self._start = start
        self._bounds = bounds
        self._sum = start + len(bounds) + 1

    def observe(self, value: float) -> None:
        """Count one value."""
        cells = self._cells
        cells[self._start + bisect_left(self._bounds, value)] += 1.0
        cells[self._sum] += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count several values."""
        cells, start, bounds = self._cells, self._start, self._bounds
        for value in values:
            cells[start + bisect_left(bounds, value)] += 1.0
        cells[self._sum] += sum(values)


def _counter(name: str) -> property:
    at = AT[name]

    def get(self: "ApiMetrics") -> float:
        return self.cells[at]

    def set(self: "ApiMetrics", value: float) -> None:
        self.cells[at] = value

    return property(get, set)


class ApiMetrics:
    """What one process counts of one API.

    Args:
        cells: An API's block of a page; by default memory of its own.
    """

    cancelled = _counter("cancelled")
    limited = _counter("limited")
    cache_hits = _counter("cache_hits")
    pieces = _counter("pieces")
    pauses = _counter("pauses")
    restarts = _counter("restarts")
    busy_us = _counter("busy_us")
    prompt_tokens = _counter("prompt_tokens")
    completion_tokens = _counter("completion_tokens")
    cached_tokens = _counter("cached_tokens")

    def __init__(self, cells: "Cells | None" = None) -> None:
        self.cells: Cells = memoryview(bytearray(BLOCK * 8)).cast("d") if cells is None else cells
        self.seconds = self._histogram("seconds")
        self.queue_seconds = self._histogram("queue_seconds")
        self.batch_wait_seconds = self._histogram("batch_wait_seconds")
        self.first_piece_seconds = self._histogram("first_piece_seconds")
        self.token_seconds = self._histogram("token_seconds")
        self.batch_sizes = self._histogram("batch_sizes")
        self.gauges: dict[str, Callable[[], float]] = {}

    def answered(self, status: int, seconds: float) -> None:
        """Count one finished request."""
        cells = self.cells
        cells[_STATUS_0 + status] += 1.0
        cells[_SECONDS_0 + bisect_left(SECONDS, seconds)] += 1.0
        cells[_SECONDS_SUM] += seconds

    def tokens(self, prompt: int, completion: int, cached: int = 0) -> None:
        """Count a language model's tokens; `cached` are those of the prompt that came from a cache."""
        self.cached_tokens += cached
        self.prompt_tokens += prompt
        self.completion_tokens += completion

    def refresh(self) -> None:
        """Write the gauges down as they are now."""
        for name, read in self.gauges.items():
            self.cells[AT[name]] = read()

    def _histogram(self, name: str) -> Histogram:
        return Histogram(self.cells, AT[name], HISTOGRAMS[name])


_STATUS_0 = AT["status"] - STATUSES.start
_SECONDS_0 = AT["seconds"]
_SECONDS_SUM = AT["seconds"] + len(SECONDS) + 1


def total(blocks: Sequence[Cells]) -> list[float]:
    """The sum of one API's blocks over all processes."""
    return [sum(column) for column in zip(*blocks, strict=True)]
