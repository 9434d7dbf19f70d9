"""Building datasets: `optimize` and `map` over processes and machines, `DatasetWriter` for your own loop.

A call becomes a `Job` whose notebook lies in the output store; its inputs are cut into `Unit`s, an
`Executor` claims them and has them run, and the shards that they wrote are published as one version.
"""

from blixt.data.build.executors import Executor, Leases, Local, Ranks, Ray
from blixt.data.build.leftovers import prune, sweep
from blixt.data.build.listing import list_files
from blixt.data.build.mapping import map
from blixt.data.build.optimize import optimize
from blixt.data.build.sources import ALL_DONE
from blixt.data.build.tables import ParquetRows, ParquetTables
from blixt.data.build.tars import TarSamples
from blixt.data.build.writer import DatasetWriter

__all__ = [
    "ALL_DONE",
    "DatasetWriter",
    "Executor",
    "Leases",
    "Local",
    "ParquetRows",
    "ParquetTables",
    "Ranks",
    "Ray",
    "TarSamples",
    "list_files",
    "map",
    "optimize",
    "prune",
    "sweep",
]
