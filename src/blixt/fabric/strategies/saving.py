"""Checkpoints on the way between all processes and what keeps them."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blixt.fabric.checkpoint.background import AsyncCheckpointIO
from blixt.fabric.checkpoint.dcp import (
    is_directory_checkpoint,
    load_directory,
    save_directory,
)
from blixt.fabric.checkpoint.plugin import CheckpointIO
from blixt.fabric.checkpoint.together import first_does, several
from blixt.fabric.cluster import World

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

PathLike = str | os.PathLike[str]


def save_full(
    plugin: CheckpointIO, path: PathLike, content: Mapping[str, Any], storage_options: Any, world: World
) -> None:
    """Let rank 0 write `content`; all processes return when it did, or raise when it could not."""
    if world.world_size == 1:
        return plugin.save_checkpoint(dict(content), path, storage_options)
    first_does(lambda: plugin.save_checkpoint(dict(content), path, storage_options))


def load_any(
    plugin: CheckpointIO, path: PathLike, *, weights_only: bool, map_location: Any
) -> dict[str, Any]:
    """Read a checkpoint of either format."""
    if is_directory_checkpoint(path):
        return load_directory(path, weights_only=weights_only)
    return plugin.load_checkpoint(path, map_location=map_location, weights_only=weights_only)


def save_sharded(
    plugin: CheckpointIO, path: PathLike, content: Mapping[str, Any], storage_options: Any
) -> None:
    """Let all processes write their parts of `content`, in the background if the plug-in works there."""
    if isinstance(plugin, AsyncCheckpointIO) and several():
        plugin.save_directory(content, path, storage_options)
    else:
        save_directory(path, content, storage_options=storage_options)


def sharded_module_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A module's state as it is on this process, marked as a part."""
    from blixt.fabric.checkpoint.sharded import ShardedState

    return ShardedState(state)


def sharded_optimizer_state(module: "nn.Module", optimizer: "Optimizer") -> dict[str, Any]:
    """An optimizer's state under parameter names, marked as a part."""
    from blixt.fabric.checkpoint.sharded import ShardedState
    from blixt.fabric.strategies.states import named

    return ShardedState(named(module, optimizer))
