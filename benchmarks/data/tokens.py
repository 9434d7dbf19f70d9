"""Blocks of 2,048 (+1) uint16 tokens as int64 batches of 64, local shards, shuffled.

    python -m benchmarks.data.tokens [--quick] [--runs N] [--folder DIR] [--only TEXT]

A sample is a block. blixt's loader is one thread of the process for every number of workers that the
others have: a gather per batch is too little work to share. The limit is gathering the blocks from a
memory map.
"""

import time
from pathlib import Path

import numpy as np
from benchmarks.data._bench import Competitor, Row, arguments, folder_of, run
from benchmarks.data._make import BLOCK, make
from benchmarks.data.raw import SYSTEMS


def competitors(workers: int) -> list[Competitor]:
    return [
        Competitor("LitData", "litdata", {"workers": workers}),
        Competitor("blixt, one thread", "blixt", {"workers": 0}),
        Competitor("blixt, processes", "blixt", {"workers": workers, "mode": "processes"}),
        Competitor("mosaicml-streaming", "mosaic", {"workers": workers}),
    ]


def limit(folder: Path) -> tuple[float, str]:
    """Measure how many blocks a gather from a memory map gives per CPU second, as int64."""
    ids = np.memmap(folder / "tokens.bin", np.uint16)
    starts = np.random.default_rng(0).permutation((len(ids) - 1) // BLOCK)[:20_000] * BLOCK
    out = np.empty((64, BLOCK + 1), np.int64)
    rates: list[float] = []
    for _ in range(3):
        begin = time.process_time()
        for low in range(0, len(starts) - 63, 64):
            for row, start in zip(out, starts[low : low + 64].tolist(), strict=True):
                row[:] = ids[start : start + BLOCK + 1]
        rates.append(len(starts) // 64 * 64 / (time.process_time() - begin))
    return max(rates), "gather from a memory map"


if __name__ == "__main__":
    given = arguments(__doc__)
    with folder_of(given) as folder:
        facts = make("tokens", folder, quick=given.quick, systems=SYSTEMS)
        rows = [
            Row(
                f"token blocks of {BLOCK}, local, {n} worker{'s' * (n > 1)}",
                "tokens",
                competitors(n),
                target=6,
                limit=lambda: limit(folder),
            )
            for n in (1, 2)
        ]
        run("tokens", rows, folder, given, {"data": f"{facts['count']:,} uint16 tokens"})
