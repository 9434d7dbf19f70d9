"""The order of an epoch as a pure function: position in, row out, for any machine that asks.

Rows are grouped into *blocks* of neighbours (one read). Blocks are put in random order by a keyed
permutation and cut into C *canonical streams*, which are interleaved; inside a stream, rows are shuffled
within *windows* of W blocks. So a reader touches C x W blocks at a time, however large the dataset, and a
batch mixes rows from all over it. W = all blocks is an exact global shuffle.

Nothing here knows the world size, the batch size or the number of workers: position p of epoch e is the
same row on every topology. Each lookup is arithmetic, O(1) in the size of the dataset; nothing of length N
is stored.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from blixt.data.permute import Int, mix, mix_numbers, permute, unpermute

__all__ = ["ALGORITHM", "Int", "Order"]

ALGORITHM = 2
"""Names how positions become rows; a state that was saved under another one is refused."""
_STREAM_COUNTS = (240, 120, 60, 48, 24, 12, 6, 4, 2, 1)
"""Highly composite, so that a stream divides evenly among most numbers of nodes."""


@dataclass(frozen=True)
class Order:
    """The order of one epoch.

    Args:
        rows: how many rows the dataset has.
        block_rows: rows in a block; the last block may be shorter.
        seed: names the order together with `epoch`.
        epoch: another epoch, another order.
        shuffle: False is the stored order.
        window: blocks that are shuffled together.

    Example:
        >>> order = Order(rows=10, block_rows=2, seed=0, epoch=0, window=5)
        >>> sorted(order.at(np.arange(10)).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    rows: int
    block_rows: int
    seed: int = 0
    epoch: int = 0
    shuffle: bool = True
    window: int = 16

    def __post_init__(self) -> None:
        if self.block_rows < 1 or self.window < 1:
            raise ValueError(f"block_rows and window must be >= 1, got {self.block_rows} and {self.window}")

    @cached_property
    def blocks(self) -> int:
        """How many blocks the rows make."""
        return -(-self.rows // self.block_rows)

    @cached_property
    def streams(self) -> int:
        """How many canonical streams are interleaved; each holds at least one whole window."""
        return next(count for count in _STREAM_COUNTS if count == 1 or self.blocks // self.window >= count)

    def at(self, positions: Int) -> Int:
        """Return the rows at these positions of the epoch, each in `[0, rows)`."""
        if not self.shuffle or not len(positions):
            return positions
        stream, index = self._interleaved(positions)
        return self._in_stream(stream, index)

    @cached_property
    def _key(self) -> int:
        return mix_numbers(self.seed, self.epoch)

    @cached_property
    def _short_slot(self) -> int:
        """Where the one block that may be shorter comes to lie after blocks were permuted."""
        return int(unpermute(np.array([self.blocks - 1]), self.blocks, self._key)[0])

    @cached_property
    def _short_by(self) -> int:
        return self.blocks * self.block_rows - self.rows

    @cached_property
    def _stream_slots(self) -> Int:
        """The slot at which each stream begins, and the end of the last."""
        return np.arange(self.streams + 1) * self.blocks // self.streams

    @cached_property
    def _stream_rows(self) -> Int:
        """How many rows lie before each stream, and all of them."""
        return self._first_row(self._stream_slots)

    def _first_row(self, slots: Int) -> Int:
        """Return how many rows lie before these slots."""
        return slots * self.block_rows - (slots > self._short_slot) * self._short_by

    @cached_property
    def _rounds(self) -> tuple[Int, Int, list[Int]]:
        """Where the interleaving changes because a stream ran out: position, round, and the streams left."""
        lengths = np.diff(self._stream_rows)
        starts, rounds = [0], [0]
        alive: list[Int] = []
        for length in sorted(set(lengths.tolist())):  # numpy's `unique` imports much that is not needed
            left = np.flatnonzero(lengths >= length)
            alive.append(left)
            starts.append(starts[-1] + (length - rounds[-1]) * len(left))
            rounds.append(length)
        return np.array(starts), np.array(rounds), alive

    def _interleaved(self, positions: Int) -> tuple[Int, Int]:
        """Return each position's stream and index within it: round robin over the streams not yet empty."""
        starts, _, alive = self._rounds
        part = np.searchsorted(starts, positions, "right") - 1
        if (part == part[0]).all():
            return self._in_part(int(part[0]), positions)
        stream, index = np.empty_like(positions), np.empty_like(positions)
        for number in range(len(alive)):
            here = np.flatnonzero(part == number)
            stream[here], index[here] = self._in_part(number, positions[here])
        return stream, index

    def _in_part(self, number: int, positions: Int) -> tuple[Int, Int]:
        starts, rounds, alive = self._rounds
        streams = alive[number]
        turn = positions - starts[number]
        whole = turn // len(streams)
        return streams[turn - whole * len(streams)], rounds[number] + whole

    def _in_stream(self, stream: Int, index: Int) -> Int:
        """Shuffle within each index's window, then look up the block that the permutation put there."""
        begin, end = self._stream_slots[stream], self._stream_slots[stream + 1]
        place = self._stream_rows[stream] + index
        slot, _ = self._slot_of(place)
        first = begin + (slot - begin) // self.window * self.window
        low = self._first_row(first)
        size = self._first_row(np.minimum(first + self.window, end)) - low
        shuffled = permute(place - low, size, mix(first, np.uint64(self._key)))
        slot, offset = self._slot_of(low + shuffled)
        return permute(slot, self.blocks, self._key) * self.block_rows + offset

    def _slot_of(self, row: Int) -> tuple[Int, Int]:
        """Return the slot that holds the n-th row in slot order, and the offset in its block."""
        end_of_short = (self._short_slot + 1) * self.block_rows - self._short_by
        padded = row + (row >= end_of_short) * self._short_by
        slot: Any = padded // self.block_rows
        return slot, padded - slot * self.block_rows
