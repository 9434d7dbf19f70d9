"""A token stream read in blocks of any length, across documents and shards, with no tail lost."""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blixt.data.crypto import Key
from blixt.data.errors import DataError
from blixt.data.fetch import IN_FLIGHT_BYTES, THREADS
from blixt.data.order import Int
from blixt.data.packing import Ids, documents_of, pack
from blixt.data.rows import Allocate, Rows
from blixt.data.shard.blocks import DECODED_BYTES
from blixt.data.shards import Access, Reading, Shards
from blixt.data.store import Credentials, Location, Store

Block = npt.NDArray[np.int64]
Documents = Literal["join", "mask", "pack"]
DOCUMENTS: tuple[Documents, ...] = ("join", "mask", "pack")


class TokenDataset(Rows[Any]):
    """Blocks of a token stream: item `i` is an int64 array of `block_size + overlap` tokens.

    Block `k` begins at token `k * block_size`, so with the default overlap of 1 every token is a target once:
    `inputs, targets = item[:-1], item[1:]`. The last block is moved back so that it is as long as the others.

    Whole documents, one an item, are the rows of a `Dataset`.

    Works as it is in `torch.utils.data.DataLoader` (map style); `blixt.data.torch` has a DataLoader with
    exact resume and an iterable form, and `Loader` needs no torch.

    Args:
        location: a folder, `s3://`, `gs://`, `az://`, `http(s)://`, `hf://datasets/...`, or a store.
        block_size: tokens from the start of one block to the start of the next.
        overlap: further tokens at the end of a block, shared with the next one.
        documents: "join": blocks run across documents; "mask": so they do, and each item is a dict of
            "tokens", "document" (the number of each token's document in the block) and "position" (its
            place in that document, or in the part of it that the block has), both int32; "pack": such
            dicts of whole documents, one after the other while they fit, then `pad` (with document and
            position -1). Only documents longer than a block are cut. With "pack" and "mask" document
            offsets are kept in memory (8 bytes each).
        pad: the token that fills packed blocks.
        column: the stream column; may be left out when there is only one.
        version: the snapshot to read; the newest when None.
        shuffle: read blocks in a random order that `seed` and the epoch decide.
        seed: names the order.
        window: runs of neighbouring blocks (about 1 MiB) shuffled together.
        check: verify the stored checksums when bytes are first read.
        rank: this process's rank; from the environment (`RANK`) when None.
        world_size: the number of ranks; from the environment (`WORLD_SIZE`) when None.
        credentials, options, cache_dir, cache_bytes, hedge, io_threads, io_bytes, key, unpacked_bytes: how
            remote, packed or encrypted data is reached, as in `Dataset`.

    Raises:
        DatasetNotFoundError: when there is no such dataset or version.
        DataError: when it has no such stream, or too few tokens for one block.
    """

    def __init__(
        self,
        location: Location | Store,
        block_size: int,
        *,
        overlap: int = 1,
        documents: Documents = "join",
        pad: int = 0,
        column: str | None = None,
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
        unpacked_bytes: int | str = DECODED_BYTES,
    ) -> None:
        if block_size < 1 or overlap < 0:
            raise ValueError(f"block_size must be >= 1 and overlap >= 0, got {block_size} and {overlap}")
        if documents not in DOCUMENTS:
            raise ValueError(f"documents must be one of {', '.join(DOCUMENTS)}, got {documents!r}")
        self.shards = Shards(
            location,
            version,
            access=Access(credentials, options or {}, cache_dir, cache_bytes, hedge, io_threads, io_bytes),
            reading=Reading(check, key, unpacked_bytes=unpacked_bytes),
        )
        snapshot = self.shards.snapshot
        self.column, item_bytes = _stream_column(self.shards, column)
        self.block_size, self.overlap, self.documents, self.pad = block_size, overlap, documents, pad
        self.length = block_size + overlap
        self.tokens = snapshot.tokens(self.column)
        self._first_token = [0, *accumulate(shard.tokens[self.column] for shard in snapshot.shards)]
        self._bounds_of_shards: Int = np.array(self._first_token)
        self._starts: dict[int, Int] = {}
        self._packed: Int | None = None
        if documents == "pack":
            self._packed = self._pack()
        elif self.tokens < self.length:
            raise DataError(
                f"{self.shards.root} has {self.tokens} tokens, too few for one block of {self.length}; "
                "choose a smaller block_size or add data"
            )
        blocks = -(-(self.tokens - overlap) // block_size) if self._packed is None else len(self._packed) - 1
        super().__init__(
            rows=blocks,
            row_bytes=block_size * item_bytes,
            identity={
                "dataset_id": str(snapshot.dataset_id),
                "version": snapshot.version,
                "column": self.column,
                "block_size": block_size,
                "overlap": overlap,
                "documents": documents,
            },
            shuffle=shuffle,
            seed=seed,
            window=window,
            rank=rank,
            world_size=world_size,
        )

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the blocks as one int64 array `[len(rows), block_size + overlap]`, or a dict of arrays."""
        tokens = allocate((len(rows), self.length), np.int64)
        lows, sizes = self._bounds(rows)
        self._ensure(lows, sizes)
        self._fill(lows, sizes, tokens)
        if self.documents == "join":
            return tokens
        spans = list(zip(lows.tolist(), sizes.tolist(), strict=True))
        document, position = (allocate(tokens.shape, np.int32) for _ in range(2))
        for i, (low, size) in enumerate(spans):
            document[i, size:] = position[i, size:] = -1
            document[i, :size], position[i, :size] = self._marks(low, low + size)
        return {"tokens": tokens, "document": document, "position": position}

    def item(self, row: int) -> Any:
        """Return one block."""
        return self.items(np.array([row]))[0]

    def items(self, rows: Int) -> list[Any]:
        """Return the blocks one by one, as views of one gather."""
        batch = self.gather(rows)
        if self.documents == "join":
            return list(batch)
        return [{name: column[i] for name, column in batch.items()} for i in range(len(rows))]

    def plan_ahead(self, rows: Int) -> None:
        """Hear which blocks will be read soon."""
        if not self.shards.are_local:
            self.shards.plan_tokens(self.column, self._spans(*self._bounds(rows)))

    def _bounds(self, rows: Int) -> tuple[Int, Int]:
        """Return where the blocks begin in the stream, and how many tokens they have."""
        if self._packed is not None:
            low = self._packed[rows]
            return low, self._packed[rows + 1] - low
        return np.minimum(rows * self.block_size, self.tokens - self.length), np.full(len(rows), self.length)

    def _spans(self, lows: Int, sizes: Int) -> list[tuple[int, int, int]]:
        """Return the parts of shards that hold tokens: (shard, first token in it, end)."""
        spans: list[tuple[int, int, int]] = []
        first_token = self._first_token
        for low, size in zip(lows.tolist(), sizes.tolist(), strict=True):
            shard, end = bisect_right(first_token, low) - 1, low + size
            while end > (stop := first_token[shard + 1]):
                if stop > low:
                    spans.append((shard, low - first_token[shard], stop - first_token[shard]))
                low, shard = stop, shard + 1
            if end > low:
                spans.append((shard, low - first_token[shard], end - first_token[shard]))
        return spans

    def _ensure(self, lows: Int, sizes: Int) -> None:
        if not self.shards.are_local:
            self.shards.ensure_tokens(self.column, self._spans(lows, sizes))

    def _fill(self, lows: Int, sizes: Int, out: Block) -> None:
        """Copy the blocks: those of full length that lie in one shard in one gather for each shard."""
        shards: Int = np.searchsorted(self._bounds_of_shards, lows, "right") - 1
        apart = (lows + self.length > self._bounds_of_shards[shards + 1]) | (sizes < self.length)
        together = np.flatnonzero(~apart)
        for shard in set(shards[together].tolist()):
            places: Int = together[shards[together] == shard]
            starts: Int = lows[places] - self._bounds_of_shards[shard]
            reader = self.shards[shard]
            out[places] = reader.stream(self.column).windows(starts, self.length)
            reader.confirm()
        for place in np.flatnonzero(apart).tolist():
            size = int(sizes[place])
            self._copy(int(lows[place]), out[place, :size])
            out[place, size:] = self.pad

    def _copy(self, low: int, out: Block) -> None:
        """Copy tokens, converted in the same pass, from the shard or the shards over which they lie."""
        shard = bisect_right(self._first_token, low) - 1
        while len(out):
            begin = self._first_token[shard]
            stop = min(low + len(out), self._first_token[shard + 1])
            reader = self.shards[shard]
            out[: stop - low] = reader.stream(self.column).tokens(low - begin, stop - begin)
            reader.confirm()
            out, low, shard = out[stop - low :], stop, shard + 1

    def _marks(self, low: int, high: int) -> tuple[Ids, Ids]:
        """Return each token's document (counted in the block) and its place in it."""
        shard = bisect_right(self._first_token, low) - 1
        starts = [self._documents_of(shard)]
        while self._first_token[shard + 1] < high:
            shard += 1
            starts.append(self._documents_of(shard))
        return documents_of(np.concatenate(starts) if len(starts) > 1 else starts[0], low, high)

    def _documents_of(self, shard: int) -> Int:
        """Return where the shard's documents begin in the whole stream, and where the last one ends."""
        starts = self._starts.get(shard)
        if starts is None:
            reader = self.shards[shard]
            starts = reader.stream(self.column).documents().astype(np.int64) + self._first_token[shard]
            reader.confirm()
            self._starts[shard] = starts
        return starts

    def _pack(self) -> Int:
        starts = [self._documents_of(shard)[:-1] for shard in range(len(self.shards))]
        return pack(np.append(np.concatenate(starts), self.tokens), self.length)


def _stream_column(shards: Shards, name: str | None) -> tuple[str, int]:
    """Return the stream column to read and the bytes of one of its tokens."""
    streams: dict[str, Any] = {
        column.name: column.dtype for column in shards.snapshot.schema.columns if column.kind == "stream"
    }
    if not streams:
        raise DataError(f"{shards.root} has no token stream; write its samples as Tokens(...)")
    if name is None and len(streams) > 1:
        raise DataError(
            f"{shards.root} has several token streams, choose column= one of {', '.join(streams)}"
        )
    chosen = name or next(iter(streams))
    if chosen not in streams:
        raise DataError(f"{shards.root} has no token stream {chosen!r}; it has {', '.join(streams)}")
    return chosen, np.dtype(streams[chosen]).itemsize
