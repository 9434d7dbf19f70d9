"""JPEGs decoded to uint8 batches of 64, local shards, shuffled, with 1 and 2 workers.

    python -m benchmarks.data.decode [--quick] [--runs N] [--folder DIR] [--only TEXT]

All use the same decoder (libjpeg-turbo by simplejpeg). blixt decodes into the batch; the others decode
each image, stack them, and send the batch from a worker. The limit is decoding alone, into one buffer, on
one core.
"""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from benchmarks.data._bench import Competitor, Row, arguments, folder_of, run
from benchmarks.data._make import make
from benchmarks.data.raw import SYSTEMS

_SAMPLE = 1_000


def competitors(workers: int) -> list[Competitor]:
    return [
        Competitor("LitData", "litdata", {"workers": workers}),
        Competitor("blixt, threads", "blixt", {"workers": workers, "mode": "threads"}),
        Competitor("blixt, processes", "blixt", {"workers": workers, "mode": "processes"}),
        Competitor("mosaicml-streaming", "mosaic", {"workers": workers}),
    ]


def limit(folder: Path) -> tuple[float, str]:
    """Measure how many of the images one core decodes per CPU second."""
    import simplejpeg

    data, offsets = np.memmap(folder / "images.bin"), np.load(folder / "images.npy")
    images = [data[low:high].tobytes() for low, high in pairwise(offsets[: _SAMPLE + 1])]
    out = np.empty((256, 256, 3), np.uint8)
    rates: list[float] = []
    for _ in range(3):
        start = time.process_time()
        for image in images:
            simplejpeg.decode_jpeg(image, "RGB", buffer=out)
        rates.append(len(images) / (time.process_time() - start))
    return max(rates), "decoding alone, one core"


if __name__ == "__main__":
    given = arguments(__doc__)
    with folder_of(given) as folder:
        facts = make("images", folder, quick=given.quick, systems=SYSTEMS)
        rows = [
            Row(
                f"decode to uint8 batch, local, {n} worker{'s' * (n > 1)}",
                "decode",
                competitors(n),
                target=2,
                limit=lambda: limit(folder),
            )
            for n in (1, 2)
        ]
        run(
            "decode",
            rows,
            folder,
            given,
            {"data": f"{facts['count']:,} JPEGs 256x256, {facts['bytes'] / 1e6:.0f} MB"},
        )
