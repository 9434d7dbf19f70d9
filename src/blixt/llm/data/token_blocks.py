"""Token shards of `blixt.data` as packed blocks: corpora too large to hold."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from blixt.data import TokenDataset
from blixt.data.errors import DataError
from blixt.data.permute import mix_numbers, permute
from blixt.llm.data.blocks import PackedBlock
from blixt.llm.errors import CorpusError
from blixt.llm.losses.tokens import IGNORE


class TokenBlocks:
    """A token stream as blocks, read from its shards as they are asked for.

    Args:
        location: A dataset with a token stream: a folder that `prepare` wrote (its `train` or `val`), or any
            address `blixt.data` opens.
        length: Places in a block.
        documents: "mask": blocks run across documents, which do not see each other; none is cut but at a
            block's edge, and every token is a target once. "join": nothing is kept apart. "pack": whole
            documents, padded.
        seed: Names the order.
        shuffle: Read blocks in a random order, anew each epoch.
        options: Further arguments of `TokenDataset`: credentials, cache_dir, key.

    Raises:
        CorpusError: There is no such dataset, or it has too few tokens for one block.
    """

    def __init__(
        self,
        location: str | Path,
        length: int,
        *,
        documents: str = "mask",
        seed: int = 0,
        shuffle: bool = True,
        **options: Any,
    ) -> None:
        kind: Any = documents
        try:
            # Ranks are the loader's business: it wants the whole of the data.
            self.dataset = TokenDataset(
                location, length, documents=kind, pad=0, rank=0, world_size=1, **options
            )
        except DataError as error:
            raise CorpusError(f"{location}: {error}") from error
        self._length, self.seed, self.shuffle, self.kind = length, seed, shuffle, documents

    @property
    def length(self) -> int:
        """Places in a block."""
        return self._length

    def count(self, epoch: int) -> int:
        """How many blocks an epoch has: all of them."""
        return len(self.dataset)

    def block(self, epoch: int, index: int) -> PackedBlock:
        """Block `index` of an epoch, (T,)."""
        row = index
        if self.shuffle:
            key = mix_numbers(self.seed, epoch)
            row = int(permute(np.array([index]), len(self.dataset), key)[0])
        item: Any = self.dataset.item(row)
        if self.kind == "join":
            ids = torch.as_tensor(item)
            marks = torch.zeros(len(item), dtype=torch.int64), torch.arange(len(item))
        else:
            ids = torch.as_tensor(item["tokens"])
            marks = tuple(torch.as_tensor(item[k]).long() for k in ("document", "position"))
        document, position = marks
        same = (document[1:] == document[:-1]) & (document[1:] >= 0)
        if self.kind != "pack" and row == len(self.dataset) - 1:
            # The last block is moved back to be as long as the others: what it repeats counts once.
            repeated = len(self.dataset) * self.length - (self.dataset.tokens - self.dataset.overlap)
            same[:repeated] = False
        return PackedBlock(
            tokens=ids[:-1].clone(),
            targets=torch.where(same, ids[1:], IGNORE),
            mask=same,
            positions=position[:-1].clamp(min=0),
            documents=document[:-1].clone(),
        )

    def identity(self) -> str:
        """The dataset, its version, and what decides the order."""
        return repr((sorted(self.dataset.identity.items()), self.seed, self.shuffle))
