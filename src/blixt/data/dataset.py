"""Datasets of samples: open a version, read rows as they were written or many at once by column."""

import resource
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.errors import CorruptionError, FormatError
from blixt.data.order import Int
from blixt.data.rows import Rows
from blixt.data.schema import unflatten
from blixt.data.shard.read import ShardReader
from blixt.data.snapshot import Snapshot, load


class Shards:
    """The shards of one version, mapped when first needed."""

    def __init__(self, root: str | Path, version: int | None = None, *, check: bool = True) -> None:
        self.root = Path(root)
        self.snapshot: Snapshot = load(self.root, version)
        self.first_row = [0, *accumulate(shard.rows for shard in self.snapshot.shards)]
        self._check = check
        self._readers: dict[int, ShardReader] = {}
        self._max_open = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    def __getitem__(self, number: int) -> ShardReader:
        """Return a shard's reader; with too many files open, the one that was opened first is closed."""
        reader = self._readers.get(number)
        if reader is None:
            reader = self._open(number)
            if len(self._readers) >= self._max_open:
                self._readers.pop(next(iter(self._readers)), None)
            self._readers[number] = reader
        return reader

    def __len__(self) -> int:
        return len(self.snapshot.shards)

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the maps; they are opened anew there."""
        return {**self.__dict__, "_readers": {}}

    def _open(self, number: int) -> ShardReader:
        info = self.snapshot.shards[number]
        path = self.root / "shards" / info.file
        reader = ShardReader(path, check=self._check)
        if reader.footer_crc != info.crc32c or reader.dataset_id != self.snapshot.dataset_id:
            raise CorruptionError(
                f"shard {path} is not the one that version {self.snapshot.version} names; "
                "restore it from a copy"
            )
        if reader.schema != self.snapshot.schema:
            raise FormatError(
                f"shard {path} has other columns than version {self.snapshot.version} of the dataset"
            )
        return reader


class Dataset(Rows[Any]):
    """The samples of a dataset: `len`, `[]`, slices, iteration, and `read_batch` by column.

    Args:
        path: the dataset's folder.
        version: the snapshot to read; the newest when None.
        shuffle: read in a random order that `seed` and the epoch decide; else in the stored order.
        seed: names the order.
        window: blocks (about 1 MiB of rows each) shuffled together; more mixes better, fewer touches less at
            a time.
        check: verify each block's checksum when it is first read.
        rank: this process's rank; from the environment (`RANK`) when None.
        world_size: the number of ranks; from the environment (`WORLD_SIZE`) when None.

    Raises:
        DatasetNotFoundError: when there is no such dataset or version.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        version: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 16,
        check: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.shards = Shards(path, version, check=check)
        snapshot = self.shards.snapshot
        super().__init__(
            rows=snapshot.rows,
            row_bytes=snapshot.size_bytes / max(snapshot.rows, 1),
            identity={"dataset_id": str(snapshot.dataset_id), "version": snapshot.version},
            shuffle=shuffle,
            seed=seed,
            window=window,
            rank=rank,
            world_size=world_size,
        )

    def gather(self, rows: Int) -> Any:
        """Return the rows as one batch: the sample's tree with stacked arrays (fixed columns) and lists."""
        schema = self.shards.snapshot.schema
        parts = self._by_shard(rows)
        leaves: dict[str, Any] = {}
        for column in schema.columns:
            values = [self.shards[shard].gather(column.name, local) for shard, local, _ in parts]
            leaves[column.name] = _reassemble(values, [where for *_, where in parts], len(rows))
        return unflatten(schema.structure, leaves)

    def item(self, row: int) -> Any:
        """Return one row as a sample, as it was written."""
        shard = bisect_right(self.shards.first_row, row) - 1
        return self.shards[shard].sample(row - self.shards.first_row[shard])

    def _by_shard(self, rows: Int) -> list[tuple[int, Int, npt.NDArray[np.intp]]]:
        """Group rows by shard: (shard, rows within it, where they belong in the batch)."""
        starts = np.array(self.shards.first_row)
        shard_of = np.searchsorted(starts, rows, "right") - 1
        return [
            (int(shard), rows[where] - starts[shard], where)
            for shard in np.unique(shard_of)
            for where in [np.flatnonzero(shard_of == shard)]
        ]


def _reassemble(values: list[Any], where: list[npt.NDArray[np.intp]], count: int) -> Any:
    """Put the parts that came from several shards back into batch order."""
    if len(values) == 1:
        return values[0]
    if isinstance(values[0], list):
        merged: list[Any] = [None] * count
        for part, places in zip(values, where, strict=True):
            for value, place in zip(part, places, strict=True):
                merged[place] = value
        return merged
    stacked = np.empty((count, *values[0].shape[1:]), values[0].dtype)
    for part, places in zip(values, where, strict=True):
        stacked[places] = part
    return stacked
