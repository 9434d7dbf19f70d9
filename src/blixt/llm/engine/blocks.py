"""Blocks of the paged cache: who holds which, what they contain, which go first when room is needed.

Pure bookkeeping, no tensors. A block is a number; number 0 is never handed out, so that a table may use it
for "nothing here".
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def chain(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a full block: a hash of everything up to its end.

    Equal keys mean equal tokens from the start of the sequence, under the same salt. With 160 bits of BLAKE2b
    a collision is out of reach, also for somebody who looks for one, so tokens need not be compared.

    Args:
        parent: Key of the block before; of the first block, `root(salt)`.
        tokens: The block's token ids.
    """
    return blake2b(parent + np.asarray(tokens, np.uint32).tobytes(), digest_size=20).digest()


def root(salt: str) -> bytes:
    """Where a chain begins; sequences share blocks only under the same salt (tenant, adapter)."""
    return blake2b(salt.encode(), digest_size=20).digest()


class BlockPool:
    """Counts who uses each block, and remembers what the unused ones still contain.

    A block is in use (one holder or more), blank (nobody's, content of no value) or idle (nobody's, but
    its key is known and a later request may revive it). Blank ones are handed out first, then the idle one
    that was released longest ago.

    Args:
        count: Number of blocks.
        spread: Place new sequences far apart and let them grow into their neighbours' numbers, so that most
            tables are consecutive and can be read without a gather. Worth it on a CPU.
    """

    def __init__(self, count: int, *, spread: bool = False) -> None:
        self.count = count
        self._spread = spread
        self._holders = np.zeros(count + 1, np.int32)
        self._blank = np.ones(count + 1, np.bool_)
        self._blank[0] = False
        self._blanks = count
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """How many blocks can be taken now."""
        return self._blanks + len(self._idle)

    @property
    def used(self) -> int:
        """How many blocks somebody holds."""
        return self.count - self.available

    def holders(self, block: int) -> int:
        """How many requests hold a block."""
        return int(self._holders[block])

    def take(self, after: int = 0) -> int:
        """Hand out a block for writing; the caller has checked `available`.

        Args:
            after: The number before the wished-for one; 0 starts a new sequence.
        """
        block = self._pick(after)
        if self._blank[block]:
            self._blank[block] = False
            self._blanks -= 1
        else:
            del self._idle[block]
            del self._block_of[self._key_of.pop(block)]
        self._holders[block] = 1
        return block

    def find(self, key: bytes) -> int:
        """The block with this content, or 0."""
        return self._block_of.get(key, 0)

    def hold(self, block: int) -> None:
        """One more holder of a block that `find` gave."""
        if not self._holders[block]:
            del self._idle[block]
        self._holders[block] += 1

    def release(self, block: int) -> None:
        """One holder less; the last one leaves it idle, or blank when its content has no key."""
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if block in self._key_of:
            self._idle[block] = None
        else:
            self._blank[block] = True
            self._blanks += 1

    def name(self, block: int, key: bytes) -> None:
        """Say what a held block contains; nothing happens when another block has that content already."""
        if block not in self._key_of and key not in self._block_of:
            self._key_of[block] = key
            self._block_of[key] = block

    def forget(self) -> None:
        """No content can be found any more: the weights changed, or a step failed."""
        for block in self._idle:
            self._blank[block] = True
        self._blanks += len(self._idle)
        self._idle.clear()
        self._key_of.clear()
        self._block_of.clear()

    def _pick(self, after: int) -> int:
        if after and after < self.count and self._blank[after + 1]:
            return after + 1
        if not self._blanks:
            return next(iter(self._idle))
        return self._middle_of_widest_gap() if self._spread else int(self._blank.argmax())

    def _middle_of_widest_gap(self) -> int:
        """A blank block with much room behind it, that leaves as much to whoever grows from the left."""
        blanks = np.flatnonzero(self._blank)
        breaks = np.flatnonzero(np.diff(blanks) != 1) + 1
        starts = np.concatenate(([0], breaks))
        lengths = np.diff(np.concatenate((starts, [blanks.size])))
        widest = int(lengths.argmax())
        first, length = int(blanks[starts[widest]]), int(lengths[widest])
        grows_from_left = first > 1 and bool(self._holders[first - 1])
        return first + (length // 2 if grows_from_left else 0)
