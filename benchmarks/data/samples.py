"""Small things: one sample at a time at random places (`ds[i]`), and batches of small fixed tensors.

    python -m benchmarks.data.samples [--quick] [--runs N] [--folder DIR] [--only TEXT]

`ds[i]` reads raw JPEG bytes of local shards at random places, without shuffle, in one process: as often as
there are samples, and 3,000 times, where most reads are the first of their block and check it. Fixed
tensors are 64 float32 and a number per sample, shuffled, batch 64, 1 worker; LitData also with the settings
that suit it best there.
"""

from benchmarks.data._bench import Competitor, Row, arguments, folder_of, run
from benchmarks.data._make import make
from benchmarks.data.raw import SYSTEMS

COUNTS = 20_000, 3_000
BEST = {"batch_decode": "all", "item_shuffle_window": 0}


def access(count: int) -> Row:
    options = {"count": count}
    return Row(
        f"ds[i] of raw bytes, local, {count:,} reads",
        "access",
        [
            Competitor("LitData", "litdata", options),
            Competitor("blixt", "blixt", options),
            Competitor("mosaicml-streaming", "mosaic", options),
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
        about = f"{images['count']:,} JPEGs; {tensors['count']:,} samples of 64 float32"
        run("samples", [*map(access, COUNTS), TENSORS], folder, given, {"data": about})
