"""Whole documents into blocks of a fixed length, in stored order: pure functions of their lengths."""

import numpy as np
import numpy.typing as npt

from blixt.data.order import Int

Ids = npt.NDArray[np.int32]


def pack(starts: Int, capacity: int) -> Int:
    """Return where each block begins in the stream, and where the last one ends.

    A block holds as many whole documents, one after the other, as fit. A document longer than a block is cut
    into pieces of a whole block; its rest shares a block with what follows. No token is left out.

    Args:
        starts: where each document begins, and where the last one ends.
        capacity: tokens in a block.

    Example:
        >>> pack(np.array([0, 3, 5, 6, 16]), capacity=5).tolist()
        [0, 5, 6, 11, 16]
    """
    starts = starts[np.concatenate([[True], np.diff(starts) > 0])]  # documents without tokens take no place
    pieces = -(-np.diff(starts) // capacity)
    number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    bounds = np.append(np.repeat(starts[:-1], pieces) + number * capacity, starts[-1])
    following = np.searchsorted(bounds, bounds + capacity, "right") - 1
    jumps, at, chosen = following.tolist(), 0, [0]
    while at < len(jumps) - 1:
        at = jumps[at]
        chosen.append(at)
    return bounds[np.array(chosen)]


def documents_of(starts: Int, low: int, high: int) -> tuple[Ids, Ids]:
    """Return, for each token of `[low, high)`, the number of its document in that range and its place in it.

    A document that began before `low` begins at `low`: what is attended to lies in the block.

    Args:
        starts: where documents begin; at least those in the range.
        low: the first token.
        high: the end.
    """
    first, last = np.searchsorted(starts, [low, high], "right")
    inside = starts[first:last]
    inside = np.unique(inside[(inside > low) & (inside < high)])
    begins = np.concatenate([[low], inside])
    lengths = np.diff(np.append(begins, high))
    ids = np.repeat(np.arange(len(begins), dtype=np.int32), lengths)
    return ids, (np.arange(low, high) - np.repeat(begins, lengths)).astype(np.int32)
