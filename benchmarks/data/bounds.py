"""What must stay small: requests and time to open 100,000 shards, and memory while an epoch is read from S3.

    python -m benchmarks.data.bounds [--quick] [--runs N] [--folder DIR]

Opening is measured in this process, on a dataset of which only the index exists. Memory is what an epoch of
JPEGs from a cold cache takes beyond an open dataset, in a fresh process: private pages only, since the
mapped files of the cache are the kernel's to take back. What the arguments allow stands beside it.
"""

import json
import multiprocessing
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.data._bench import BATCH, arguments, folder_of, forget_caches, machine
from benchmarks.data._blixt import where
from benchmarks.data._make import make
from benchmarks.data._s3 import server, store_of, upload

from blixt.data import Dataset, Loader
from blixt.data.index import encode_index
from blixt.data.shard.table import ShardTable
from blixt.data.sizes import parse_size
from blixt.data.snapshot import load
from blixt.data.store.cloud import CloudStore

SHARDS, SHARDS_QUICK, ROWS_OF_ONE = 100_000, 10_000, 4096
IO_BYTES = "8MB", "64MB"
PREFETCH = 2
BASE_BYTES = 24 << 20
"""Threads' stacks, tables of blocks and offsets, the client: what does not depend on the arguments."""


class Counted(CloudStore):
    """A bucket that counts what is asked of it."""

    asked: list[str]

    def get(self, path: str) -> bytes:
        """Count a GET."""
        self.asked.append(f"GET {path}")
        return super().get(path)

    def size(self, path: str) -> int | None:
        """Count a HEAD."""
        self.asked.append(f"HEAD {path}")
        return super().size(path)


def put_index(s3: dict[str, Any], folder: Path, count: int) -> int:
    """Store the index of a dataset of so many shards; return its bytes."""
    names = [f"{number:08d}.shard".encode() for number in range(count)]
    ends = np.cumsum([len(name) for name in names]).astype(np.uint64)
    rows, sizes = (np.full(count, each, np.uint64) for each in (ROWS_OF_ONE, ROWS_OF_ONE << 14))
    shards = ShardTable(b"".join(names), ends, rows, sizes, np.arange(count, dtype=np.uint32), {})
    data = encode_index(replace(load(folder / "blixt-images"), shards=shards))
    store_of(s3, "many").put("index.bin", data)
    return len(data)


def opening(s3: dict[str, Any], runs: int) -> dict[str, Any]:
    """Open it and look up one batch of a shuffled epoch."""
    options = {"endpoint": s3["endpoint"], "region": "us-east-1"}
    wall: list[float] = []
    cpu: list[float] = []
    asked: list[str] = []
    for _ in range(runs):
        store = Counted(f"{s3['url']}/many", s3["credentials"], options)
        asked = store.asked = []
        start, used = time.perf_counter(), time.process_time()
        dataset = Dataset(store, shuffle=True)
        dataset.order.at(np.arange(BATCH))
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {"wall_s": statistics.median(wall), "cpu_s": statistics.median(cpu), "asked": asked}


def memory(folder: Path, s3: dict[str, Any], runs: int) -> dict[str, Any]:
    """Read epochs under several limits."""
    found: dict[str, Any] = {}
    row_bytes = load(folder / "blixt-images").size_bytes / load(folder / "blixt-images").rows
    for io_bytes in IO_BYTES:
        grown: list[int] = []
        for _ in range(runs):
            forget_caches(folder)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                grown.append(pool.apply(growth, (folder, s3, io_bytes)))
        batches = int(row_bytes * BATCH * (PREFETCH + 2))
        allowed = parse_size(io_bytes) + batches + BASE_BYTES
        found[io_bytes] = {"mb": statistics.median(grown) / 1e6, "allowed_mb": allowed / 1e6}
    return found


def growth(folder: Path, s3: dict[str, Any], io_bytes: str) -> int:
    """Read an epoch; return by how many private bytes this process grew at most."""
    options = where(folder, "images", {"s3": s3, "cache": "cold"})
    dataset = Dataset(**options, shuffle=True, decode=False, io_bytes=io_bytes)
    dataset[0]
    before, most = anonymous_bytes(), 0
    for _ in Loader(dataset, BATCH, prefetch=PREFETCH):
        most = max(most, anonymous_bytes())
    return most - before


def anonymous_bytes() -> int:
    """Return this process's private memory."""
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) << 10


def text(result: dict[str, Any]) -> str:
    """The figures as lines."""
    about, found = result["machine"], result["opening"]
    lines = [
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, load {about['load_at_start']:.1f} to "
        f"{result['load_at_end']:.1f}, {result['runs']} runs",
        f"{result['shards']:,} shards opened from S3 in {found['wall_s'] * 1000:.0f} ms "
        f"({found['cpu_s'] * 1000:.0f} ms CPU), index of {result['index_bytes'] / 1e6:.1f} MB: "
        + ", ".join(found["asked"]),
    ]
    for io_bytes, one in result["memory"].items():
        lines.append(
            f"S3 cold epoch with io_bytes={io_bytes}: {one['mb']:.0f} MB at most; "
            f"the arguments allow {one['allowed_mb']:.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write the results."""
    given = arguments(__doc__)
    count = SHARDS_QUICK if given.quick else SHARDS
    result: dict[str, Any] = {"machine": machine(), "runs": given.runs, "shards": count}
    with folder_of(given) as folder:
        make("images", folder, quick=given.quick, systems=["blixt"])
        with server(folder) as s3:
            upload(s3, folder, ["blixt-images"])
            result["index_bytes"] = put_index(s3, folder, count)
            result["opening"] = opening(s3, given.runs)
            result["memory"] = memory(folder, s3, given.runs)
    result["load_at_end"] = os.getloadavg()[0]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "data-bounds.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / "data-bounds.txt").write_text(text(result) + "\n")
    print(text(result))


if __name__ == "__main__":
    main()
