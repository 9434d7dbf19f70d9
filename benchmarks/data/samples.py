"""Small things: one sample at a time at random places (`ds[i]`), and batches of small fixed tensors.

    python -m benchmarks.data.samples [--quick] [--runs N] [--folder DIR] [--only TEXT]

`ds[i]` reads raw JPEG bytes of local shards at as many random places as there are samples, without shuffle,
in one process; the first read of a block also checks it. Fixed tensors are 64 float32 and a number per
sample, shuffled, batch 64, 1 worker; LitData also with the settings that suit it best there.
"""

from benchmarks.data._bench import Competitor, Row, arguments, folder_of, run
from benchmarks.data._make import make
from benchmarks.data.raw import SYSTEMS

COUNT = 20_000
BEST = {"batch_decode": "all", "item_shuffle_window": 0}
ACCESS = Row(
    "ds[i] of raw bytes, local",
    "access",
    [
        Competitor("LitData", "litdata", {"count": COUNT}),
        Competitor("blixt", "blixt", {"count": COUNT}),
        Competitor("mosaicml-streaming", "mosaic", {"count": COUNT}),
    ],
    target=50,
)
TENSORS = Row(
    "fixed tensors, local, 1 worker",
    "tensors",
    [
        Competitor("LitData", "litdata", {"workers": 1}),
        Competitor("LitData, batch_decode='all'", "litdata", {"workers": 1, "dataset": BEST}),
        Competitor("blixt, one thread", "blixt", {"workers": 1}),
        Competitor("blixt, processes", "blixt", {"workers": 1, "mode": "processes"}),
        Competitor("mosaicml-streaming", "mosaic", {"workers": 1}),
    ],
    target=20,
)

if __name__ == "__main__":
    given = arguments(__doc__)
    with folder_of(given) as folder:
        images = make("images", folder, quick=given.quick, systems=SYSTEMS)
        tensors = make("tensors", folder, quick=given.quick, systems=SYSTEMS)
        about = (
            f"{images['count']:,} JPEGs, of which {COUNT:,} reads; {tensors['count']:,} samples of 64 float32"
        )
        run("samples", [ACCESS, TENSORS], folder, given, {"data": about})
