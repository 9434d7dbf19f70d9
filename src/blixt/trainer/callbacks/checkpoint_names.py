"""How a `ModelCheckpoint` calls its files."""

import os
from typing import TYPE_CHECKING, Any

import torch

from blixt.trainer.callbacks import checkpoint_files as files
from blixt.trainer.callbacks.base import Checkpoint

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class CheckpointNames(Checkpoint):
    """Names from patterns, free of those of other runs."""

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    dirpath: str | None
    filename: str | None
    auto_insert_metric_name: bool
    enable_version_counter: bool

    @property
    def best_k_models(self) -> dict[str, torch.Tensor]:
        """The monitored metric of each checkpoint that is kept."""
        return {}

    def format_checkpoint_name(
        self,
        metrics: dict[str, Any],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """The path of a checkpoint with these metrics.

        Args:
            metrics: Numbers or tensors of one element, with "epoch" and "step" among them.
            filename: Pattern to use instead of the callback's.
            ver: Number to append, as in "-v1".
            prefix: What to put before the name.

        Example:
            >>> from blixt.trainer import ModelCheckpoint
            >>> namer = ModelCheckpoint(filename="{epoch}-{loss:.2f}")
            >>> namer.format_checkpoint_name({"epoch": 3, "loss": torch.tensor(0.5)})
            'epoch=3-loss=0.50.ckpt'
        """
        join = self.CHECKPOINT_JOIN_CHAR
        pattern = filename or self.filename or f"{{epoch}}{join}{{step}}"
        name = files.fill_pattern(pattern, metrics, self.auto_insert_metric_name, self.CHECKPOINT_EQUALS_CHAR)
        parts = [prefix, name, None if ver is None else f"v{ver}"]
        name = join.join(part for part in parts if part is not None) + self.FILE_EXTENSION
        return os.path.join(self.dirpath, name) if self.dirpath else name

    def _free(
        self, trainer: "Trainer", metrics: dict[str, Any], own: str | None, pattern: str | None = None
    ) -> str:
        """The path to write, beside files of other runs; `own` may be overwritten."""

        def make(version: int | None) -> str:
            return self.format_checkpoint_name(metrics, pattern, version)

        path = make(None)
        if self.enable_version_counter and trainer.is_global_zero:
            path = files.first_free(
                make, lambda path: path != own and files.exists(path), self.STARTING_VERSION
            )
        return path if trainer.world_size == 1 else trainer.fabric.broadcast(path)

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Write paths and scores of the kept checkpoints to a YAML file, by default beside them."""
        target = filepath if filepath is not None else os.path.join(self.dirpath or ".", "best_k_models.yaml")
        lines = "".join(f"{p}: {float(s)}\n" for p, s in self.best_k_models.items())
        files.write_text(str(target), lines or "{}\n")
