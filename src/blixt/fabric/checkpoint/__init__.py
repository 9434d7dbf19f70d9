"""How a checkpoint reaches the disk and comes back."""

from blixt.fabric.checkpoint.io import load_file, save_file

__all__ = ["load_file", "save_file"]
