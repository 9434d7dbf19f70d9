"""What teacher and student read together, as packed batches."""

from pathlib import Path
from typing import TYPE_CHECKING

from blixt.llm.data import Loader, TokenBlocks, load_examples, pack, split, tokenize
from blixt.llm.recipes.align import shares
from blixt.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from blixt.llm.recipes.distill import DistillConfig


def loaders(
    config: "DistillConfig", tokenizer: Tokenizer, rank: int, ranks: int
) -> tuple[Loader, Loader, str]:
    """Batches to train on, held-out batches, and what became of the examples."""
    share, _ = shares(config.batch_size, config.micro_batch_size, ranks)
    epochs = None if config.steps else config.epochs
    length, seed = config.block_size, config.seed
    if (Path(config.data) / "train" / "index.json").is_file():
        parts = [TokenBlocks(Path(config.data) / part, length, seed=seed) for part in ("train", "val")]
        said = "token shards"
    else:
        examples = load_examples(config.data, config.data_kind)
        held_out = load_examples(config.val_data, config.data_kind) if config.val_data else None
        kept, rest = split(examples, 0.0 if held_out else config.val_fraction, seed=seed)
        made = [tokenize(part, tokenizer, length, learn=config.learn) for part in (kept, held_out or rest)]
        parts = [pack(tokenized.units, length, seed=seed) for tokenized in made]
        said = f"training: {made[0].report}\nheld out: {made[1].report}"
    train, val = (
        Loader(blocks, share, rank=rank, world_size=ranks, epochs=rounds)
        for blocks, rounds in zip(parts, (epochs, 1), strict=True)
    )
    return train, val, said


def restarted(loader: Loader) -> Loader:
    """The loader from its beginning: the same blocks each time."""
    loader.restart()
    return loader
