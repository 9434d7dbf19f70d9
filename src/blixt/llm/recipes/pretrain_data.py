"""Token shards as the blocks that pretraining takes."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from blixt.data.torch import DataLoader
from blixt.llm.data import PackedBlock
from blixt.llm.errors import RecipeError
from blixt.llm.shards import open_tokens

if TYPE_CHECKING:
    from blixt.llm.recipes.pretrain import PretrainConfig


class Data:
    """Blocks of tokens for one rank.

    Args:
        config: The run's.
        rank: Among those with different data.
        ranks: How many those are.

    Raises:
        RecipeError: The batch does not divide evenly.
    """

    def __init__(self, config: "PretrainConfig", rank: int, ranks: int) -> None:
        self.config, self.rank, self.ranks = config, rank, ranks
        share = max(1, config.batch_size // ranks)
        micro = config.micro_batch_size or share
        if config.batch_size % ranks or share % micro:
            raise RecipeError(
                f"batch_size={config.batch_size} does not divide into micro-batches of {micro} on "
                f"{ranks} ranks: change batch_size or micro_batch_size"
            )
        self.micro_batch, self.micro_batches = micro, share // micro

    def train(self) -> DataLoader:
        """Micro-batches of this rank's share of each global batch, shuffled."""
        return self._loader("train", self.micro_batch)

    def held_out(self) -> Iterator[PackedBlock]:
        """The same blocks each time."""
        loader = self._loader("val", max(1, self.config.batch_size // self.ranks))
        return map(as_block, islice(loader, self.config.val_batches))

    def _loader(self, part: str, batch_size: int) -> DataLoader:
        dataset = open_tokens(
            self.config.data,
            part,
            self.config.block_size,
            seed=self.config.seed,
            rank=self.rank,
            world_size=self.ranks,
            documents=self.config.documents,
        )
        return DataLoader(dataset, max(1, min(batch_size, len(dataset) // self.ranks)))


def as_block(batch: Any) -> PackedBlock:
    """What the shards give, (B, T + 1) tokens alone or with documents and positions, as a packed block."""
    if isinstance(batch, Mapping):
        found = cast("Mapping[str, Tensor]", batch)
        tokens, documents, positions = found["tokens"], found["document"].long(), found["position"].long()
    else:
        tokens: Tensor = batch
        documents = torch.zeros_like(tokens)
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    same = documents[:, 1:] == documents[:, :-1]
    return PackedBlock(tokens[:, :-1], tokens[:, 1:], same, positions[:, :-1], documents[:, :-1])
