"""A token stream read in blocks of any length, across documents and shards, with no tail lost."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.dataset import Shards
from blixt.data.errors import DataError
from blixt.data.order import Int
from blixt.data.rows import Rows

Block = npt.NDArray[np.int64]


class TokenDataset(Rows[Block]):
    """Blocks of a token stream: item `i` is an int64 array of `block_size + overlap` tokens.

    Block `k` begins at token `k * block_size`, so with the default overlap of 1 every token is a target once:
    `inputs, targets = item[:-1], item[1:]`. The last block is moved back so that it is as long as the others.

    Works as it is in `torch.utils.data.DataLoader` (map style); `blixt.data.torch` has a DataLoader with
    exact
    resume and an iterable form, and `Loader` needs no torch.

    Args:
        path: the dataset's folder.
        block_size: tokens from the start of one block to the start of the next.
        overlap: further tokens at the end of a block, shared with the next one.
        column: the stream column; may be left out when there is only one.
        version: the snapshot to read; the newest when None.
        shuffle: read blocks in a random order that `seed` and the epoch decide.
        seed: names the order.
        window: runs of neighbouring blocks (about 1 MiB) shuffled together.
        check: verify the stored checksums when bytes are first read.
        rank: this process's rank; from the environment (`RANK`) when None.
        world_size: the number of ranks; from the environment (`WORLD_SIZE`) when None.

    Raises:
        DatasetNotFoundError: when there is no such dataset or version.
        DataError: when it has no such stream, or too few tokens for one block.
    """

    def __init__(
        self,
        path: str | Path,
        block_size: int,
        *,
        overlap: int = 1,
        column: str | None = None,
        version: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 16,
        check: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if block_size < 1 or overlap < 0:
            raise ValueError(f"block_size must be >= 1 and overlap >= 0, got {block_size} and {overlap}")
        self.shards = Shards(path, version, check=check)
        snapshot = self.shards.snapshot
        self.column, item_bytes = _stream_column(self.shards, column)
        self.block_size, self.overlap = block_size, overlap
        self.length = block_size + overlap
        self.tokens = snapshot.tokens(self.column)
        if self.tokens < self.length:
            raise DataError(
                f"{path} has {self.tokens} tokens, too few for one block of {self.length}; "
                "choose a smaller block_size or add data"
            )
        self._first_token = [0, *accumulate(shard.tokens[self.column] for shard in snapshot.shards)]
        super().__init__(
            rows=-(-(self.tokens - overlap) // block_size),
            row_bytes=block_size * item_bytes,
            identity={
                "dataset_id": str(snapshot.dataset_id),
                "version": snapshot.version,
                "column": self.column,
                "block_size": block_size,
                "overlap": overlap,
            },
            shuffle=shuffle,
            seed=seed,
            window=window,
            rank=rank,
            world_size=world_size,
        )

    def gather(self, rows: Int) -> Block:
        """Return the blocks as one `[len(rows), block_size + overlap]` int64 array."""
        batch = np.empty((len(rows), self.length), np.int64)
        for row, block in zip(rows.tolist(), batch, strict=True):
            self._fill(row, block)
        return batch

    def item(self, row: int) -> Block:
        """Return one block."""
        block = np.empty(self.length, np.int64)
        self._fill(row, block)
        return block

    def items(self, rows: Int) -> list[Block]:
        """Return the blocks one by one, as views of one gather."""
        return list(self.gather(rows))

    def _fill(self, row: int, out: Block) -> None:
        """Copy a block, converted in the same pass, from the shard or the shards over which it lies."""
        start = min(row * self.block_size, self.tokens - self.length)
        shard = bisect_right(self._first_token, start) - 1
        while len(out):
            begin = self._first_token[shard]
            stop = min(start + len(out), self._first_token[shard + 1])
            out[: stop - start] = self.shards[shard].stream(self.column).tokens(start - begin, stop - begin)
            out, start, shard = out[stop - start :], stop, shard + 1


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
