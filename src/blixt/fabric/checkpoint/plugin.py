"""The plug-in point between checkpoints and wherever they are kept."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch

from blixt.fabric.checkpoint.io import load_file, remove, save_file

PathLike = str | os.PathLike[str]


class CheckpointIO(ABC):
    """Reads and writes whole checkpoints; a subclass may keep them anywhere.

    Names and arguments are those that plug-ins written for other trainers have.
    """

    @abstractmethod
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any = None
    ) -> None:
        """Write `checkpoint`; called on rank 0.

        Args:
            checkpoint: Tensors and plain values. Tensors may be the live ones of the model.
            path: Where to.
            storage_options: Whatever this plug-in understands.
        """

    @abstractmethod
    def load_checkpoint(
        self, path: PathLike, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote."""

    @abstractmethod
    def remove_checkpoint(self, path: PathLike) -> None:
        """Delete a checkpoint; one that is not there is no error."""

    def expect_steady(self, tensors: Iterable[torch.Tensor]) -> None:  # noqa: B027
        """Hear which tensors of the next checkpoint change in optimizer steps only."""

    def wait_for_staging(self) -> None:  # noqa: B027 - nothing to wait for is a fine default
        """Return when the live tensors of a save under way may change again."""

    def teardown(self) -> None:  # noqa: B027
        """Return when everything is written; nothing is saved after this."""


class TorchCheckpointIO(CheckpointIO):
    """One `torch.save` file a checkpoint, written whole or not at all, on a disk or at an fsspec URL."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any = None
    ) -> None:
        """Write the file; `storage_options` go to fsspec, and are refused for a path of this machine."""
        save_file(path, checkpoint, storage_options=storage_options)

    def load_checkpoint(
        self, path: PathLike, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the file; only tensors and plain values unless `weights_only` is False."""
        return load_file(path, weights_only=weights_only is not False, map_location=map_location)

    def remove_checkpoint(self, path: PathLike) -> None:
        """Delete the file, or the directory of a sharded checkpoint."""
        remove(path)


class WrappingCheckpointIO(CheckpointIO):
    """Adds something to another plug-in; everything goes on to that one unless a subclass says otherwise.

    Args:
        checkpoint_io: The other; a `TorchCheckpointIO` when left out.
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        self.checkpoint_io = checkpoint_io if checkpoint_io is not None else TorchCheckpointIO()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: PathLike, storage_options: Any = None
    ) -> None:
        """Let the other write."""
        self.checkpoint_io.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(
        self, path: PathLike, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Let the other read."""
        return self.checkpoint_io.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: PathLike) -> None:
        """Let the other delete."""
        self.checkpoint_io.remove_checkpoint(path)

    def expect_steady(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tell the other."""
        self.checkpoint_io.expect_steady(tensors)

    def wait_for_staging(self) -> None:
        """Wait for the other."""
        self.checkpoint_io.wait_for_staging()

    def teardown(self) -> None:
        """End the other."""
        self.checkpoint_io.teardown()
