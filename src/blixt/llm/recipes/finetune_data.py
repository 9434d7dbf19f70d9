"""Examples as the blocks that finetuning takes."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blixt.llm.data import Loader, PackedBlock, load_examples, pack, split, tokenize
from blixt.llm.errors import RecipeError
from blixt.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from blixt.llm.recipes.finetune import FinetuneConfig


class Data:
    """Packed blocks for this rank, to train on and to measure on.

    Args:
        config: The run's.
        tokenizer: The model's.
        rank: Among those with different data.
        ranks: How many those are.
    """

    def __init__(self, config: "FinetuneConfig", tokenizer: Tokenizer, rank: int, ranks: int) -> None:
        share = config.batch_size // ranks
        self.micro_batch, self.val_batches = config.micro_batch_size or share, config.val_batches
        if not share or config.batch_size % ranks or share % self.micro_batch:
            raise RecipeError(
                f"batch_size={config.batch_size} does not divide into micro-batches of "
                f"{self.micro_batch} on {ranks} ranks: change batch_size or micro_batch_size"
            )
        kind: Any = config.data_kind
        train = load_examples(Path(config.data) if Path(config.data).exists() else config.data, kind)
        val = load_examples(config.val_data, kind) if config.val_data is not None else []
        if config.val_data is None and config.val_fraction:
            train, val = split(train, config.val_fraction, seed=config.seed)
        made = tokenize(train, tokenizer, config.block_size, learn=config.learn)
        blocks = pack(made.units, config.block_size, seed=config.seed, pack=config.pack)
        self.report, self.fill = made.report, blocks.fill
        rounds = None if config.steps else config.epochs
        self.train = Loader(blocks, share, epochs=rounds, rank=rank, world_size=ranks)
        self.val: Loader | None = None
        if val:
            held = tokenize(val, tokenizer, config.block_size, learn=config.learn)
            same = pack(held.units, config.block_size, shuffle=False)
            self.val = Loader(same, self.micro_batch, epochs=1, rank=rank, world_size=ranks)

    def held_out(self) -> list[PackedBlock]:
        """The same blocks each time."""
        assert self.val is not None, "asked for without validation data"
        self.val.restart()
        return list(islice(self.val, self.val_batches))
