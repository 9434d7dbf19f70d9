"""A file that every tool reads."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blixt.fabric.errors import FabricError
from blixt.fabric.loggers.base import FolderLogger, plain_params


class CSVLogger(FolderLogger):
    """Writes `metrics.csv` (one row a call, one column a metric) and `hparams.json`.

    Args:
        save_dir: The folder of all runs.
        name: One folder below.
        version: The run; by default the next free number.
        flush_logs_every_n_steps: Rows kept in memory before they reach the file.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str = "logs",
        version: int | str | None = None,
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version)
        self._every = flush_logs_every_n_steps
        self._columns: list[str] = ["step"]
        self._pending: list[dict[str, Any]] = []
        self._started = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep a row; every so many rows they are written."""
        self._pending.append({"step": step, **metrics})
        if len(self._pending) >= self._every:
            self.save()

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Write `hparams.json`."""
        folder = self._folder()
        (folder / "hparams.json").write_text(json.dumps(plain_params(params), indent=2) + "\n")

    def save(self) -> None:
        """Write the rows kept so far."""
        if not self._pending:
            return
        path = self._folder() / "metrics.csv"
        new = [name for row in self._pending for name in row if name not in self._columns]
        if new or not self._started:
            self._columns += dict.fromkeys(new)
            self._begin(path)
        with path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerows(self._pending)
        self._pending.clear()

    def _begin(self, path: Path) -> None:
        """Write the header, keeping the rows that this logger wrote under an older one."""
        rows: list[dict[str, Any]] = []
        if self._started:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        self._started = True

    def _folder(self) -> Path:
        folder = Path(self.log_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FabricError(
                f"CSVLogger cannot write to {folder}: {error}. Choose another save_dir."
            ) from error
        return folder
