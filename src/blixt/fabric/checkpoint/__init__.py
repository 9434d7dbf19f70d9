"""How a checkpoint reaches the disk and comes back."""

from blixt.fabric.checkpoint.io import load_file, save_file
from blixt.fabric.checkpoint.state import restore_state, state_of

__all__ = ["load_file", "restore_state", "save_file", "state_of"]
