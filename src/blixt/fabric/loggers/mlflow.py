"""MLflow's tracking, by its own client."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

from blixt.fabric.errors import MissingPackageError
from blixt.fabric.loggers.base import Logger, rank_zero_experiment, with_prefix
from blixt.fabric.loggers.checkpoints import fresh_files, uploads_now
from blixt.fabric.loggers.params import Params, plain_params
from blixt.fabric.rank_zero import rank_zero_warn

_LOCAL = "file:"
_LONGEST_VALUE = 6000
_PARAMS_AT_ONCE = 100
_ODD_NAME = str.maketrans(dict.fromkeys("()[]{}<>=,;!?*\\'\"@#$%^&|~`+", "_"))


class MLFlowLogger(Logger):
    """One run of an experiment.

    Args:
        experiment_name: Made when there is none of this name.
        run_name: Shown for the run; by default MLflow invents one.
        tracking_uri: Of the server, database or folder; default MLFLOW_TRACKING_URI, else `save_dir`.
        tags: Of the run.
        save_dir: Folder for a store of files, when there is no `tracking_uri`.
        log_model: Upload checkpoints: True at the end (or at once if all are kept), "all" at once.
        prefix: Put before every metric's name, with a "-".
        artifact_location: Where a new experiment keeps its files.
        run_id: Of a run to continue.
        synchronous: Whether to wait for the server; None leaves it to MLflow.

    Raises:
        MissingPackageError: Without mlflow or mlflow-skinny.
    """

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
        save_dir: str | None = "./mlruns",
        log_model: Literal["all"] | bool = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:
        local = f"{_LOCAL}{save_dir}" if save_dir else None
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or local
        self._make_client = _maker_of_clients(uri)
        self._client: Any = None
        self._uri = uri
        self._experiment_name = experiment_name
        self._experiment_id: str | None = None
        self._run_name = run_name
        self._run_id = run_id
        self._tags = dict(tags or {})
        self._log_model = log_model
        self._prefix = prefix
        self._artifact_location = artifact_location
        self._how: dict[str, Any] = {} if synchronous is None else {"synchronous": synchronous}
        self._opened = False
        self._seen: dict[str, float] = {}
        self._callbacks: list[Any] = []

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `MlflowClient`; experiment and run are made, or found, on first use."""
        if self._client is None:
            self._client = self._make_client(self._uri)
        if not self._opened:
            self._open()
            self._opened = True
        return self._client

    @property
    def run_id(self) -> str | None:
        """Id of the run, which is begun if need be."""
        _ = self.experiment
        return self._run_id

    @property
    def experiment_id(self) -> str | None:
        """Id of the experiment, which is made if need be."""
        _ = self.experiment
        return self._experiment_id

    @property
    def name(self) -> str | None:
        """Id of the experiment: a folder's name is made of it."""
        return self.experiment_id

    @property
    def version(self) -> str | None:
        """Id of the run."""
        return self.run_id

    @property
    def save_dir(self) -> str | None:
        """The folder of a store of files; None for a server."""
        if self._uri is not None and self._uri.startswith(_LOCAL):
            return self._uri.removeprefix(_LOCAL)
        return None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers at one step; text is left out with a warning, odd characters in names become "_"."""
        client = self.experiment
        entity, now = _entities().Metric, int(time.time() * 1000)
        rows: list[Any] = []
        for name, value in with_prefix(metrics, self._prefix).items():
            if isinstance(value, str):
                rank_zero_warn(f"MLflow takes numbers only: {name}={value!r} was left out.")
                continue
            rows.append(entity(key=_clean(name), value=float(value), timestamp=now, step=step or 0))
        client.log_batch(run_id=self._run_id, metrics=rows, **self._how)

    def log_hyperparams(self, params: Params, *args: Any, **kwargs: Any) -> None:
        """Flattened; values are cut after 6000 characters, as MLflow asks."""
        client, entity = self.experiment, _entities().Param
        pairs = [(_clean(name), str(value)[:_LONGEST_VALUE]) for name, value in plain_params(params).items()]
        for start in range(0, len(pairs), _PARAMS_AT_ONCE):
            some = [entity(key=name, value=value) for name, value in pairs[start : start + _PARAMS_AT_ONCE]]
            client.log_batch(run_id=self._run_id, params=some, **self._how)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Upload at once, or remember the callback for the end."""
        if uploads_now(self._log_model, checkpoint_callback):
            self._upload(checkpoint_callback)
        elif self._log_model and not any(known is checkpoint_callback for known in self._callbacks):
            self._callbacks.append(checkpoint_callback)

    def finalize(self, status: str = "success") -> None:
        """Upload what was to go at the end, and close the run."""
        if self._client is None:
            return
        for callback in self._callbacks:
            self._upload(callback)
        ends = {"success": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "finished": "FINISHED"}
        run = self._client.get_run(self._run_id)
        if run.info.status == "RUNNING":
            self._client.set_terminated(self._run_id, ends.get(status, "FINISHED"))

    def _open(self) -> None:
        client = self._client
        if self._run_id is not None:
            self._experiment_id = client.get_run(self._run_id).info.experiment_id
            return
        found = client.get_experiment_by_name(self._experiment_name)
        if found is not None and found.lifecycle_stage != "deleted":
            self._experiment_id = found.experiment_id
        else:
            self._experiment_id = client.create_experiment(
                self._experiment_name, artifact_location=self._artifact_location
            )
        tags = {**self._tags, **({"mlflow.runName": self._run_name} if self._run_name else {})}
        run = client.create_run(experiment_id=self._experiment_id, tags=_all_tags(tags))
        self._run_id = run.info.run_id

    def _upload(self, callback: Any) -> None:
        for file in fresh_files(callback, self._seen):
            place = f"model/checkpoints/{Path(file.path).stem}"
            self.experiment.log_artifact(self._run_id, file.path, place)
            with TemporaryDirectory(prefix="blixt-mlflow-") as folder:
                about = {
                    "best": file.best,
                    "tag": file.tag,
                    "score": file.score,
                    "file": file.path,
                }
                notes = Path(folder) / "metadata.yaml"
                notes.write_text("".join(f"{name}: {value}\n" for name, value in about.items()))
                self.experiment.log_artifact(self._run_id, str(notes), place)
            self._seen[file.path] = file.time

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None}


def _clean(name: str) -> str:
    """MLflow's names have letters, digits, spaces and -_./: only."""
    return name.translate(_ODD_NAME)


def _all_tags(tags: dict[str, Any]) -> dict[str, Any]:
    """With those that MLflow finds by itself, such as the user and the source."""
    from mlflow.tracking.context.registry import resolve_tags  # pyright: ignore[reportUnknownVariableType]

    return cast("Any", resolve_tags)(tags)


def _maker_of_clients(uri: str | None) -> Any:
    if uri is not None and uri.startswith(_LOCAL):
        # MLflow keeps its store of files, and asks people who do not know it to choose a database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise MissingPackageError("MLFlowLogger", "mlflow-skinny", error) from error
    return MlflowClient


def _entities() -> Any:
    from mlflow import entities

    return entities
