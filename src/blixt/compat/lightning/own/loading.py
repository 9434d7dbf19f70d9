"""Checkpoints and modules whose memory comes late, under the private names that libraries import."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from blixt.fabric.strategies.materialize import materialize


class NotYetLoadedTensor:
    """Lightning's stand-in for a tensor on disk. `lazy_load` maps the file instead, so nothing is one."""


def lazy_load(filename: str | Path) -> Any:
    """A checkpoint whose tensors are read from the file when they are looked at.

    Nothing but tensors and plain values is read.

    Raises:
        FileNotFoundError: When there is no such file.
    """
    if not Path(filename).is_file():
        raise FileNotFoundError(f"Path {str(filename)!r} does not exist or is not a file.")
    return torch.load(filename, map_location="cpu", mmap=True, weights_only=True)


def materialize_meta_tensors(module: nn.Module, device: torch.device | str) -> None:
    """Give parameters and buffers on the meta device memory, and their initial values."""
    materialize(module, torch.device(device))
