"""TensorBoard's event files, written by torch's own writer."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blixt.fabric.errors import FabricError
from blixt.fabric.loggers.base import FolderLogger, plain_params


class TensorBoardLogger(FolderLogger):
    """Writes event files for `tensorboard --logdir save_dir`.

    Args:
        save_dir: The folder of all runs.
        name: One folder below.
        version: The run; by default the next free number.
    """

    def __init__(
        self, save_dir: str | os.PathLike[str], name: str = "logs", version: int | str | None = None
    ) -> None:
        super().__init__(save_dir, name, version)
        self._writer: Any = None

    @property
    def experiment(self) -> Any:
        """The `SummaryWriter`, for images, text and histograms; it is made on first use."""
        if self._writer is None:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                sentence = "TensorBoardLogger needs TensorBoard: pip install 'blixt[train]'."
                raise FabricError(sentence) from error
            self._writer = SummaryWriter(self.log_dir)
        return self._writer

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """One scalar a metric."""
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """As text, which every TensorBoard shows."""
        table = "\n".join(f"|{name}|{value}|" for name, value in plain_params(params).items())
        self.experiment.add_text("hparams", f"|name|value|\n|---|---|\n{table}")

    def save(self) -> None:
        """Flush the event file."""
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __getstate__(self) -> dict[str, Any]:
        Path(self.log_dir)  # the version is settled before copies go to other processes
        return {**vars(self), "_writer": None}
