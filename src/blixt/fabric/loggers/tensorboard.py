"""TensorBoard's event files, written by torch's own writer."""

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from blixt.fabric.errors import ConfigError, MissingPackageError
from blixt.fabric.loggers.base import rank_zero_experiment, with_prefix
from blixt.fabric.loggers.folder import CLASS_NAME, HPARAMS_FILE, FolderLogger, PathLike, make_folder
from blixt.fabric.loggers.params import Params, plain_params
from blixt.fabric.rank_zero import rank_zero_warn


class TensorBoardLogger(FolderLogger):
    """Writes event files for `tensorboard --logdir save_dir`, and `hparams.yaml`.

    Args:
        save_dir: The folder of all runs.
        name: One folder below.
        version: The run; by default the next free number.
        log_graph: Draw the model, when `log_graph` is called with an input.
        default_hp_metric: Log hyperparameters with a metric "hp_metric" of -1, which TensorBoard's page of
            hyperparameters needs to show a run; log "hp_metric" yourself to give it a meaning.
        prefix: Put before every metric's name, with a "-".
        sub_dir: One folder below the run's for the event files.
        root_dir: Another name for `save_dir`.
        writer_options: For torch's `SummaryWriter`: `purge_step`, `max_queue`, `flush_secs`, ...
    """

    NAME_HPARAMS_FILE = HPARAMS_FILE

    def __init__(
        self,
        save_dir: PathLike | None = None,
        name: str | None = CLASS_NAME,
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: PathLike | None = None,
        *,
        root_dir: PathLike | None = None,
        **writer_options: Any,
    ) -> None:
        folder = save_dir if save_dir is not None else root_dir
        if folder is None:
            raise ConfigError(
                "TensorBoardLogger(save_dir)", None, "the folder of all runs is needed", "Give one"
            )
        super().__init__(folder, name, version, prefix)
        self._draws = log_graph
        self._default_hp_metric = default_hp_metric
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._options = writer_options
        self._writer: Any = None

    @property
    def log_dir(self) -> str:
        """The folder of this run, or `sub_dir` in it."""
        folder = super().log_dir
        return folder if self._sub_dir is None else os.path.join(folder, self._sub_dir)

    @property
    def sub_dir(self) -> str | None:
        """The folder below the run's."""
        return self._sub_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `SummaryWriter`, for images, text and histograms; it is made on first use."""
        if self._writer is None:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                raise MissingPackageError("TensorBoardLogger", "tensorboard", error) from error
            make_folder(self.log_dir)
            self._writer = SummaryWriter(self.log_dir, **self._options)
        return self._writer

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """One scalar a metric; a mapping of numbers becomes several lines in one chart.

        Raises:
            ConfigError: For a value that is no number.
        """
        for name, value in with_prefix(metrics, self._prefix).items():
            if isinstance(value, Mapping):
                self.experiment.add_scalars(name, cast("Any", value), step)
                continue
            number = value.item() if isinstance(value, torch.Tensor) else value
            try:
                self.experiment.add_scalar(name, number, step)
            except (TypeError, ValueError, NotImplementedError) as error:
                reason = f"TensorBoard takes numbers ({error})"
                raise ConfigError(f"log_metrics({name})", value, reason, "Log a number") from error

    def log_hyperparams(
        self,
        params: Params,
        metrics: Mapping[str, Any] | float | None = None,
        step: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """For `hparams.yaml` and TensorBoard's page of hyperparameters.

        Args:
            params: However nested.
            metrics: What the run is judged by there; a number is called "hp_metric".
            step: Of these metrics; by default 0.
        """
        super().log_hyperparams(params)
        if metrics is None:
            judged: dict[str, Any] = {"hp_metric": -1} if self._default_hp_metric else {}
        else:
            judged = dict(metrics) if isinstance(metrics, Mapping) else {"hp_metric": metrics}
        if not judged:
            return
        self.log_metrics(judged, step or 0)
        from torch.utils.tensorboard.summary import (
            hparams,  # pyright: ignore[reportUnknownVariableType] - torch leaves it untyped
        )

        writer = self.experiment._get_file_writer()
        if writer is not None:
            for summary in cast("Any", hparams)(plain_params(params), judged):
                writer.add_summary(summary)

    def log_graph(self, model: nn.Module, input_array: torch.Tensor | None = None) -> None:
        """Draw the model's operations, if the logger was made with `log_graph=True`."""
        if not self._draws:
            return
        example = getattr(model, "example_input_array", None) if input_array is None else input_array
        if example is None:
            rank_zero_warn("TensorBoardLogger(log_graph=True) needs an input: set example_input_array.")
            return
        try:
            self.experiment.add_graph(model, example)
        except Exception as error:  # a drawing is not worth a run
            rank_zero_warn(f"TensorBoardLogger(log_graph=True): the model cannot be traced ({error}).")

    def save(self) -> None:
        """Flush the event file and write `hparams.yaml`."""
        super().save()
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:
        """Close the event file."""
        self.save()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __getstate__(self) -> dict[str, Any]:
        _ = self.version  # settled before copies go to other processes
        return {**vars(self), "_writer": None}
