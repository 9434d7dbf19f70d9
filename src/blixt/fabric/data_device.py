"""Batches on their way to an accelerator: one ahead, on a stream of its own."""

from collections.abc import Iterator
from typing import Any

import torch

from blixt.fabric.tree import tensors, to_device


def to_device_ahead(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Copy each batch to a CUDA device while the one before it is being computed with.

    One batch is held ready. The copy overlaps with computation when the loader pins its memory
    (`DataLoader(pin_memory=True)`). The host never waits; the current stream does, on the GPU.
    """
    side = torch.cuda.Stream(device)
    ready = _copy(batches, device, side)
    while ready:
        batch = ready.pop()
        current = torch.cuda.current_stream(device)
        current.wait_stream(side)
        for tensor in tensors(batch):
            if tensor.is_cuda:
                tensor.record_stream(current)
        ready = _copy(batches, device, side)
        yield batch


def _copy(batches: Iterator[Any], device: torch.device, side: torch.cuda.Stream) -> list[Any]:
    """The next batch on its way, in a list; an empty one at the end."""
    for batch in batches:
        with torch.cuda.stream(side):
            return [to_device(batch, device)]
    return []
