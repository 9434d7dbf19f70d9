"""Comet, by its own client."""

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from blixt.fabric.errors import ConfigError, MissingPackageError
from blixt.fabric.loggers.base import Logger, rank_zero_experiment, with_prefix
from blixt.fabric.loggers.params import Params, plain, plain_params


class CometLogger(Logger):
    """One experiment of a project.

    Args:
        api_key: Default COMET_API_KEY or Comet's own configuration. Without one, only offline works.
        workspace: Of the project.
        project: Default COMET_PROJECT_NAME.
        experiment_key: Of the experiment; with `mode="get"` one that exists is continued.
        mode: "get_or_create", "get" or "create".
        online: False keeps everything in an archive of files, for `comet upload` later.
        prefix: Put before every metric's name, with a "-".
        save_dir: Folder of offline archives; default COMET_OFFLINE_DIRECTORY, else the current one.
        name: Shown for the experiment.
        config_options: For `comet_ml.ExperimentConfig`: `tags`, `log_code`, `offline_directory`, ...

    Raises:
        MissingPackageError: Without comet_ml.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        prefix: str | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = None,
        **config_options: Any,
    ) -> None:
        if mode not in (None, "get_or_create", "get", "create"):
            raise ConfigError("CometLogger(mode)", mode, "there is no such mode", "Use 'get_or_create'")
        _client()
        folder: Any = save_dir or config_options.pop("offline_directory", None)
        self._folder: str | None = None if folder is None else os.fspath(folder)
        self._project = project or os.environ.get("COMET_PROJECT_NAME")
        self._prefix = prefix or ""
        self._key = experiment_key
        self._online = online
        self._start: dict[str, Any] = {
            "api_key": api_key,
            "workspace": workspace,
            "project": self._project,
            "mode": mode,
            "online": online,
        }
        self._config = {**config_options, **({"name": name} if name else {})}
        self._experiment: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client's experiment, for everything it can do; it is begun on first use."""
        if self._experiment is None:
            client = _client()
            options = {**self._config, **({"offline_directory": self._folder} if self._folder else {})}
            self._experiment = client.start(
                **self._start, experiment_key=self._key, experiment_config=client.ExperimentConfig(**options)
            )
            self._key = self._experiment.get_key()
            self._experiment.log_other("Created from", "blixt")
        return self._experiment

    @property
    def name(self) -> str | None:
        """The project."""
        return self._project

    @property
    def version(self) -> str | None:
        """Key of the experiment, once there is one."""
        return self._key

    @property
    def save_dir(self) -> str | None:
        """Folder of offline archives."""
        return self._folder

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers at one step; "epoch" is taken as the epoch of the others."""
        numbers = {name: plain(value) for name, value in metrics.items()}
        epoch = numbers.pop("epoch", None)
        self.experiment.log_metrics(with_prefix(numbers, self._prefix), step=step, epoch=epoch)

    def log_hyperparams(self, params: Params, *args: Any, **kwargs: Any) -> None:
        """Flattened, and as one object of nested parameters."""
        self.experiment.log_parameters(plain_params(params))

    def log_graph(self, model: nn.Module, input_array: torch.Tensor | None = None) -> None:
        """The model's layers as text."""
        self.experiment.set_model_graph(str(model))

    def save(self) -> None:
        """Send what is waiting."""
        if self._experiment is not None:
            self._experiment.flush()

    def finalize(self, status: str) -> None:
        """Send what is waiting; offline, the archive is written now."""
        if self._experiment is None:
            return
        self._experiment.log_other("status", status)
        if self._online is False:
            self._experiment.end()
            self._experiment = None
        else:
            self._experiment.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_experiment": None}


def _client() -> Any:
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")
    try:
        import comet_ml
    except ImportError as error:
        raise MissingPackageError("CometLogger", "comet-ml", error) from error
    return comet_ml
