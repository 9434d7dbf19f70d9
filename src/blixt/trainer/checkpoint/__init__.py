"""The checkpoint file: what it holds, how it is written, found, read and brought up to date.

`dump` and `save` make one from the `Parts` of a trainer, the `restore_*` functions give the parts their state
back, `find_checkpoint` says which file is meant, `read` gets the content of any Trainer's file.
"""

from blixt.trainer.checkpoint.find import find_checkpoint, hpc_path, newest_checkpoint
from blixt.trainer.checkpoint.migrate import migrate_checkpoint
from blixt.trainer.checkpoint.parts import Parts
from blixt.trainer.checkpoint.read import load, read
from blixt.trainer.checkpoint.restore import (
    restore_callbacks,
    restore_model,
    restore_optimizers,
    restore_position,
)
from blixt.trainer.checkpoint.weights import load_weights
from blixt.trainer.checkpoint.write import dump, save

__all__ = [
    "Parts",
    "dump",
    "find_checkpoint",
    "hpc_path",
    "load",
    "load_weights",
    "migrate_checkpoint",
    "newest_checkpoint",
    "read",
    "restore_callbacks",
    "restore_model",
    "restore_optimizers",
    "restore_position",
    "save",
]
