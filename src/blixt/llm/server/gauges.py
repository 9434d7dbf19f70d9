"""What engines do, in `/metrics` of the server: each worker writes its numbers down, the front reads them.

A worker takes a slot of a page of shared memory that all have. One that ends leaves its counts there, for its
successor to go on from; what it had running then counts no more.
"""

import fcntl
import os
from collections.abc import Iterator
from math import fsum
from typing import TYPE_CHECKING

from blixt.serve.metrics import Cells
from blixt.serve.page import SharedMemory

if TYPE_CHECKING:
    from blixt.llm.engine.metrics import Distribution, Stats

MOST_WORKERS = 64
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Of the engine's distributions; the front does not import the engine for them."""
GAUGES = {
    "running": "Requests that the engine computes now.",
    "waiting": "Requests that wait for room in the engine.",
    "blocks_used": "Blocks of the key-value cache in use.",
    "blocks_total": "Blocks of the key-value cache.",
}
COUNTERS = {
    "steps": "Steps of the engine.",
    "prompt_tokens": "Prompt tokens of requests that began.",
    "cached_tokens": "How many of those the prefix cache had.",
    "generated_tokens": "Tokens drawn.",
    "preemptions": "Times a request lost its blocks to another.",
    "guessed_tokens": "Tokens guessed by speculation.",
    "accepted_tokens": "How many of those were right.",
}
HISTOGRAMS = {
    "queue": "From a request's arrival at the engine to its first step.",
    "ttft": "From a request's arrival at the engine to its first token.",
    "tpot": "Mean time between a request's tokens after the first.",
}
_CELLS = 1 + len(GAUGES) + len(COUNTERS) + len(HISTOGRAMS) * (len(BOUNDS_S) + 2)
_COUNTED = 1 + len(GAUGES)


class EnginePage(SharedMemory):
    """The numbers of all workers of one model."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._cells: Cells = memoryview(self._map).cast("d")
        self._slot = -1
        self._before: list[float] = []

    @classmethod
    def create(cls) -> "EnginePage":
        """A page of zeros."""
        return cls.allocate(MOST_WORKERS * _CELLS * 8)

    def claim(self) -> None:
        """Worker: take a slot that nobody alive has; without one its numbers are not told."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            for slot in range(MOST_WORKERS):
                if not _alive(int(self._cells[slot * _CELLS])):
                    self._slot = slot
                    self._cells[slot * _CELLS] = os.getpid()
                    self._before = self._row(slot)
                    return
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def write(self, stats: "Stats") -> None:
        """Worker: note how things stand."""
        if self._slot < 0:
            return
        told = stats.speculation
        guessed, accepted = (told.proposed, told.accepted) if told is not None else (0, 0)
        named = {"guessed_tokens": guessed, "accepted_tokens": accepted}
        start = self._slot * _CELLS
        for at, name in enumerate(GAUGES, start + 1):
            self._cells[at] = getattr(stats, name)
        counts = [float(named.get(name, 0) or getattr(stats, name, 0)) for name in COUNTERS]
        for name in HISTOGRAMS:
            counts += _numbers(getattr(stats, name))
        for at, count in enumerate(counts, _COUNTED):
            self._cells[start + at] = self._before[at] + count

    def text(self, model: str) -> str:
        """Front: all workers' numbers as Prometheus text.

        Args:
            model: What clients call it; a label.
        """
        rows = [self._row(slot) for slot in range(MOST_WORKERS)]
        for row in rows:
            if not _alive(int(row[0])):
                row[1:_COUNTED] = [0.0] * len(GAUGES)
        sums = [fsum(column) for column in zip(*rows, strict=True)]
        label = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return "".join(f"{line}\n" for line in _lines(sums, f'model="{label}"'))

    def close(self) -> None:
        """Give the memory back."""
        self._cells.release()
        super().close()

    def _row(self, slot: int) -> list[float]:
        return [float(cell) for cell in self._cells[slot * _CELLS : (slot + 1) * _CELLS]]


def _numbers(values: "Distribution") -> list[float]:
    """A count for each bucket and one above the last, and the sum."""
    counts = [*values.counts, values.count - sum(values.counts)]
    return [*(float(count) for count in counts), values.sum_s]


def _alive(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lines(sums: list[float], label: str) -> Iterator[str]:
    at = 1
    for names, kind, end in ((GAUGES, "gauge", ""), (COUNTERS, "counter", "_total")):
        for name, help in names.items():
            yield f"# HELP blixt_llm_{name}{end} {help}"
            yield f"# TYPE blixt_llm_{name}{end} {kind}"
            yield f"blixt_llm_{name}{end}{{{label}}} {sums[at]:.12g}"
            at += 1
    for name, help in HISTOGRAMS.items():
        yield f"# HELP blixt_llm_{name}_seconds {help}"
        yield f"# TYPE blixt_llm_{name}_seconds histogram"
        total = 0.0
        for bound in (*BOUNDS_S, "+Inf"):
            total += sums[at]
            yield f'blixt_llm_{name}_seconds_bucket{{{label},le="{bound}"}} {total:.12g}'
            at += 1
        yield f"blixt_llm_{name}_seconds_sum{{{label}}} {sums[at]:.12g}"
        yield f"blixt_llm_{name}_seconds_count{{{label}}} {total:.12g}"
        at += 1
