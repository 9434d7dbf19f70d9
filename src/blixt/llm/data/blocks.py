"""Packed blocks: whole documents side by side in rows of one length, and what tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blixt.llm.losses.tokens import IGNORE

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class Encoded(NamedTuple):
    """A document as tokens.

    Attributes:
        ids: Token ids, (n,).
        mask: True for tokens that are to be learned, (n,); the first is never predicted, whatever it says.
    """

    ids: Ids
    mask: Mask

    @property
    def slots(self) -> int:
        """Places in a block: every token but the last is an input, every token but the first a target."""
        return max(0, len(self.ids) - 1)


Unit = tuple[Encoded, ...]
"""Documents that must share a block: one text, or the two answers of a preference pair."""


@dataclass
class PackedBlock:
    """Rows of packed documents, all fields (T,) for one row or (B, T) for a batch.

    Attributes:
        tokens: Inputs, int64; 0 in padding.
        targets: The next token of the same document, int64; -100 in padding.
        mask: True where the loss counts.
        positions: Place in the document, int64, from 0 in each; 0 in padding.
        documents: Number of the document in its row, int64; -1 in padding.
    """

    tokens: Tensor
    targets: Tensor
    mask: Tensor
    positions: Tensor
    documents: Tensor

    def to(self, device: torch.device | str) -> "PackedBlock":
        """The same on `device`; copies from pinned memory overlap with computation."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return PackedBlock(**moved)

    def sequences(self, count: int) -> Tensor:
        """Numbers of the documents that are unique in the batch, -1 in padding, like `documents`.

        Args:
            count: More than any row's highest number: row `b` numbers its documents from `b * count`.
        """
        offset = count * torch.arange(len(self.documents), device=self.documents.device)
        return torch.where(self.documents < 0, self.documents, self.documents + offset.unsqueeze(-1))


def block_of(units: Sequence[Unit], length: int, slots: int = 1) -> PackedBlock:
    """Lay units side by side in one row.

    Args:
        units: Of at most `length` places together.
        length: Places in the row.
        slots: Documents that a unit has at most: document `j` of unit `i` gets the number `i * slots + j`.
    """
    tokens, positions = np.zeros(length, np.int64), np.zeros(length, np.int64)
    targets, documents = np.full(length, IGNORE, np.int64), np.full(length, -1, np.int64)
    mask = np.zeros(length, np.bool_)
    at = 0
    for i, unit in enumerate(units):
        for j, document in enumerate(unit):
            end = at + document.slots
            tokens[at:end] = document.ids[:-1]
            targets[at:end] = document.ids[1:]
            mask[at:end] = document.mask[1:]
            positions[at:end] = np.arange(document.slots)
            documents[at:end] = i * slots + j
            at = end
    return PackedBlock(*map(torch.as_tensor, (tokens, targets, mask, positions, documents)))


def empty_block(length: int) -> PackedBlock:
    """A row of padding, which has no loss: what a rank gets that has nothing left at the end."""
    return block_of((), length)


def stack(blocks: Sequence[PackedBlock]) -> PackedBlock:
    """Rows (T,) as a batch (B, T)."""
    return PackedBlock(*(torch.stack([getattr(b, f.name) for b in blocks]) for f in fields(PackedBlock)))
