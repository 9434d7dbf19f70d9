"""Raw JPEG bytes from local shards, shuffled, in batches of 64, with 1 and 2 workers.

    python -m benchmarks.data.raw [--quick] [--runs N] [--folder DIR] [--only TEXT]

Every system hands out `bytes`. "threads" reads in threads of the process (blixt's choice where no Python
of the user runs); "processes" is blixt with worker processes, as LitData and mosaicml-streaming have.
"""

from benchmarks.data._bench import Competitor, Row, arguments, folder_of, run
from benchmarks.data._make import make

SYSTEMS = ["blixt", "litdata", "mosaic"]


def competitors(workers: int) -> list[Competitor]:
    return [
        Competitor("LitData", "litdata", {"workers": workers}),
        Competitor("blixt, threads", "blixt", {"workers": workers, "mode": "threads"}),
        Competitor("blixt, processes", "blixt", {"workers": workers, "mode": "processes"}),
        Competitor(
            "blixt, processes, memoryviews", "blixt", {"workers": workers, "mode": "processes", "views": True}
        ),
        Competitor("mosaicml-streaming", "mosaic", {"workers": workers}),
    ]


ROWS = [
    Row(f"raw JPEG bytes, local, {n} worker{'s' * (n > 1)}", "raw", competitors(n), target=2) for n in (1, 2)
]

if __name__ == "__main__":
    given = arguments(__doc__)
    with folder_of(given) as folder:
        facts = make("images", folder, quick=given.quick, systems=SYSTEMS)
        run(
            "raw",
            ROWS,
            folder,
            given,
            {"data": f"{facts['count']:,} JPEGs 256x256, {facts['bytes'] / 1e6:.0f} MB"},
        )
