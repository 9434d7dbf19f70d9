"""What a loader and a batch tell about their size."""

from collections.abc import Iterable, Sized
from typing import Any, cast

from torch.utils.data import DataLoader, IterableDataset

from blixt.fabric import tensors


def sized_len(dataloader: object) -> int | None:
    """Its length, or None when it has none."""
    try:
        return len(cast("Sized", dataloader))
    except (TypeError, NotImplementedError):
        return None


def has_iterable_dataset(dataloader: object) -> bool:
    """Whether it is a loader of a dataset that is only iterated."""
    return isinstance(getattr(dataloader, "dataset", None), IterableDataset)


def has_len(dataloader: Iterable[Any]) -> bool:
    """Whether it has a length that can be trusted."""
    return sized_len(dataloader) is not None and not has_iterable_dataset(dataloader)


def has_len_all_ranks(dataloader: object, strategy: object = None, allow_zero_length: bool = False) -> bool:
    """Whether it has a length; blixt's loaders agree on the end while they run, so ranks may differ."""
    return sized_len(dataloader) is not None


def extract_batch_size(batch: Any) -> int:
    """The first dimension of the first tensor in a batch; of a scalar, 1.

    Raises:
        RuntimeError: When there is no tensor.
    """
    for tensor in tensors(batch):
        return 1 if tensor.ndim == 0 else tensor.size(0)
    raise RuntimeError("The batch holds no tensor, so its size is unknown. Pass self.log(batch_size=...).")


def loader_is_plain(dataloader: object) -> bool:
    """Whether it is torch's own loader, exactly."""
    return type(dataloader) is DataLoader
