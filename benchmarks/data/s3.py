"""Datasets in S3 (SeaweedFS on this machine): cold, warm, and how soon the first batch is there.

    python -m benchmarks.data.s3 [--quick] [--runs N] [--folder DIR] [--only TEXT] [--seconds S]

Cold: nothing is cached before a run. Warm: an epoch was read before. One worker; blixt reads in threads
of the process, the others in a worker process. The server runs on the same cores and is not counted.
LitData needs one option more than it sets to reach S3 over plain http (see `_litdata`). The limit is
what any reader with a cache on disk has to do: fetch the bytes, by the same client in ranges of 8 MiB one
after the other, and write them to a file as they arrive.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.data._bench import Competitor, Row, arguments, folder_of, run
from benchmarks.data._make import make
from benchmarks.data._s3 import server, store_of, upload
from benchmarks.data.raw import SYSTEMS

RANGE_BYTES = 8 << 20


def competitors(s3: dict[str, Any], **options: Any) -> list[Competitor]:
    shared = {"workers": 1, "s3": s3, **options}
    return [
        Competitor("LitData", "litdata", shared),
        Competitor("blixt, threads", "blixt", shared),
        Competitor("mosaicml-streaming", "mosaic", shared),
    ]


def two_workers(s3: dict[str, Any], **options: Any) -> list[Competitor]:
    return competitors(s3, **{**options, "workers": 2})


def limit(s3: dict[str, Any], name: str, samples: int, folder: Path) -> tuple[float, str]:
    """Measure how many samples per CPU second the bare client could fetch and write."""
    store = store_of(s3, name)
    start, total = time.process_time(), 0
    for path, size in store.list("shards"):
        with tempfile.TemporaryFile(dir=folder) as file:
            for low in range(0, size, RANGE_BYTES):
                high = min(size, low + RANGE_BYTES)
                store.read_to(path, low, high, partial(_write, file))
                total += high - low
    return samples / (time.process_time() - start), f"{total / 1e6:.0f} MB fetched and written"


def _write(file: IO[bytes], at: int, part: memoryview) -> None:
    file.write(part)


def rows_of(s3: dict[str, Any], folder: Path, images: int, blocks: int) -> list[Row]:
    cold, warm = {"before": "cold", "cache": "cold"}, {"before": "warm", "cache": "warm"}
    of_images = lambda: limit(s3, "blixt-images", images, folder)  # noqa: E731
    of_tokens = lambda: limit(s3, "blixt-tokens", blocks, folder)  # noqa: E731
    return [
        Row("S3 cold, raw bytes, 1 worker", "raw", competitors(s3, **cold), target=3, limit=of_images),
        Row("S3 cold, raw bytes, 2 workers", "raw", two_workers(s3, **cold), target=3, limit=of_images),
        Row("S3 cold, token blocks, 1 worker", "tokens", competitors(s3, **cold), target=4, limit=of_tokens),
        Row("S3 warm, raw bytes, 1 worker", "raw", competitors(s3, **warm), target=4),
        Row("S3 warm, raw bytes, 2 workers", "raw", two_workers(s3, **warm), target=4),
        Row(
            "S3 cold, first batch of raw bytes",
            "raw",
            competitors(s3, **cold, first=1),
            target=4,
            metric="first",
        ),
        Row(
            "S3 cold, first batch of tokens",
            "tokens",
            competitors(s3, **cold, first=1),
            target=4,
            metric="first",
        ),
    ]


if __name__ == "__main__":
    given = arguments(__doc__)
    with folder_of(given) as folder:
        images = make("images", folder, quick=given.quick, systems=SYSTEMS)
        tokens = make("tokens", folder, quick=given.quick, systems=SYSTEMS)
        with server(folder) as s3:
            systems = [system for system in SYSTEMS if system not in given.without]
            upload(s3, folder, [f"{system}-{kind}" for system in systems for kind in ("images", "tokens")])
            about = f"{images['count']:,} JPEGs, {tokens['count']:,} tokens, SeaweedFS"
            run(
                "s3",
                rows_of(s3, folder, images["count"], tokens["count"] // 2048),
                folder,
                given,
                {"data": about},
            )
