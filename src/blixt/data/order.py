"""The order of an epoch as a pure function: position in, row out, for any machine that asks.

Rows are grouped into *blocks* of neighbours (one read). Blocks are put in random order by a keyed permutation
and
cut into C *canonical streams*, which are interleaved; inside a stream, rows are shuffled within *windows* of
W
blocks. So a reader touches C x W blocks at a time, however large the dataset, and a batch mixes rows from all
over it. W = all blocks is an exact global shuffle.

Nothing here knows the world size, the batch size or the number of workers: position p of epoch e is the same
row
on every topology. Each lookup is arithmetic, O(1) in the size of the dataset; nothing of length N is stored.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
_ROUNDS = 6
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

    @property
    def blocks(self) -> int:
        """How many blocks the rows make."""
        return -(-self.rows // self.block_rows)

    @property
    def streams(self) -> int:
        """How many canonical streams are interleaved; each holds at least one whole window."""
        return next(count for count in _STREAM_COUNTS if count == 1 or self.blocks // self.window >= count)

    def at(self, positions: Int) -> Int:
        """Return the rows at these positions of the epoch, each in `[0, rows)`."""
        if not self.shuffle:
            return positions
        stream, index = self._interleaved(positions)
        return self._in_stream(stream, index)

    @cached_property
    def _key(self) -> int:
        return int(_mix(np.uint64(self.seed % 2**64), np.uint64(self.epoch + 1)))

    @cached_property
    def _short_slot(self) -> int:
        """Where the one block that may be shorter comes to lie after blocks were permuted."""
        slots = np.arange(self.blocks)
        return int(np.flatnonzero(permute(slots, self.blocks, self._key) == self.blocks - 1)[0])

    @cached_property
    def _short_by(self) -> int:
        return self.blocks * self.block_rows - self.rows

    @cached_property
    def _stream_slots(self) -> Int:
        """The slot at which each stream begins, and the end of the last."""
        return np.arange(self.streams + 1) * self.blocks // self.streams

    def _first_row(self, slots: Any) -> Any:
        """Return how many rows lie before these slots."""
        return slots * self.block_rows - np.where(slots > self._short_slot, self._short_by, 0)

    @cached_property
    def _rounds(self) -> tuple[Int, Int, list[Int]]:
        """Where the interleaving changes because a stream ran out: position, round, and the streams left."""
        lengths = np.diff(self._first_row(self._stream_slots))
        starts, rounds = [0], [0]
        alive: list[Int] = []
        for length in np.unique(lengths):
            left = np.flatnonzero(lengths >= length)
            alive.append(left)
            starts.append(starts[-1] + (int(length) - rounds[-1]) * len(left))
            rounds.append(int(length))
        return np.array(starts), np.array(rounds), alive

    def _interleaved(self, positions: Int) -> tuple[Int, Int]:
        """Return each position's stream and index within it: round robin over the streams not yet empty."""
        starts, rounds, alive = self._rounds
        part = np.searchsorted(starts, positions, "right") - 1
        stream, index = np.empty_like(positions), np.empty_like(positions)
        for number, streams in enumerate(alive):
            here = part == number
            turn = positions[here] - starts[number]
            stream[here] = streams[turn % len(streams)]
            index[here] = rounds[number] + turn // len(streams)
        return stream, index

    def _in_stream(self, stream: Int, index: Int) -> Int:
        """Shuffle within each index's window, then look up the block that the permutation put there."""
        begin, end = self._stream_slots[stream], self._stream_slots[stream + 1]
        slot, _ = self._slot_of(self._first_row(begin) + index)
        first = begin + (slot - begin) // self.window * self.window
        low, high = self._first_row(first), self._first_row(np.minimum(first + self.window, end))
        shuffled = permute(
            self._first_row(begin) + index - low, high - low, _mix(np.uint64(self._key), first)
        )
        slot, offset = self._slot_of(low + shuffled)
        return permute(slot, self.blocks, self._key) * self.block_rows + offset

    def _slot_of(self, row: Int) -> tuple[Int, Int]:
        """Return the slot that holds the n-th row in slot order, and the offset in its block."""
        after = row >= self._first_row(np.int64(self._short_slot + 1))
        padded = row + np.where(after, self._short_by, 0)
        return padded // self.block_rows, padded % self.block_rows


def permute(index: Int, size: Any, key: Any) -> Int:
    """Return a keyed random permutation of `[0, size)` at the given indices, without storing it.

    An unbalanced Feistel network on the next power of two, walked until the value falls inside (cycle
    walking), so
    it is a bijection for any size. `size` and `key` may be arrays that give each index its own.
    """
    size = np.broadcast_to(np.asarray(size, np.uint64), index.shape)
    key = np.broadcast_to(np.asarray(key, np.uint64), index.shape)
    bits = np.ceil(np.log2(np.maximum(size, 2).astype(np.float64))).astype(np.uint64)
    result = index.astype(np.uint64)
    walking = np.arange(len(index))
    while len(walking):
        result[walking] = _feistel(result[walking], bits[walking], key[walking])
        walking = walking[result[walking] >= size[walking]]
    return result.astype(np.int64)


def _feistel(value: npt.NDArray[np.uint64], bits: npt.NDArray[np.uint64], key: npt.NDArray[np.uint64]) -> Any:
    one = np.uint64(1)
    low_bits = (bits + one) >> one
    high_bits = bits - low_bits
    low_mask, high_mask = (one << low_bits) - one, (one << high_bits) - one
    high, low = value >> low_bits, value & low_mask
    for number in range(_ROUNDS):
        round_key = key + np.uint64(number)
        high = high ^ (_mix(low, round_key) & high_mask)
        low = low ^ (_mix(high, ~round_key) & low_mask)
    return (high << low_bits) | low


def _mix(value: Any, key: Any) -> Any:
    """Hash two 64-bit numbers into one (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        state = np.asarray(value, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.asarray(key, np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
