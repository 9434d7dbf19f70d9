"""A set of documents as packed blocks, anew and repeatably for each epoch."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from blixt.data.permute import mix_numbers
from blixt.llm.data.blocks import PackedBlock, Rows, Unit, block_of
from blixt.llm.data.fit import best_fit
from blixt.llm.errors import LLMError

WINDOW = 1 << 14
"""Documents that are packed with each other; more pack no better, and a window bounds the work."""


class Blocks(Protocol):
    """Blocks by number: index in, block out, so that resume is arithmetic."""

    @property
    def length(self) -> int:
        """Places in a block."""
        ...

    def count(self, epoch: int) -> int:
        """How many blocks an epoch has."""
        ...

    def block(self, epoch: int, index: int) -> PackedBlock:
        """Block `index` of an epoch, (T,)."""
        ...

    def identity(self) -> str:
        """Changes when the blocks do; a state is refused by other blocks."""
        ...


class Packed:
    """Documents packed into blocks.

    The order of an epoch, which documents share a block, and the order of the blocks depend on the seed and
    the epoch alone.

    Args:
        units: From `tokenize`; each of at most `length` places.
        length: Places in a block, the model's input length.
        seed: Names the order.
        shuffle: False keeps the order of the documents, nearly, and gives every epoch the same blocks.
        pack: False puts one unit into each block, padded: what packing is measured against.

    Raises:
        LLMError: A unit is longer than a block, or there is none.
    """

    def __init__(
        self, units: Sequence[Unit], length: int, *, seed: int = 0, shuffle: bool = True, pack: bool = True
    ) -> None:
        if not units:
            raise LLMError("there is nothing to pack: the data has no example that is left after tokenising")
        self.units, self._length, self.seed, self.shuffle, self.packs = units, length, seed, shuffle, pack
        self.lengths = [sum(document.slots for document in unit) for unit in units]
        longest = int(np.argmax(self.lengths))
        if self.lengths[longest] > length:
            raise LLMError(
                f"example {longest} takes {self.lengths[longest]} places and a block has {length}: tokenise "
                f"with max_length={length}, or make blocks longer"
            )
        self.slots = max(map(len, units))
        self._plan = lru_cache(maxsize=2)(self._planned)

    @property
    def length(self) -> int:
        """Places in a block."""
        return self._length

    @property
    def fill(self) -> float:
        """Share of the places of the first epoch's blocks that hold a token."""
        return sum(self.lengths) / (self.count(0) * self.length)

    def count(self, epoch: int) -> int:
        """How many blocks an epoch has; it differs a little from epoch to epoch."""
        return len(self._plan(epoch if self.shuffle else 0))

    def block(self, epoch: int, index: int) -> PackedBlock:
        """Block `index` of an epoch, (T,)."""
        members = self._plan(epoch if self.shuffle else 0)[index]
        return block_of([self.units[i] for i in members], self.length, self.slots)

    def identity(self) -> str:
        """A hash of the lengths, of a sample of the tokens, and of what decides the order."""
        digest = hashlib.sha256(np.asarray(self.lengths, np.int64).tobytes())
        for i in range(0, len(self.units), max(1, len(self.units) // 64)):
            for document in self.units[i]:
                digest.update(document.ids.tobytes())
                digest.update(document.mask.tobytes())
        digest.update(repr((self.length, self.seed, self.shuffle, self.packs, WINDOW)).encode())
        return digest.hexdigest()[:32]

    def _planned(self, epoch: int) -> list[list[int]]:
        """The members of every block of an epoch, in the order of the epoch."""
        random = np.random.Generator(np.random.Philox(mix_numbers(self.seed, epoch)))
        number = len(self.units)
        order: Rows = random.permutation(number) if self.shuffle else np.arange(number)
        blocks: list[list[int]] = []
        for start in range(0, number, WINDOW):
            window: list[int] = order[start : start + WINDOW].tolist()
            bins = best_fit([self.lengths[i] for i in window], self.length) if self.packs else None
            if bins is None:
                blocks += [[i] for i in window]
                continue
            members = [[window[i] for i in held] for held in bins]
            blocks += members if self.shuffle else sorted((sorted(held) for held in members), key=min)
        if self.shuffle and self.packs:  # best fit puts the fullest blocks first
            shuffled: list[int] = random.permutation(len(blocks)).tolist()
            blocks = [blocks[i] for i in shuffled]
        return blocks


def pack(
    units: Sequence[Unit], length: int, *, seed: int = 0, shuffle: bool = True, pack: bool = True
) -> Packed:
    """Pack documents into blocks; see `Packed`.

    Example:
        ```python
        blocks = pack(tokenize(examples, tokenizer, 2048).units, 2048)
        for batch in loader(blocks, batch_size=4):
            ...
        ```
    """
    return Packed(units, length, seed=seed, shuffle=shuffle, pack=pack)
