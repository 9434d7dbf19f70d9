"""Preference pairs as packed batches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from blixt.llm.data import Encoded, Loader, Unit, load_examples, pack, split, tokenize
from blixt.llm.recipes.align import divisible, shares
from blixt.llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from blixt.llm.recipes.dpo import DPOConfig


def loaders(config: "DPOConfig", tokenizer: Tokenizer, rank: int, ranks: int) -> tuple[Loader, Loader, str]:
    """Batches to train on, held-out batches, and what became of the examples."""
    kind = config.data_kind
    examples = load_examples(config.data, kind)
    held_out = load_examples(config.val_data, kind) if config.val_data else None
    train, rest = split(examples, 0.0 if held_out else config.val_fraction, seed=config.seed)
    share, _ = shares(config.batch_size, config.micro_batch_size, ranks)
    # kto: an answer and a mismatched one
    length = config.block_size or divisible(2 * config.max_length, config.parallel.cp)
    made: list[Loader] = []
    said: list[str] = []
    for part, shuffle in ((train, True), (held_out or rest, False)):
        tokenized = tokenize(part, tokenizer, config.max_length)
        units = tokenized.units
        if config.loss == "kto":
            units = with_mismatches(units, config.max_length)
        blocks = pack(units, length, seed=config.seed, shuffle=shuffle)
        epochs = config.epochs if shuffle and not config.steps else None if shuffle else 1
        made.append(Loader(blocks, share, rank=rank, world_size=ranks, epochs=epochs))
        said.append(f"{'training' if shuffle else 'held out'}: {tokenized.report}")
    return made[0], made[1], "\n".join(said)


def with_mismatches(units: Sequence[Unit], max_length: int) -> list[Unit]:
    """Units for KTO: (wanted, unwanted, mismatched), from judged answers or from pairs, which count twice.

    The mismatched document is a prompt with the next example's answer.

    Args:
        units: (wanted or chosen, unwanted or rejected); an empty document is not there.
        max_length: Places a document may take.
    """
    nothing = Encoded(np.empty(0, np.int32), np.empty(0, np.bool_))
    single: list[tuple[Encoded, bool]] = []
    for wanted, unwanted in units:
        single += [(wanted, True)] if len(wanted.ids) else []
        single += [(unwanted, False)] if len(unwanted.ids) else []
    found: list[Unit] = []
    for i, (document, liked) in enumerate(single):
        prompt, _ = _parted(document)
        # Two on, because a pair's answers, side by side, belong to the same prompt.
        _, answer = _parted(single[(i + 2) % len(single)][0])
        mixed = Encoded(
            np.concatenate((prompt.ids, answer.ids))[: max_length + 1],
            np.concatenate((prompt.mask, answer.mask))[: max_length + 1],
        )
        found.append((document, nothing, mixed) if liked else (nothing, document, mixed))
    return found


def _parted(document: Encoded) -> tuple[Encoded, Encoded]:
    """What comes before the first learned token, and the rest."""
    at = int(document.mask.argmax())
    return Encoded(document.ids[:at], document.mask[:at]), Encoded(document.ids[at:], document.mask[at:])
