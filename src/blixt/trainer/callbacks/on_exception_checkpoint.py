"""Save a checkpoint when a run ends with an error."""

import os
from typing import TYPE_CHECKING

from blixt.fabric import ConfigError
from blixt.trainer.callbacks.base import Checkpoint

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class OnExceptionCheckpoint(Checkpoint):
    """Keeps what a run had reached when it failed.

    Args:
        dirpath: Folder or URL.
        filename: Without its ending.
    """

    FILE_EXTENSION = ".ckpt"

    def __init__(self, dirpath: str | os.PathLike[str], filename: str = "on_exception") -> None:
        if not filename:
            raise ConfigError("OnExceptionCheckpoint(filename)", filename, "it is empty", "Leave it out")
        self.dirpath = os.fspath(dirpath)
        self.filename = filename

    @property
    def ckpt_path(self) -> str:
        """Where the checkpoint is written."""
        return os.path.join(self.dirpath, self.filename + self.FILE_EXTENSION)

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """Save; every rank that fails takes part."""
        trainer.save_checkpoint(self.ckpt_path)
