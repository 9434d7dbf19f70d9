"""Randomness inside loader workers that does not depend on which worker loads a sample."""

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

_PRIME = 0x9E3779B97F4A7C15


def mix(*numbers: int) -> int:
    """A 63-bit seed made of several numbers, far from the seeds of neighbouring numbers."""
    state = 0
    for number in numbers:
        state = (state ^ (number & (2**64 - 1))) * _PRIME % 2**64
        state ^= state >> 29
    return state >> 1


class SeededDataset(Dataset[Any]):
    """A map-style dataset whose augmentations depend on the epoch's seed and the sample's index only.

    So a resumed epoch gives each sample the same augmentation, whichever worker loads it now.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        worker = get_worker_info()
        if worker is not None:
            key = index if isinstance(index, int) else hash(index)
            seed = mix(worker.seed - worker.id, key)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or name == "__getitems__":
            raise AttributeError(name)
        return getattr(self.dataset, name)
