"""Checkpoints on the way between all processes and the plug-in that keeps them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch.distributed as dist

from blixt.fabric.checkpoint.plugin import CheckpointIO
from blixt.fabric.cluster import World
from blixt.fabric.errors import CheckpointError

PathLike = str | os.PathLike[str]


def save_full(
    plugin: CheckpointIO, path: PathLike, content: Mapping[str, Any], storage_options: Any, world: World
) -> None:
    """Let rank 0 write `content`; all processes return when it did, or raise when it could not."""
    on_first_rank(lambda: plugin.save_checkpoint(dict(content), path, storage_options), world)


def load_any(
    plugin: CheckpointIO, path: PathLike, *, weights_only: bool, map_location: Any
) -> dict[str, Any]:
    """Read a checkpoint of either format."""
    return plugin.load_checkpoint(path, map_location=map_location, weights_only=weights_only)


def on_first_rank(action: Callable[[], None], world: World) -> None:
    """Call `action` on rank 0; its failure is raised on all processes, so that none waits for the others."""
    failure: BaseException | None = None
    if world.rank == 0:
        try:
            action()
        except Exception as error:  # told to the others first, then raised
            failure = error
    if world.world_size > 1 and dist.is_initialized():
        box: list[Any] = [None if failure is None else str(failure)]
        dist.broadcast_object_list(box, src=0)
        if world.rank != 0 and box[0] is not None:
            raise CheckpointError(f"Rank 0 could not do its part: {box[0]}")
    if failure is not None:
        raise failure
