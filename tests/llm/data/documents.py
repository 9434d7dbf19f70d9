"""Documents whose every token says which document and which place it is, so that losses show."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from blixt.llm.data import Encoded, PackedBlock, Unit

PLACES = 1000


def document(number: int, length: int, *, learn: bool = True) -> Encoded:
    """Token `i` of document `number` is `number * PLACES + i`."""
    ids = number * PLACES + np.arange(length, dtype=np.int32)
    return Encoded(ids, np.full(length, learn))


def units(lengths: Sequence[int]) -> list[Unit]:
    return [(document(i, length),) for i, length in enumerate(lengths)]


def targets_of(blocks: Sequence[PackedBlock]) -> list[int]:
    """All tokens that the blocks teach, sorted."""
    return sorted(int(t) for block in blocks for t in block.targets[block.mask])


def neighbours(block: PackedBlock) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each document in a row: its tokens, targets and positions."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in sorted(set(block.documents.tolist()) - {-1}):
        here = block.documents == number
        found.append((block.tokens[here], block.targets[here], block.positions[here]))
    return found
