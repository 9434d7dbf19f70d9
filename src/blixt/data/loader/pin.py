"""Batches in page-locked memory, copied there by a thread while the caller works on the one before."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, cast

import numpy as np

from blixt.data.errors import LoaderError
from blixt.data.loader.read import EMPTY


def pinned(batches: Iterator[tuple[int, Any]], timeout_s: float) -> Iterator[tuple[int, Any]]:
    """Yield the same steps, their arrays as tensors in page-locked memory; one batch is copied ahead.

    Raises:
        LoaderError: when there is no torch with a GPU.
        TimeoutError: when a batch does not come within `timeout_s`.
    """
    pin = pinner()

    def following() -> tuple[int, Any] | None:
        step, batch = next(batches, (-1, EMPTY))
        return None if step < 0 else (step, batch if batch is EMPTY else pin(batch))

    with ThreadPoolExecutor(1, "blixt-data-pin") as thread:
        coming = thread.submit(following)
        while (ready := coming.result(timeout_s)) is not None:
            coming = thread.submit(following)
            yield ready


def pinner() -> Callable[[Any], Any]:
    """Return the function that copies a batch to page-locked memory.

    Raises:
        LoaderError: when there is no torch with a GPU.
    """
    try:
        torch = import_module("torch")
    except ImportError:
        raise LoaderError("pin=True gives torch tensors, and torch is not installed; leave pin out") from None
    if not torch.cuda.is_available():
        raise LoaderError("pin=True needs a GPU, and torch sees none; leave pin out")

    def pin(node: Any) -> Any:
        kind = cast(Any, type(node))
        if kind is dict:
            return {key: pin(child) for key, child in node.items()}
        if isinstance(node, (list, tuple)):
            children = [pin(child) for child in cast("list[Any]", node)]
            return kind(*children) if hasattr(kind, "_fields") else kind(children)
        if kind is np.ndarray and node.dtype.kind in "biufc":
            node = torch.from_numpy(node)
        return node.pin_memory() if isinstance(node, torch.Tensor) else node

    return pin
