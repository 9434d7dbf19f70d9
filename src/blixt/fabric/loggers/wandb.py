"""Weights & Biases, by its own client."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from blixt.fabric.errors import ConfigError, MissingPackageError
from blixt.fabric.loggers.base import Logger, rank_zero_experiment, with_prefix
from blixt.fabric.loggers.checkpoints import FreshFile, fresh_files, uploads_now
from blixt.fabric.loggers.folder import PathLike
from blixt.fabric.loggers.params import Params, nested_params
from blixt.fabric.rank_zero import current_rank

_AXIS = "trainer/global_step"


class WandbLogger(Logger):
    """One run of a project.

    Args:
        name: Shown for the run; by default W&B invents one.
        save_dir: Folder below which the client keeps its files.
        version: Id of the run; one that exists is continued.
        offline: Keep everything in files, for `wandb sync` later.
        dir: Another name for `save_dir`.
        id: Another name for `version`.
        anonymous: Let people without an account log.
        project: Default WANDB_PROJECT, else "lightning_logs".
        log_model: Upload checkpoints: True at the end (or at once if all are kept), "all" at once.
        experiment: A run of the client that exists already.
        prefix: Put before every metric's name, with a "-".
        checkpoint_name: Of the uploaded artifact; by default "model-<id>".
        add_file_policy: "mutable" copies a checkpoint before it is uploaded, "immutable" does not.
        init_options: For `wandb.init`: `entity`, `group`, `tags`, `config`, ...

    Raises:
        MissingPackageError: Without the client.
        ConfigError: For `log_model` while offline: nothing can be uploaded then.
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: PathLike = ".",
        version: str | None = None,
        offline: bool = False,
        dir: PathLike | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        add_file_policy: Literal["mutable", "immutable"] = "mutable",
        **init_options: Any,
    ) -> None:
        if offline and log_model:
            reason = "checkpoints cannot be uploaded offline"
            raise ConfigError(
                "WandbLogger(log_model)", log_model, reason, "Use offline=False, or leave it out"
            )
        _client()
        self._offline = offline
        self._log_model = log_model
        self._prefix = prefix
        self._checkpoint_name = checkpoint_name
        self.add_file_policy = add_file_policy
        self._seen: dict[str, float] = {}
        self._callbacks: list[Any] = []
        self._run: Any = experiment
        self._options: dict[str, Any] = {
            "name": name,
            "project": project or os.environ.get("WANDB_PROJECT", "lightning_logs"),
            "dir": os.fspath(save_dir if dir is None else dir),
            "id": version or id,
            "resume": "allow",
            **({"mode": "offline"} if offline else {}),
            **({"anonymous": "allow"} if anonymous else {}),
        }
        self._options.update(**init_options)  # in this form jsonargparse finds which options there are

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client's run, for everything it can do; it is begun on first use."""
        if self._run is None:
            client = _client()
            if client.run is not None:
                self._run = client.run
            else:
                import wandb

                make_parent(self._options["dir"])
                self._run = wandb.init(**self._options)
            self._run.define_metric(_AXIS)
            self._run.define_metric("*", step_metric=_AXIS, step_sync=True)
        return self._run

    @property
    def name(self) -> str | None:
        """The project."""
        return self._options["project"]

    @property
    def version(self) -> str | None:
        """Id of the run, once there is one."""
        return self._run.id if self._run is not None else self._options["id"]

    @property
    def save_dir(self) -> str | None:
        """Folder below which the client keeps its files."""
        return self._options["dir"]

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """One row, with the step as its axis."""
        row = with_prefix(metrics, self._prefix)
        self.experiment.log(row if step is None else {**row, _AXIS: step})

    def log_hyperparams(self, params: Params, *args: Any, **kwargs: Any) -> None:
        """Into the run's config."""
        if current_rank() == 0:
            self.experiment.config.update(nested_params(params), allow_val_change=True)

    def watch(
        self, model: nn.Module, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True
    ) -> None:
        """Histograms of gradients and parameters, see `wandb.watch`."""
        self.experiment.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """A table of anything, from columns and rows or from a data frame."""
        self.log_metrics({key: _client().Table(columns=columns, data=data, dataframe=dataframe)}, step)

    def log_text(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[str]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """A table of texts."""
        self.log_table(key, columns, data, dataframe, step)

    def log_image(self, key: str, images: list[Any], step: int | None = None, **options: list[Any]) -> None:
        """Images: tensors, arrays, PIL images or paths; `options` hold one entry an image (caption=...)."""
        self._log_media("Image", key, images, step, options)

    def log_audio(self, key: str, audios: list[Any], step: int | None = None, **options: list[Any]) -> None:
        """Sounds: arrays or paths; `options` hold one entry a sound (sample_rate=...)."""
        self._log_media("Audio", key, audios, step, options)

    def log_video(self, key: str, videos: list[Any], step: int | None = None, **options: list[Any]) -> None:
        """Videos: arrays or paths; `options` hold one entry a video (fps=...)."""
        self._log_media("Video", key, videos, step, options)

    def _log_media(
        self, kind: str, key: str, items: list[Any], step: int | None, options: dict[str, list[Any]]
    ) -> None:
        wrong = next((name for name, values in options.items() if len(values) != len(items)), None)
        if wrong is not None:
            reason = f"there are {len(items)} item(s) and {len(options[wrong])} of these"
            raise ConfigError(
                f"log_{kind.lower()}({wrong})", options[wrong], reason, "Give one for each item"
            )
        make = getattr(_client(), kind)
        made = [
            make(item, **{name: values[index] for name, values in options.items()})
            for index, item in enumerate(items)
        ]
        self.log_metrics({key: made}, step)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Upload at once, or remember the callback for the end."""
        if uploads_now(self._log_model, checkpoint_callback):
            self._upload(checkpoint_callback)
        elif self._log_model and not any(known is checkpoint_callback for known in self._callbacks):
            self._callbacks.append(checkpoint_callback)

    @staticmethod
    def download_artifact(
        artifact: str,
        save_dir: PathLike | None = None,
        artifact_type: str | None = None,
        use_artifact: bool | None = True,
    ) -> str:
        """The folder with the files of an artifact, downloaded; the current run uses it, if there is one."""
        client = _client()
        if client.run is not None and use_artifact:
            found = client.run.use_artifact(artifact)
        else:
            found = client.Api().artifact(artifact, type=artifact_type)
        return str(found.download(root=None if save_dir is None else os.fspath(save_dir)))

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Say that this run uses an artifact."""
        return self.experiment.use_artifact(artifact, type=artifact_type)

    def finalize(self, status: str) -> None:
        """Upload what was to go at the end. The run stays open for tests; the client closes it at exit."""
        if status == "success":
            for callback in self._callbacks:
                self._upload(callback)

    def _upload(self, callback: Any) -> None:
        for file in fresh_files(callback, self._seen) if current_rank() == 0 else []:
            name = self._checkpoint_name or f"model-{self.experiment.id}"
            artifact = _client().Artifact(name=name, type="model", metadata=_about(callback, file))
            artifact.add_file(file.path, name="model.ckpt", policy=self.add_file_policy)
            self.experiment.log_artifact(artifact, aliases=["latest", "best"] if file.best else ["latest"])
            self._seen[file.path] = file.time

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_run": None, "_options": {**self._options, "id": self.version}}


def make_parent(folder: str) -> None:
    """Make the folder that the client does not make itself."""
    Path(folder).mkdir(parents=True, exist_ok=True)


def _about(callback: Any, file: FreshFile) -> dict[str, Any]:
    names = ("monitor", "mode", "save_last", "save_top_k", "save_weights_only", "every_n_train_steps")
    settings = {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    return {"score": file.score, "original_filename": Path(file.path).name, type(callback).__name__: settings}


def _client() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingPackageError("WandbLogger", "wandb", error) from error
    return wandb
