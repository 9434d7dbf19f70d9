"""What loaders and batches tell about their size, and tensors as plain numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from importlib import import_module
from os import PathLike
from statistics import mean
from typing import Any, cast

import torch
from torch.utils.data import IterableDataset

from blixt.fabric import map_tensors, tensors


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


def convert_to_tensors(data: Any, device: torch.device) -> Any:
    """Numbers and tensors in nested data as tensors on a device."""
    if isinstance(data, dict):
        return {key: convert_to_tensors(value, device) for key, value in cast("dict[Any, Any]", data).items()}
    if isinstance(data, (list, tuple)):
        return [convert_to_tensors(value, device) for value in cast("list[Any]", data)]
    if isinstance(data, (bool, int, float, torch.Tensor)):
        return torch.as_tensor(data, device=device)
    return data


def convert_tensors_to_scalars(data: Any) -> Any:
    """Tensors of one element in nested data as numbers.

    Raises:
        ValueError: For a tensor of several elements.
    """

    def number(tensor: torch.Tensor) -> Any:
        if tensor.numel() != 1:
            raise ValueError(f"A tensor of {tensor.numel()} elements is not one number.")
        return tensor.item()

    return map_tensors(data, number)


def merge_dicts(
    dicts: Sequence[Mapping[str, Any]],
    agg_key_funcs: Mapping[str, Callable[[list[Any]], Any]] | None = None,
    default_func: Callable[[list[Any]], Any] = mean,
) -> dict[str, Any]:
    """One dict of several: each key's values through its own function, else through `default_func`."""
    functions = agg_key_funcs or {}
    keys = dict.fromkeys(key for each in dicts for key in each)
    return {
        key: functions.get(key, default_func)([each[key] for each in dicts if key in each]) for key in keys
    }


def get_filesystem(path: str | PathLike[str], **kwargs: Any) -> Any:
    """The fsspec file system that a path or URL belongs to."""
    core: Any = import_module("fsspec.core")
    return core.url_to_fs(str(path), **kwargs)[0]
