"""A file that every tool reads."""

import csv
import os
from collections.abc import Mapping
from typing import Any

from blixt.fabric.errors import ConfigError
from blixt.fabric.loggers.base import rank_zero_experiment, with_prefix
from blixt.fabric.loggers.folder import CLASS_NAME, FolderLogger, PathLike, exists, make_folder, open_file
from blixt.fabric.loggers.params import Params, plain
from blixt.fabric.rank_zero import current_rank

METRICS_FILE = "metrics.csv"


class CSVLogger(FolderLogger):
    """Writes `metrics.csv` (one row a call, one column a metric) and `hparams.yaml`.

    A new metric adds a column, for which the file is written anew. A run that is given its `version` again
    goes on in its file.

    Args:
        save_dir: The folder of all runs, or an fsspec URL.
        name: One folder below.
        version: The run; by default the next free number.
        prefix: Put before every metric's name, with a "-".
        flush_logs_every_n_steps: The file is written when the step is a multiple of it, and at the end.
        root_dir: Another name for `save_dir`.
    """

    def __init__(
        self,
        save_dir: PathLike | None = None,
        name: str | None = CLASS_NAME,
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
        *,
        root_dir: PathLike | None = None,
    ) -> None:
        folder = save_dir if save_dir is not None else root_dir
        if folder is None:
            raise ConfigError("CSVLogger(save_dir)", None, "the folder of all runs is needed", "Give it")
        super().__init__(folder, name, version, prefix)
        self._every = flush_logs_every_n_steps
        self._writer: MetricsFile | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> "MetricsFile":
        """The file and the rows that are not in it yet."""
        if self._writer is None:
            self._writer = MetricsFile(self.log_dir)
        return self._writer

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep a row; every so many steps the rows are written."""
        if current_rank() != 0:
            return
        file: MetricsFile = self.experiment
        step = file.count if step is None else step
        file.log_metrics(with_prefix(metrics, self._prefix), step)
        if (step + 1) % self._every == 0:
            self.save()

    def log_hyperparams(self, params: Params | None = None, *args: Any, **kwargs: Any) -> None:
        """Keep them for `hparams.yaml`."""
        super().log_hyperparams(params or {})

    def save(self) -> None:
        """Write the rows kept so far, and `hparams.yaml`."""
        super().save()
        if self._writer is not None:
            self._writer.save()

    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()


class MetricsFile:
    """One run's `metrics.csv`.

    Args:
        log_dir: The run's folder.

    Attributes:
        metrics: Rows that are not in the file yet.
    """

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir
        self.metrics_file_path = os.path.join(log_dir, METRICS_FILE)
        self.metrics: list[dict[str, Any]] = []
        self._columns: list[str] | None = None
        self._written = 0

    @property
    def count(self) -> int:
        """Rows taken by this object."""
        return self._written + len(self.metrics)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Keep one row."""
        row = {name: plain(value) for name, value in metrics.items()}
        row["step"] = self.count if step is None else step
        self.metrics.append(row)

    def save(self) -> None:
        """Append the rows; a new column, or a place that cannot append, writes the file anew."""
        if not self.metrics:
            return
        if self._columns is None:
            make_folder(self.log_dir)
            self._columns = self._header()
        columns = sorted({*self._columns, *(name for row in self.metrics for name in row)})
        anew = columns != self._columns or "://" in self.metrics_file_path
        rows = [*(self._rows() if anew and self._columns else []), *self.metrics]
        with open_file(self.metrics_file_path, "w" if anew else "a") as file:
            writer = csv.DictWriter(file, columns)
            if anew:
                writer.writeheader()
            writer.writerows(rows)
        self._columns = columns
        self._written += len(self.metrics)
        self.metrics = []

    def _header(self) -> list[str]:
        """The columns of a file that a former process of this run left."""
        if not exists(self.metrics_file_path):
            return []
        with open_file(self.metrics_file_path, "r") as file:
            return next(iter(csv.reader(file)), list[str]())

    def _rows(self) -> list[dict[str, Any]]:
        with open_file(self.metrics_file_path, "r") as file:
            return list(csv.DictReader(file))
