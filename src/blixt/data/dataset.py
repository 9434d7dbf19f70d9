"""Datasets of samples: open a version, read rows as they were written or many at once by column."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np

from blixt.data.access import Access, Reading
from blixt.data.crypto import Key
from blixt.data.decode import Decode
from blixt.data.fetch import IN_FLIGHT_BYTES, THREADS
from blixt.data.gather import Gather
from blixt.data.order import Int
from blixt.data.rows import Allocate, Rows
from blixt.data.schema import Structure
from blixt.data.shard.blocks import DECODED_BYTES
from blixt.data.shards import Shards
from blixt.data.store import Credentials, Location, Store
from blixt.data.types import Codec

__all__ = ["Dataset", "Shards"]


class Dataset(Rows[Any]):
    """The samples of a dataset: `len`, `[]`, slices, iteration, and `read_batch` by column.

    A dataset in a folder is mapped where it lies. One in a store is read in ranges, through a cache on this
    machine that other processes and jobs share; the first batch needs a few blocks, not whole shards.

    Args:
        location: a folder, `s3://`, `gs://`, `az://`, `http(s)://`, `hf://datasets/...`, presigned URLs (see
            `blixt.data.store.open_store`), or a store.
        version: the snapshot to read; the newest when None.
        shuffle: read in a random order that `seed` and the epoch decide; else in the stored order.
        seed: names the order.
        window: blocks (about 1 MiB of rows each) shuffled together; more mixes better, fewer touches less at
            a time.
        check: verify each block's checksum when it is first read.
        rank: this process's rank; from the environment (`RANK`) when None.
        world_size: the number of ranks; from the environment (`WORLD_SIZE`) when None.
        credentials: for the store; from the environment when None.
        options: for the store, such as `endpoint`, `tries` and `timeout_s`.
        cache_dir: where remote data is cached; BLIXT_CACHE or the user's cache folder when None.
        cache_bytes: how much disk the cache may take, such as "100GB"; three quarters of what is free when
            None. What is being read stays even above it. A shuffled epoch fetches each byte once when it
            holds the blocks that are shuffled together, `window` for each of the order's streams; more
            often below.
        hedge: ask a second time, beside the first request, for what takes longer than 95 % of the recent
            requests did: for stores whose slowest answers are much slower than most.
        io_threads: how many requests run at once in this process.
        io_bytes: how many bytes they may hold in memory together, such as "64MB".
        key: the key of an encrypted dataset, or a function from a key's id to it.
        decode: whether images and other media come decoded, or as the stored bytes; by name for some.
        codecs: your own codecs by name.
        allow_pickle: decode columns of pickles, which runs their code.
        unpacked_bytes: how much memory this process's unpacked blocks of compressed or encrypted data may
            take, such as "64MB".

    Raises:
        DatasetNotFoundError: when there is no such dataset or version.
        StoreError: when the store cannot be reached or refuses.
        CacheError: when the cache's folder cannot be used.
    """

    def __init__(
        self,
        location: Location | Store,
        *,
        version: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 16,
        check: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        credentials: Credentials = None,
        options: Mapping[str, str] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: int | str | None = None,
        hedge: bool = False,
        io_threads: int = THREADS,
        io_bytes: int | str = IN_FLIGHT_BYTES,
        key: Key | None = None,
        decode: Decode = True,
        codecs: Mapping[str, Codec] | None = None,
        allow_pickle: bool = False,
        unpacked_bytes: int | str = DECODED_BYTES,
    ) -> None:
        self.shards = Shards(
            location,
            version,
            access=Access(credentials, options or {}, cache_dir, cache_bytes, hedge, io_threads, io_bytes),
            reading=Reading(check, key, decode, codecs, allow_pickle, unpacked_bytes),
        )
        snapshot = self.shards.snapshot
        self._gather = Gather(self.shards, snapshot.schema, decode)
        self._starts: list[int] = snapshot.first_row.tolist()
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

    @property
    def structure(self) -> Structure:
        """The tree of a sample."""
        return self.shards.snapshot.schema.structure

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the rows as one batch: the sample's tree of stacked arrays, or lists where sizes differ."""
        return self._gather.batch(rows, allocate)

    def views(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return what `gather` does, with memoryviews of the mapped shards in place of bytes."""
        return self._gather.batch(rows, allocate, views=True)

    def batches(self, rows: Int, size: int) -> Iterator[Any] | None:
        """Yield the rows in batches of views where every column is given as it is stored; else None."""
        return self._gather.batches(rows, size)

    @overload
    def __getitem__(self, index: int | str | bytes) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice | str | bytes) -> Any:
        """Return the sample at an index, the samples of a slice, or the sample of a key (text or bytes)."""
        if type(index) is int and 0 <= index < self._rows and not self.shuffle:
            return self.item(index)
        if isinstance(index, (str, bytes)):
            return self.get(index)
        return super().__getitem__(index)

    def get(self, key: str | int | bytes) -> Any:
        """Return the sample that has a key; of several, the one that the dataset's policy names.

        Raises:
            KeyNotFoundError: when no sample has it, or the dataset has no keys.
        """
        return self.item(self.shards.keys.find(key))

    def item(self, row: int) -> Any:
        """Return one row as a sample, as it was written."""
        shard = bisect_right(self._starts, row) - 1
        return self.shards[shard].sample(row - self._starts[shard])

    def items(self, rows: Int) -> list[Any]:
        """Return rows as samples, having asked for what lacks of all of them at once."""
        self.shards.ensure([(number, local) for number, local, _ in self._gather.parts(rows)])
        return [self.item(row) for row in rows.tolist()]

    def plan_ahead(self, rows: Int) -> None:
        """Begin to fetch what these rows need, in order of use; returns at once."""
        self.shards.plan(rows)
