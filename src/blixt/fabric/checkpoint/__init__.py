"""How a checkpoint reaches the disk and comes back."""

from blixt.fabric.checkpoint.background import AsyncCheckpointIO
from blixt.fabric.checkpoint.consolidate import consolidate
from blixt.fabric.checkpoint.dcp import is_complete
from blixt.fabric.checkpoint.io import load_file, save_file
from blixt.fabric.checkpoint.plugin import CheckpointIO, TorchCheckpointIO, WrappingCheckpointIO
from blixt.fabric.checkpoint.state import restore_state, state_of

__all__ = [
    "AsyncCheckpointIO",
    "CheckpointIO",
    "TorchCheckpointIO",
    "WrappingCheckpointIO",
    "consolidate",
    "is_complete",
    "load_file",
    "restore_state",
    "save_file",
    "state_of",
]
