"""Optimise once, stream anywhere: samples in checksummed shards, read in an order that any topology shares.

`optimize` (or `DatasetWriter`) writes a dataset: immutable shards and one atomic commit per version.
`Dataset` reads samples, `TokenDataset` a token stream in blocks of any length, `Mix` and `Zip` several
datasets at once; `Loader` makes batches. The order of an epoch is a pure function, so a run resumes at
the exact row with any number of ranks. `FORMAT.md` specifies every byte on disk. Torch is not needed;
`blixt.data.torch` has a DataLoader for those who use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from blixt.data.codecs.video import VideoClip
from blixt.data.crypto import Encryption
from blixt.data.dataset import Dataset
from blixt.data.errors import (
    BuildError,
    ConflictError,
    CorruptionError,
    DataError,
    DatasetExistsError,
    DatasetNotFoundError,
    DecryptionError,
    FormatError,
    KeyNotFoundError,
    LoaderError,
    MissingDependencyError,
    SchemaError,
    WriteError,
)
from blixt.data.inspect import Report, head, info, statistics, verify
from blixt.data.loader import Loader
from blixt.data.merge import merge
from blixt.data.mix import Mix, Zip
from blixt.data.order import Order
from blixt.data.raw import RawDataset, RawFile, by_suffix
from blixt.data.rows import Rows
from blixt.data.shard.read import ShardReader
from blixt.data.shard.write import ShardInfo, ShardWriter
from blixt.data.snapshot import Snapshot
from blixt.data.store import Store, StoreError, open_store
from blixt.data.subset import Subset, split
from blixt.data.tokens import TokenDataset
from blixt.data.types import (
    Array,
    Audio,
    Codec,
    Coded,
    File,
    Graph,
    Image,
    Jpeg,
    Json,
    Pickle,
    Png,
    Ragged,
    StoredFile,
    Tensor,
    Text,
    Tiff,
    Tokens,
    Video,
    Waveform,
)
from blixt.data.update import delete, index_keys, update

if TYPE_CHECKING:
    from blixt.data.build import (
        ALL_DONE,
        DatasetWriter,
        Leases,
        ParquetRows,
        ParquetTables,
        Ranks,
        TarSamples,
        list_files,
        map,
        optimize,
        prune,
    )

__all__ = [
    "ALL_DONE",
    "Array",
    "Audio",
    "BuildError",
    "Codec",
    "Coded",
    "ConflictError",
    "CorruptionError",
    "DataError",
    "Dataset",
    "DatasetExistsError",
    "DatasetNotFoundError",
    "DatasetWriter",
    "DecryptionError",
    "Encryption",
    "File",
    "FormatError",
    "Graph",
    "Image",
    "Jpeg",
    "Json",
    "KeyNotFoundError",
    "Leases",
    "Loader",
    "LoaderError",
    "MissingDependencyError",
    "Mix",
    "Order",
    "ParquetRows",
    "ParquetTables",
    "Pickle",
    "Png",
    "Ragged",
    "Ranks",
    "RawDataset",
    "RawFile",
    "Report",
    "Rows",
    "SchemaError",
    "ShardInfo",
    "ShardReader",
    "ShardWriter",
    "Snapshot",
    "Store",
    "StoreError",
    "StoredFile",
    "Subset",
    "TarSamples",
    "Tensor",
    "Text",
    "Tiff",
    "TokenDataset",
    "Tokens",
    "Video",
    "VideoClip",
    "Waveform",
    "WriteError",
    "Zip",
    "by_suffix",
    "delete",
    "head",
    "index_keys",
    "info",
    "list_files",
    "map",
    "merge",
    "open_store",
    "optimize",
    "prune",
    "split",
    "statistics",
    "update",
    "verify",
]

_BUILD = frozenset(
    (
        "ALL_DONE",
        "DatasetWriter",
        "Leases",
        "ParquetRows",
        "ParquetTables",
        "Ranks",
        "TarSamples",
        "list_files",
        "map",
        "optimize",
        "prune",
    )
)
"""Names of `blixt.data.build`, which loads on first use: processes that only read start faster without it."""


def __getattr__(name: str) -> object:
    if name not in _BUILD:
        raise AttributeError(f"module 'blixt.data' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("blixt.data.build"), name)
    return value
